/* Decoding objects: the counterpart of codec/encode_object.c.
 *
 * Any of it may run Python code (imports, constructors, __setstate__); the decoder is pinned, so that values can be
 * dropped at any time.
 */
#include "py/codec/internal.h"

static PyObject *remembered(atoll_decoder *dec, PyObject *obj) {
    if (obj != NULL && atoll_remember(dec, obj) < 0) {
        Py_DECREF(obj);
        return NULL;
    }
    return obj;
}

/* Drops `mine` in favour of the copy whose index follows. */
static PyObject *replaced(atoll_decoder *dec, PyObject *mine) {
    if (mine == NULL) {
        return NULL;
    }
    Py_DECREF(mine);
    Py_ssize_t index = atoll_read_count(dec, 0);
    if (index < 0 || (size_t)index >= dec->nmemo) {
        return atoll_malformed("a reference to what was not sent");
    }
    return Py_NewRef(dec->memo[index]);
}

/* ---- import paths ---- */

static PyObject *decode_text(atoll_decoder *dec) {
    PyObject *text = atoll_decode_value(dec);
    if (text != NULL && !PyUnicode_CheckExact(text)) {
        Py_DECREF(text);
        return atoll_malformed("a name that is not a str");
    }
    return text;
}

static PyObject *decode_origin(atoll_decoder *dec) {
    PyObject *origin = atoll_decode_value(dec);
    if (origin != NULL && origin != Py_None && !PyUnicode_CheckExact(origin)) {
        Py_DECREF(origin);
        return atoll_malformed("a file name that is not a str");
    }
    return origin;
}

/* module.qualname; a module that does not have it yet may be one that is being imported. */
static PyObject *find_global(PyObject *module, PyObject *qualname) {
    if (PyModule_Check(module)) {
        PyObject *found = PyDict_GetItemWithError(PyModule_GetDict(module), qualname);
        if (found != NULL || PyErr_Occurred()) {
            return Py_XNewRef(found);
        }
    }
    return atoll_dotted_get(module, qualname);
}

static PyObject *decode_path(atoll_decoder *dec) {
    PyObject *qualname = NULL;
    PyObject *origin = NULL;
    PyObject *obj = NULL;
    PyObject *name = decode_text(dec);
    if (name != NULL && (qualname = decode_text(dec)) != NULL && (origin = decode_origin(dec)) != NULL) {
        PyObject *module = atoll_import_module(dec->codec, name, origin);
        obj = module != NULL ? find_global(module, qualname) : NULL;
        Py_XDECREF(module);
    }
    Py_XDECREF(name);
    Py_XDECREF(qualname);
    Py_XDECREF(origin);
    return remembered(dec, obj);
}

/* ---- instances ---- */

static PyTypeObject *decode_type(atoll_decoder *dec) {
    PyObject *type = atoll_decode_value(dec);
    if (type != NULL && !PyType_Check(type)) {
        Py_DECREF(type);
        return (PyTypeObject *)atoll_malformed("an instance of what is not a class");
    }
    return (PyTypeObject *)type;
}

static PyObject *new_instance(atoll_decoder *dec, PyTypeObject *type) {
    bool plain = type->tp_new == PyBaseObject_Type.tp_new || atoll_is_being_made(dec->codec, type);
    if (plain && (type->tp_flags & Py_TPFLAGS_IS_ABSTRACT) == 0) {
        return atoll_object_new(type);
    }
    PyObject *obj = PyObject_CallMethodOneArg((PyObject *)type, dec->codec->names[N_NEW], (PyObject *)type);
    return obj != NULL ? obj : atoll_object_without_new(dec->codec, type);
}

/* obj.__dict__.update(state), its names interned. */
static int update_dict(atoll_decoder *dec, PyObject *obj, PyObject *state) {
    PyObject *dict = PyObject_GetAttr(obj, dec->codec->names[N_DICT]);
    if (dict == NULL) {
        return -1;
    }
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(state, &pos, &key, &value)) {
        Py_INCREF(key);
        if (PyUnicode_CheckExact(key)) {
            PyUnicode_InternInPlace(&key);
        }
        Py_INCREF(value);
        rc = PyObject_SetItem(dict, key, value);
        Py_DECREF(value);
        Py_DECREF(key);
    }
    Py_DECREF(dict);
    return rc;
}

/* Each item of a dict, one after the other.  0, or -1 with an exception. */
static int set_attributes(PyObject *obj, PyObject *state,
                          int (*set)(PyObject *obj, PyObject *key, PyObject *value)) {
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(state, &pos, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        rc = set(obj, key, value);
        Py_DECREF(value);
        Py_DECREF(key);
    }
    return rc;
}

/* pickle's default for a state that no __setstate__ takes.  Pinned. */
static int apply_default_state(atoll_decoder *dec, PyObject *obj, PyObject *state) {
    PyObject *slots = NULL;
    if (PyTuple_CheckExact(state) && PyTuple_GET_SIZE(state) == 2) {
        slots = PyTuple_GET_ITEM(state, 1);
        state = PyTuple_GET_ITEM(state, 0);
    }
    if ((state != Py_None && !PyDict_Check(state)) ||
        (slots != NULL && slots != Py_None && !PyDict_Check(slots))) {
        atoll_malformed("a state that is not a dict");
        return -1;
    }
    if (state != Py_None && PyDict_GET_SIZE(state) != 0 && update_dict(dec, obj, state) < 0) {
        return -1;
    }
    return slots != NULL && slots != Py_None ? set_attributes(obj, slots, PyObject_SetAttr) : 0;
}

static int apply_state(atoll_decoder *dec, PyObject *obj, PyObject *setter, PyObject *state) {
    PyObject *done = NULL;
    if (setter != NULL) {
        done = PyObject_CallFunctionObjArgs(setter, obj, state, NULL);
    } else {
        PyObject *setstate = PyObject_GetAttr(obj, dec->codec->names[N_SETSTATE]);
        if (setstate == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
                return -1;
            }
            PyErr_Clear();
            return apply_default_state(dec, obj, state);
        }
        done = PyObject_CallOneArg(setstate, state);
        for (int i = 0; done == NULL && i < ATOLL_STAND_INS && atoll_stand_in(dec->codec); i++) {
            done = PyObject_CallOneArg(setstate, state);
        }
        Py_DECREF(setstate);
    }
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Of an exception, none of whose class's code runs: with its slots, or without. */
static int apply_plain_state(PyObject *obj, PyObject *state) {
    PyObject *slots = NULL;
    if (PyTuple_CheckExact(state) && PyTuple_GET_SIZE(state) == 2) {
        slots = PyTuple_GET_ITEM(state, 1);
        state = PyTuple_GET_ITEM(state, 0);
    }
    if ((slots != NULL && !PyDict_CheckExact(slots)) || (state != Py_None && !PyDict_Check(state))) {
        atoll_malformed("attributes that are not a dict");
        return -1;
    }
    if (state != Py_None && set_attributes(obj, state, atoll_exception_set) < 0) {
        return -1;
    }
    return slots != NULL ? set_attributes(obj, slots, PyObject_GenericSetAttr) : 0;
}

static PyObject *decode_plain(atoll_decoder *dec) {
    PyTypeObject *type = decode_type(dec);
    PyObject *obj = type != NULL ? new_instance(dec, type) : NULL;
    Py_XDECREF(type); /* obj holds it */
    obj = remembered(dec, obj);
    if (obj == NULL) {
        return NULL;
    }
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL || !PyDict_CheckExact(dict) || atoll_decode_dict_body(dec, dict, true) < 0) {
        if (!PyErr_Occurred()) {
            atoll_malformed("attributes for what has none");
        }
        Py_XDECREF(dict);
        Py_DECREF(obj);
        return NULL;
    }
    Py_DECREF(dict);
    return obj;
}

static PyObject *decode_with_state(atoll_decoder *dec) {
    PyTypeObject *type = decode_type(dec);
    PyObject *obj = type != NULL ? new_instance(dec, type) : NULL;
    Py_XDECREF(type);
    obj = remembered(dec, obj);
    PyObject *state = obj != NULL ? atoll_decode_value(dec) : NULL;
    int rc = state == NULL ? -1 : state == Py_None ? 0 : apply_default_state(dec, obj, state);
    Py_XDECREF(state);
    if (rc < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

static PyObject *decode_namedtuple(atoll_decoder *dec, uint8_t tag) {
    PyTypeObject *type = decode_type(dec);
    Py_ssize_t n = type != NULL ? atoll_read_count(dec, 1) : -1;
    PyObject *items = n >= 0 ? atoll_tuple_begin(n) : NULL;
    PyObject *obj = NULL;
    for (Py_ssize_t i = 0; items != NULL && i < n; i++) {
        PyObject *item = atoll_decode_value(dec);
        if (item == NULL) {
            Py_CLEAR(items);
            break;
        }
        PyTuple_SET_ITEM(items, i, item);
    }
    atoll_tuple_end(items);
    if (items != NULL && !atoll_is_plain_tuple_class(dec->codec, type)) {
        atoll_malformed("a tuple of a class that is no named tuple");
    } else if (items != NULL) {
        /* tuple.__new__, as namedtuple's own: no Python code. */
        PyObject *args = PyTuple_Pack(1, items);
        obj = args != NULL ? PyTuple_Type.tp_new(type, args, NULL) : NULL;
        Py_XDECREF(args);
    }
    Py_XDECREF(items);
    Py_XDECREF(type);
    return tag == T_NAMEDTUPLE_DUP ? replaced(dec, obj) : remembered(dec, obj);
}

static PyObject *decode_enum(atoll_decoder *dec, uint8_t tag) {
    PyTypeObject *type = decode_type(dec);
    PyObject *name = type != NULL ? decode_text(dec) : NULL;
    PyObject *map = name != NULL ? PyObject_GetAttr((PyObject *)type, dec->codec->names[N_MEMBER_MAP]) : NULL;
    PyObject *obj = map != NULL ? PyObject_GetItem(map, name) : NULL;
    Py_XDECREF(type);
    Py_XDECREF(name);
    Py_XDECREF(map);
    return tag == T_ENUM_DUP ? replaced(dec, obj) : remembered(dec, obj);
}

/* ---- reductions (codec/construct.c has the calls) ---- */

/* As pickle does: extend() where there is one (what it raises is an error), else append() for each. */
static int extend(atoll_codec *codec, PyObject *obj, PyObject *items) {
    PyObject *done = NULL;
    PyObject *method = PyObject_GetAttr(obj, codec->names[N_EXTEND]);
    if (method != NULL) {
        done = PyObject_CallOneArg(method, items);
        Py_DECREF(method);
        Py_XDECREF(done);
        return done != NULL ? 0 : -1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    method = PyObject_GetAttr(obj, codec->names[N_APPEND]);
    int rc = method != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(items); i++) {
        done = PyObject_CallOneArg(method, PyList_GET_ITEM(items, i));
        rc = done != NULL ? 0 : -1;
        Py_XDECREF(done);
    }
    Py_XDECREF(method);
    return rc;
}

static int decode_items(atoll_decoder *dec, PyObject *obj) {
    Py_ssize_t n = atoll_read_count(dec, 1);
    if (n < 0) {
        return -1;
    }
    PyObject *items = PyList_New(0);
    for (Py_ssize_t i = 0; i < n && items != NULL; i++) {
        PyObject *item = atoll_decode_value(dec);
        if (item == NULL || PyList_Append(items, item) < 0) {
            Py_CLEAR(items);
        }
        Py_XDECREF(item);
    }
    if (items == NULL) {
        return -1;
    }
    if (n == 0) { /* as pickle does: what there is nothing to put into need not be able to take anything */
        Py_DECREF(items);
        return 0;
    }
    int rc = PyList_CheckExact(obj) ? PyList_SetSlice(obj, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, items)
                                    : extend(dec->codec, obj, items);
    Py_DECREF(items);
    return rc;
}

static int decode_pairs(atoll_decoder *dec, PyObject *obj) {
    Py_ssize_t n = atoll_read_count(dec, 2);
    int rc = n < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        PyObject *key = atoll_decode_value(dec);
        PyObject *value = key != NULL ? atoll_decode_value(dec) : NULL;
        rc = value != NULL ? PyObject_SetItem(obj, key, value) : -1;
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return rc;
}

static PyObject *decode_construction(atoll_decoder *dec, uint8_t tag, PyObject **func) {
    if (tag == T_REDUCE && (*func = atoll_decode_value(dec)) == NULL) {
        return NULL;
    }
    Py_ssize_t n = atoll_read_count(dec, 1);
    PyObject *args = n >= 0 ? atoll_tuple_begin(n) : NULL;
    for (Py_ssize_t i = 0; args != NULL && i < n; i++) {
        PyObject *arg = atoll_decode_value(dec);
        if (arg == NULL) {
            Py_CLEAR(args);
            break;
        }
        PyTuple_SET_ITEM(args, i, arg);
    }
    atoll_tuple_end(args);
    return args;
}

/* What a call finds, or, where it finds nothing here, an instance of the class that comes next.  New reference, or NULL with an exception. */
static PyObject *look_up_or_make(atoll_decoder *dec, uint8_t tag, PyObject *func, PyObject *args,
                                 bool *made) {
    PyTypeObject *type = decode_type(dec);
    PyObject *obj = type != NULL ? atoll_construct(dec, tag, func, args, false) : NULL;
    if (type != NULL && obj == NULL &&
        (PyErr_ExceptionMatches(PyExc_LookupError) || PyErr_ExceptionMatches(PyExc_AttributeError) ||
         PyErr_ExceptionMatches(PyExc_NameError))) {
        PyErr_Clear();
        *made = true;
    } else if (obj == Py_None && (PyObject *)type != (PyObject *)Py_TYPE(Py_None)) {
        Py_CLEAR(obj);
        *made = true;
    }
    if (*made) {
        obj = atoll_object_new(type);
    }
    Py_XDECREF(type);
    return obj;
}

/* obj (stolen) has the attributes that come, if it is to have them.  New reference, or NULL with an exception. */
static PyObject *with_attributes(atoll_decoder *dec, PyObject *obj, bool wanted) {
    PyObject *dict = wanted ? PyObject_GenericGetDict(obj, NULL) : PyDict_New();
    if (dict == NULL || !PyDict_CheckExact(dict) || atoll_decode_dict_body(dec, dict, true) < 0) {
        Py_CLEAR(obj);
    }
    Py_XDECREF(dict);
    return obj;
}

static PyObject *decode_reduction(atoll_decoder *dec, uint8_t tag) {
    uint8_t flags = atoll_get_u8(&dec->rd);
    PyObject *func = NULL;
    PyObject *args = decode_construction(dec, tag, &func);
    PyObject *obj = NULL;
    bool made_else = false;
    if (args != NULL && (flags & R_DUP) != 0) {
        Py_XDECREF(func);
        PyTypeObject *type = (flags & R_ELSE) != 0 ? decode_type(dec) : NULL;
        Py_XDECREF(type);
        return replaced(dec, args);
    }
    if (args != NULL) {
        obj = (flags & R_ELSE) != 0 ? look_up_or_make(dec, tag, func, args, &made_else)
                                    : atoll_construct(dec, tag, func, args, (flags & R_PLAIN) != 0);
    }
    Py_XDECREF(args);
    Py_XDECREF(func);
    obj = remembered(dec, obj);
    if (obj == NULL || (flags & R_ELSE) != 0) {
        return obj != NULL ? with_attributes(dec, obj, made_else) : NULL;
    }
    PyObject *setter = NULL;
    PyObject *state = NULL;
    int rc = 0;
    if ((flags & R_LIST) != 0) {
        rc = decode_items(dec, obj);
    }
    if (rc == 0 && (flags & R_DICT) != 0) {
        rc = decode_pairs(dec, obj);
    }
    if (rc == 0 && (flags & R_SETTER) != 0) {
        rc = (setter = atoll_decode_value(dec)) != NULL ? 0 : -1;
    }
    if (rc == 0 && (flags & R_STATE) != 0) {
        state = atoll_decode_value(dec);
        rc = state == NULL            ? -1
             : (flags & R_PLAIN) != 0 ? apply_plain_state(obj, state)
                                      : apply_state(dec, obj, setter, state);
    }
    Py_XDECREF(setter);
    Py_XDECREF(state);
    if (rc < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* Of a static or class method: its function, its attributes (or None). */
static PyObject *make_wrapper(uint8_t kind, PyObject *func, PyObject *attributes) {
    PyObject *obj = kind == W_STATICMETHOD ? PyStaticMethod_New(func) : PyClassMethod_New(func);
    if (attributes == Py_None) {
        return obj;
    }
    if (!PyDict_CheckExact(attributes)) {
        atoll_malformed("attributes that are not a dict");
        Py_CLEAR(obj);
    }
    if (obj != NULL && PyObject_GenericSetDict(obj, attributes, NULL) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

static PyObject *decode_wrapper(atoll_decoder *dec) {
    uint8_t first = atoll_get_u8(&dec->rd);
    uint8_t kind = first & (uint8_t)~W_DUP;
    if (dec->rd.failed || kind >= W_COUNT) {
        return atoll_malformed("an unknown kind of method");
    }
    PyObject *part[4] = {NULL};
    int n = kind == W_PROPERTY ? 4 : 2;
    PyObject *obj = NULL;
    for (int i = 0; i < n; i++) {
        if ((part[i] = atoll_decode_value(dec)) == NULL) {
            goto done;
        }
    }
    obj = kind != W_PROPERTY ? make_wrapper(kind, part[0], part[1])
                             : PyObject_CallFunctionObjArgs((PyObject *)&PyProperty_Type, part[0], part[1],
                                                            part[2], part[3], NULL);
done:
    for (int i = 0; i < n; i++) {
        Py_XDECREF(part[i]);
    }
    return (first & W_DUP) != 0 ? replaced(dec, obj) : remembered(dec, obj);
}

static PyObject *decode_cell(atoll_decoder *dec) {
    PyObject *cell = remembered(dec, PyCell_New(NULL));
    if (cell == NULL) {
        return NULL;
    }
    if (dec->rd.at != dec->rd.end && *dec->rd.at == T_EMPTY) {
        dec->rd.at++;
        return cell;
    }
    PyObject *contents = atoll_decode_value(dec);
    if (contents == NULL) {
        Py_DECREF(cell);
        return NULL;
    }
    PyCell_SET(cell, contents);
    return cell;
}

static PyObject *decode_cell_later(atoll_decoder *dec) {
    uint8_t rank = atoll_get_u8(&dec->rd);
    if (dec->rd.failed || rank >= ATOLL_RANKS || dec->pending == NULL) {
        return atoll_malformed("a variable that never comes");
    }
    PyObject *cell = remembered(dec, PyCell_New(NULL));
    if (cell != NULL && atoll_pending_contents(dec, (atoll_rank)rank, cell) < 0) {
        Py_CLEAR(cell);
    }
    return cell;
}

static PyObject *decode_code(atoll_decoder *dec) {
    Py_ssize_t n = atoll_read_count(dec, 1);
    const uint8_t *at = n >= 0 ? atoll_get_bytes(&dec->rd, (size_t)n) : NULL;
    uint64_t seal = at != NULL ? atoll_get_u64(&dec->rd) : 0;
    if (at == NULL || dec->rd.failed) {
        return atoll_malformed("code goes past the end");
    }
    if (seal != atoll_code_seal(at, (size_t)n)) {
        return atoll_malformed("code that was tampered with");
    }
    PyObject *code = PyMarshal_ReadObjectFromString((const char *)at, n);
    if (code != NULL && !PyCode_Check(code)) {
        Py_DECREF(code);
        return atoll_malformed("code that is not code");
    }
    return remembered(dec, code);
}

PyObject *atoll_decode_object(atoll_decoder *dec, uint8_t tag) {
    tag &= (uint8_t)~ATOLL_MEMO;
    switch (tag) {
    case T_HOOK:
        return remembered(dec, atoll_decode_hooked(dec));
    case T_BUFFER:
        return remembered(dec, atoll_decode_buffer(dec));
    case T_CODE:
        return decode_code(dec);
    case T_MODULE:
        return atoll_decode_module(dec);
    case T_NAMESPACE:
        return atoll_decode_namespace(dec);
    case T_GLOBAL:
        return decode_path(dec);
    case T_OBJECT:
        return decode_plain(dec);
    case T_OBJECT_STATE:
        return decode_with_state(dec);
    case T_NAMEDTUPLE:
    case T_NAMEDTUPLE_DUP:
        return decode_namedtuple(dec, tag);
    case T_VALUE_DUP:
        return replaced(dec, atoll_decode_value(dec));
    case T_ENUM:
    case T_ENUM_DUP:
        return decode_enum(dec, tag);
    case T_REDUCE:
    case T_NEWOBJ:
    case T_NEWOBJ_EX:
        return decode_reduction(dec, tag);
    case T_FUNCTION:
        return atoll_decode_function(dec, tag);
    case T_CELL:
        return decode_cell(dec);
    case T_CELL_LATER:
        return decode_cell_later(dec);
    case T_FILLED_LATER:
        return atoll_decode_empty(dec);
    case T_FILLED_NOW:
        return atoll_decode_filled(dec);
    case T_CLASS:
    case T_CLASS_NUMBER:
        return atoll_decode_class(dec, tag);
    case T_WRAPPER:
        return decode_wrapper(dec);
    case T_SAME:
        return atoll_decode_nested(dec);
    default:
        return atoll_malformed("an unknown tag");
    }
}
