/* Encoding objects: instances, what has an import path, and what __reduce_ex__ describes.
 *
 * The order of decision for an instance: its class's kind (plain, namedtuple, enum member), else the
 * reduction that pickle protocol 5 would use, written with the same memo; for some of what refuses to be reduced atoll._crossing.byvalue has a
 * reduction, the rest is not shareable.
 *
 * Any of it may run Python code; the encoder is pinned.
 */
#include "py/codec/internal.h"

/* ---- import paths ---- */

int atoll_write_path(atoll_encoder *enc, PyObject *module, PyObject *name, PyObject *qualname) {
    PyObject *origin = atoll_origin_of(enc->codec, module, name);
    int rc = origin == Py_False ? 0 : -1;
    if (origin != NULL && rc < 0 && atoll_write_tag(enc, T_GLOBAL | ATOLL_MEMO) == 0 &&
        atoll_encode_shared(enc, name) == 0 && atoll_encode_shared(enc, qualname) == 0 &&
        atoll_encode_shared(enc, origin) == 0) {
        rc = 1;
    }
    Py_XDECREF(origin);
    return rc;
}

/* module.qualname: new reference, or NULL with an exception. */
static PyObject *look_up(PyObject *module, PyObject *qualname) {
    if (PyModule_Check(module)) {
        PyObject *dict = PyModule_GetDict(module);
        PyObject *found = dict != NULL ? PyDict_GetItemWithError(dict, qualname) : NULL;
        if (found != NULL || PyErr_Occurred()) {
            return Py_XNewRef(found);
        }
    }
    return atoll_dotted_get(module, qualname);
}

int atoll_try_path(atoll_encoder *enc, PyObject *obj, PyObject *name, PyObject *qualname) {
    if (!PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(qualname) ||
        atoll_is_main_name(enc->codec, name)) {
        return 0;
    }
    /* 3.12 has no C datetime in an interpreter with its own GIL; elsewhere these classes are datetime's. */
    name = PyUnicode_CompareWithASCIIString(name, "_pydatetime") == 0 ? PyUnicode_FromString("datetime")
                                                                      : Py_NewRef(name);
    PyObject *module = name != NULL ? atoll_origin_module(name) : NULL;
    PyObject *found = module != NULL ? look_up(module, qualname) : NULL;
    int rc = 0;
    if (found != NULL && found == obj) {
        rc = atoll_write_path(enc, module, name, qualname);
        if (rc > 0 && atoll_memo_add(enc, obj) < 0) {
            rc = -1;
        }
    } else if (found == NULL && PyErr_Occurred()) {
        rc = atoll_passes_through(enc->codec) ? -1 : 0;
        if (rc == 0) {
            PyErr_Clear();
        }
    }
    Py_XDECREF(found);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return rc;
}

PyObject *atoll_text_attr(atoll_codec *codec, PyObject *obj, int name) {
    PyObject *value = PyObject_GetAttr(obj, codec->names[name]);
    if (value == NULL) {
        if (!atoll_passes_through(codec)) {
            PyErr_Clear();
        }
        return NULL;
    }
    if (!PyUnicode_CheckExact(value)) {
        Py_CLEAR(value);
    }
    return value;
}

int atoll_try_global(atoll_encoder *enc, PyObject *obj) {
    PyObject *module = atoll_text_attr(enc->codec, obj, N_MODULE);
    PyObject *qualname = module != NULL ? atoll_text_attr(enc->codec, obj, N_QUALNAME) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (qualname != NULL) {
        rc = atoll_try_path(enc, obj, module, qualname);
    }
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return rc;
}

/* What a str result of __reduce__ names. */
static int encode_named(atoll_encoder *enc, PyObject *obj, PyObject *qualname) {
    PyObject *module = atoll_text_attr(enc->codec, obj, N_MODULE);
    if (module == NULL && !PyErr_Occurred()) {
        PyObject *byvalue = atoll_codec_byvalue(enc->codec);
        module = byvalue != NULL ? PyObject_CallMethod(byvalue, "which_module", "OO", obj, qualname) : NULL;
    }
    if (module == NULL) {
        return -1;
    }
    int rc = atoll_try_path(enc, obj, module, qualname);
    if (rc == 0) {
        PyObject *byvalue = atoll_codec_byvalue(enc->codec);
        PyObject *value = byvalue != NULL ? PyObject_CallMethod(byvalue, "reduce_named", "(O)", obj) : NULL;
        if (value == NULL || value == Py_None) {
            rc = value == NULL ? -1 : atoll_refuse_type(enc, obj);
        } else {
            rc = atoll_encode_reduction(enc, obj, value);
        }
        Py_XDECREF(value);
    }
    Py_DECREF(module);
    return rc < 0 ? -1 : 0;
}

/* ---- instances ---- */

/* Mostly a class that was named before. */
static int encode_type(atoll_encoder *enc, PyTypeObject *type) {
    int rc = atoll_try_ref(enc, (PyObject *)type);
    return rc != 0 ? (rc < 0 ? -1 : 0) : atoll_encode_shared(enc, (PyObject *)type);
}

static int begin_instance(atoll_encoder *enc, PyObject *obj, uint8_t tag) {
    size_t tag_at = enc->msg->body.len;
    if (atoll_write_tag(enc, tag | ATOLL_MEMO) < 0 || encode_type(enc, Py_TYPE(obj)) < 0) {
        return -1;
    }
    return atoll_memo_add_late(enc, obj, tag_at, T_VALUE_DUP);
}

static int encode_plain(atoll_encoder *enc, PyObject *obj) {
    int rc = begin_instance(enc, obj, T_OBJECT);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        return -1;
    }
    rc = atoll_encode_dict_body(enc, dict, AT_ATTR);
    Py_DECREF(dict);
    return rc;
}

static int encode_plain_slots(atoll_encoder *enc, PyObject *obj) {
    int rc = begin_instance(enc, obj, T_OBJECT_STATE);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    PyObject *state = PyObject_CallMethodNoArgs(obj, enc->codec->names[N_GETSTATE]);
    if (state == NULL) {
        return -1;
    }
    rc = atoll_encode_state(enc, state);
    Py_DECREF(state);
    return rc;
}

static int encode_namedtuple(atoll_encoder *enc, PyObject *obj) {
    size_t tag_at = enc->msg->body.len;
    Py_ssize_t n = PyTuple_GET_SIZE(obj);
    if (atoll_write_tag(enc, T_NAMEDTUPLE | ATOLL_MEMO) < 0 || encode_type(enc, Py_TYPE(obj)) < 0 ||
        atoll_write_count(enc, (uint64_t)n) < 0) {
        return -1;
    }
    enc->top->step = AT_INDEX;
    enc->late++;
    for (Py_ssize_t i = 0; i < n; i++) {
        enc->top->index = i;
        if (atoll_encode_value(enc, PyTuple_GET_ITEM(obj, i)) < 0) {
            return -1;
        }
    }
    enc->late--;
    return atoll_memo_add_late(enc, obj, tag_at, T_NAMEDTUPLE_DUP) < 0 ? -1 : 0;
}

/* A member by its name; 0 when it has none of its own (a combination of flags). */
static int try_enum(atoll_encoder *enc, PyObject *obj) {
    PyObject *name = atoll_text_attr(enc->codec, obj, N_ENUM_NAME);
    PyObject *map =
        name != NULL ? PyObject_GetAttr((PyObject *)Py_TYPE(obj), enc->codec->names[N_MEMBER_MAP]) : NULL;
    PyObject *member = map != NULL && PyDict_Check(map) ? PyDict_GetItemWithError(map, name) : NULL;
    int rc = 0;
    if (member != NULL && member == obj) {
        size_t tag_at = enc->msg->body.len;
        rc = -1;
        if (atoll_write_tag(enc, T_ENUM | ATOLL_MEMO) == 0 && encode_type(enc, Py_TYPE(obj)) == 0 &&
            atoll_encode_shared(enc, name) == 0) {
            rc = atoll_memo_add_late(enc, obj, tag_at, T_ENUM_DUP) < 0 ? -1 : 1;
        }
    } else if (PyErr_Occurred() && atoll_passes_through(enc->codec)) {
        rc = -1;
    } else {
        PyErr_Clear();
    }
    Py_XDECREF(name);
    Py_XDECREF(map);
    return rc;
}

/* ---- reductions ---- */

/* The state of an instance: a dict's pairs are its attributes. */
int atoll_encode_state(atoll_encoder *enc, PyObject *state) {
    if (PyDict_CheckExact(state)) {
        int rc = atoll_try_ref(enc, state);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        if (atoll_memo_add(enc, state) < 0 || atoll_write_tag(enc, T_DICT | ATOLL_MEMO) < 0) {
            return -1;
        }
        return atoll_encode_dict_body(enc, state, AT_ATTR);
    }
    if (PyTuple_CheckExact(state) && PyTuple_GET_SIZE(state) == 2 &&
        atoll_memo_get(enc->memo, state) == ATOLL_NOT_FOUND &&
        PyDict_CheckExact(PyTuple_GET_ITEM(state, 1))) {
        if (atoll_write_tag_count(enc, T_TUPLE, 2) < 0 ||
            atoll_encode_state(enc, PyTuple_GET_ITEM(state, 0)) < 0) {
            return -1;
        }
        return atoll_encode_state(enc, PyTuple_GET_ITEM(state, 1));
    }
    return atoll_encode_shared(enc, state);
}

/* Items are in a tuple while they are sent: a list might be changed by what runs meanwhile, as the garbage collector knows it. */
static int encode_items(atoll_encoder *enc, PyObject *iterator) {
    PyObject *items = PySequence_Tuple(iterator);
    if (items == NULL || atoll_write_count(enc, (uint64_t)PyTuple_GET_SIZE(items)) < 0) {
        Py_XDECREF(items);
        return -1;
    }
    int rc = 0;
    enc->top->step = AT_INDEX;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items) && rc == 0; i++) {
        enc->top->index = i;
        rc = atoll_encode_shared(enc, PyTuple_GET_ITEM(items, i));
    }
    enc->top->step = AT_SELF;
    Py_DECREF(items);
    return rc;
}

static int encode_pairs(atoll_encoder *enc, PyObject *iterator) {
    PyObject *pairs = PySequence_Tuple(iterator);
    if (pairs == NULL || atoll_write_count(enc, (uint64_t)PyTuple_GET_SIZE(pairs)) < 0) {
        Py_XDECREF(pairs);
        return -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs) && rc == 0; i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
            rc = atoll_encoder_refuse(enc, "its __reduce__ gives dict items that are not pairs");
            break;
        }
        enc->top->step = AT_ELEMENT;
        rc = atoll_encode_shared(enc, PyTuple_GET_ITEM(pair, 0));
        enc->top->step = AT_KEY;
        enc->top->key = PyTuple_GET_ITEM(pair, 0);
        if (rc == 0) {
            rc = atoll_encode_shared(enc, PyTuple_GET_ITEM(pair, 1));
        }
        enc->top->key = NULL;
        enc->top->step = AT_SELF;
    }
    Py_DECREF(pairs);
    return rc;
}

static PyObject *part_of(PyObject *value, Py_ssize_t i) {
    PyObject *part = i < PyTuple_GET_SIZE(value) ? PyTuple_GET_ITEM(value, i) : Py_None;
    return part != Py_None ? part : NULL;
}

/* callable and arguments, as T_REDUCE, T_NEWOBJ or T_NEWOBJ_EX. */
static int encode_construction(atoll_encoder *enc, PyObject *obj, PyObject *func, PyObject *args) {
    Py_ssize_t from = 0;
    if (func != enc->codec->newobj && func != enc->codec->newobj_ex && atoll_encode_shared(enc, func) < 0) {
        return -1;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(args) - from;
    if (atoll_write_count(enc, (uint64_t)n) < 0) {
        return -1;
    }
    atoll_frame fr;
    bool exception = PyExceptionInstance_Check(obj);
    atoll_push(enc, &fr, args, exception ? AT_WORD : AT_SELF);
    fr.word = "args";
    int rc = 0;
    atoll_frame at;
    atoll_push(enc, &at, args, exception ? AT_INDEX : AT_SELF);
    enc->late++;
    enc->reducing++;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        at.index = i;
        rc = atoll_encode_value(enc, PyTuple_GET_ITEM(args, from + i));
    }
    enc->reducing--;
    enc->late--;
    atoll_pop(enc, &at);
    atoll_pop(enc, &fr);
    return rc;
}

/* What stands for another object (a proxy, as flask.request is) cannot be made by its own class of what that one has: pickle refuses it,
 * too.  0, or -1 with an exception. */
static int check_class(atoll_encoder *enc, PyObject *obj) {
    if (!atoll_type_has_own_class(enc->codec, Py_TYPE(obj))) {
        return 0;
    }
    PyObject *said = PyObject_GetAttr(obj, enc->codec->names[N_CLASS]);
    int same = said == (PyObject *)Py_TYPE(obj);
    Py_XDECREF(said);
    if (said == NULL && atoll_passes_through(enc->codec)) {
        return -1;
    }
    return same ? 0
                : atoll_refuse_with_cause(
                      enc, "it stands for another object, whose class it says it has: send that");
}

static int encode_reduction(atoll_encoder *enc, PyObject *obj, PyObject *value, uint8_t plain) {
    if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) < 2 || PyTuple_GET_SIZE(value) > 6 ||
        !PyCallable_Check(PyTuple_GET_ITEM(value, 0)) || !PyTuple_Check(PyTuple_GET_ITEM(value, 1))) {
        return atoll_encoder_refuse(enc,
                                    "its __reduce__ gives neither a str nor a tuple of 2 to 6 proper parts");
    }
    PyObject *func = PyTuple_GET_ITEM(value, 0);
    PyObject *args = PyTuple_GET_ITEM(value, 1);
    PyObject *state = part_of(value, 2);
    PyObject *items = part_of(value, 3);
    PyObject *pairs = part_of(value, 4);
    PyObject *setter = part_of(value, 5);
    uint8_t tag = T_REDUCE;
    if (func == enc->codec->newobj && PyTuple_GET_SIZE(args) >= 1) {
        tag = T_NEWOBJ;
    } else if (func == enc->codec->newobj_ex && PyTuple_GET_SIZE(args) == 3) {
        tag = T_NEWOBJ_EX;
    } else if (func == enc->codec->newobj || func == enc->codec->newobj_ex) {
        return atoll_encoder_refuse(enc, "its __reduce__ gives wrong arguments to copyreg");
    }
    if (tag != T_REDUCE && check_class(enc, obj) < 0) {
        return -1;
    }
    int lookup = tag == T_REDUCE && enc->defining != 0 && !enc->outline && !PyType_Check(func) &&
                 plain == 0 && state == NULL && items == NULL && pairs == NULL &&
                 atoll_class_is_of_script(enc, (PyObject *)Py_TYPE(obj));
    lookup = lookup != 0 ? atoll_rank_is_simple(enc, obj) : 0;
    if (lookup < 0) {
        return -1;
    }
    uint8_t flags = (uint8_t)(plain | (lookup != 0 ? R_ELSE : 0) | (state != NULL ? R_STATE : 0) |
                              (items != NULL ? R_LIST : 0) | (pairs != NULL ? R_DICT : 0) |
                              (setter != NULL && state != NULL ? R_SETTER : 0));
    if (atoll_write_tag(enc, tag | ATOLL_MEMO) < 0) {
        return -1;
    }
    size_t flags_at = enc->msg->body.len;
    if (atoll_write_tag(enc, flags) < 0 || encode_construction(enc, obj, func, args) < 0 ||
        (lookup != 0 && encode_type(enc, Py_TYPE(obj)) < 0)) {
        return -1;
    }
    int entered = atoll_memo_add_late(enc, obj, flags_at, (uint8_t)(R_DUP | (flags & R_ELSE)));
    if (entered != 0) {
        return entered < 0 ? -1 : 0;
    }
    if ((items != NULL && encode_items(enc, items) < 0) || (pairs != NULL && encode_pairs(enc, pairs) < 0) ||
        ((flags & R_SETTER) != 0 && atoll_encode_shared(enc, setter) < 0)) {
        return -1;
    }
    if (lookup != 0) {
        PyObject *dict = PyObject_GenericGetDict(obj, NULL);
        int rc = dict != NULL ? atoll_encode_dict_body(enc, dict, AT_ATTR) : -1;
        Py_XDECREF(dict);
        return rc;
    }
    enc->reducing++;
    int rc = state != NULL ? atoll_encode_state(enc, state) : 0;
    enc->reducing--;
    return rc;
}

int atoll_encode_reduction(atoll_encoder *enc, PyObject *obj, PyObject *value) {
    if (!PyExceptionInstance_Check(obj)) {
        return encode_reduction(enc, obj, value, 0);
    }
    bool plain;
    PyObject *own = atoll_exception_reduction(enc, obj, value, &plain);
    int rc = own != NULL ? encode_reduction(enc, obj, own, plain ? R_PLAIN : 0) : -1;
    Py_XDECREF(own);
    return rc;
}

/* What __reduce_ex__ says of obj: new reference, or NULL with an exception. */
static PyObject *reduce(atoll_codec *codec, PyObject *obj) {
    if (atoll_codec_need_copyreg(codec) < 0) {
        return NULL;
    }
    PyObject *by_type = atoll_find_class(codec->dispatch_table, (PyObject *)Py_TYPE(obj));
    if (by_type != NULL) {
        PyObject *value = PyObject_CallOneArg(by_type, obj);
        Py_DECREF(by_type);
        return value;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *protocol = PyLong_FromLong(5);
    PyObject *value =
        protocol != NULL ? PyObject_CallMethodOneArg(obj, codec->names[N_REDUCE_EX], protocol) : NULL;
    Py_XDECREF(protocol);
    return value;
}

int atoll_encode_reduced(atoll_encoder *enc, PyObject *obj) {
    PyObject *value = reduce(enc->codec, obj);
    if (value == NULL) {
        return atoll_passes_through(enc->codec) ? -1 : atoll_encode_fallback(enc, obj);
    }
    int rc = PyUnicode_Check(value) ? encode_named(enc, obj, value) : atoll_encode_reduction(enc, obj, value);
    Py_DECREF(value);
    return rc;
}

/* What the class itself says, in the words of __reduce__(). */
static int encode_own(atoll_encoder *enc, PyObject *obj) {
    PyObject *value = PyObject_CallMethodNoArgs(obj, enc->codec->names[N_INTERP_REDUCE]);
    if (value == NULL) {
        return atoll_passes_through(enc->codec)
                   ? -1
                   : atoll_refuse_with_cause(enc, "its __interp_reduce__() has failed");
    }
    int rc = PyUnicode_Check(value) ? encode_named(enc, obj, value) : atoll_encode_reduction(enc, obj, value);
    Py_DECREF(value);
    return rc;
}

/* What pickle has no good word for; atoll._crossing.byvalue gives a reduction, or None. */
static int encode_special(atoll_encoder *enc, PyObject *obj) {
    PyObject *byvalue = atoll_codec_byvalue(enc->codec);
    PyObject *value = byvalue != NULL ? PyObject_CallMethod(byvalue, "reduce_special", "(O)", obj) : NULL;
    if (value == NULL) {
        return -1;
    }
    int rc = value == Py_None         ? atoll_encode_reduced(enc, obj)
             : PyUnicode_Check(value) ? encode_named(enc, obj, value)
                                      : atoll_encode_reduction(enc, obj, value);
    Py_DECREF(value);
    return rc;
}

/* An exception is set: why obj cannot be reduced. */
int atoll_encode_fallback(atoll_encoder *enc, PyObject *obj) {
    atoll_codec *codec = enc->codec;
    PyObject *why = PyErr_GetRaisedException();
    bool refusal = why == NULL || PyErr_GivenExceptionMatches(why, PyExc_TypeError) ||
                   PyErr_GivenExceptionMatches(why, PyExc_NotImplementedError) ||
                   PyErr_GivenExceptionMatches(why, PyExc_AttributeError) ||
                   strcmp(Py_TYPE(why)->tp_name, "_pickle.PicklingError") == 0;
    PyObject *byvalue = refusal ? atoll_codec_byvalue(codec) : NULL;
    PyObject *value = byvalue != NULL ? PyObject_CallMethod(byvalue, "reduce_refused", "(O)", obj) : NULL;
    if (value != NULL && value != Py_None) {
        Py_XDECREF(why);
        int done = atoll_encode_reduction(enc, obj, value);
        Py_DECREF(value);
        return done;
    }
    Py_XDECREF(value);
    if (PyErr_Occurred() && atoll_passes_through(enc->codec)) {
        Py_XDECREF(why);
        return -1;
    }
    PyErr_SetRaisedException(why);
    return atoll_refuse_type(enc, obj);
}

/* ---- everything that is not a basic type ---- */

static int encode_mutable(atoll_encoder *enc, PyObject *obj) {
    atoll_mark_mutable(enc);
    return atoll_encode_reduced(enc, obj);
}

/* Whether it is where what a module has is the receiver's own (codec/own.c): the value of a name, or what tells whether that has
 * changed; sys.version_info and its like, of which there is one, anywhere. */
static bool may_be_own(const atoll_encoder *enc, PyObject *obj, atoll_kind kind) {
    bool one = PyTuple_Check(obj) && (Py_TYPE(obj)->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0;
    return (kind == KIND_PLAIN || kind == KIND_PLAIN_SLOTS || kind == KIND_REDUCE || kind == KIND_SPECIAL) &&
           (enc->defining != 0 || enc->identities || obj == enc->bound || one);
}

/* An instance that is no reference to what was sent before, of a class that is no builtin type. */
static int encode_by_kind(atoll_encoder *enc, PyObject *obj, atoll_kind kind) {
    int rc = may_be_own(enc, obj, kind) ? atoll_try_own(enc, obj) : 0;
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    size_t at = enc->msg->body.len;
    switch (kind) {
    case KIND_PLAIN:
        atoll_mark_mutable(enc);
        rc = encode_plain(enc, obj);
        return rc == 0 ? atoll_encode_nested(enc, obj, at) : -1;
    case KIND_PLAIN_SLOTS:
        atoll_mark_mutable(enc);
        rc = encode_plain_slots(enc, obj);
        return rc == 0 ? atoll_encode_nested(enc, obj, at) : -1;
    case KIND_NAMEDTUPLE:
        return encode_namedtuple(enc, obj);
    case KIND_CLASS:
        return atoll_encode_class(enc, obj);
    case KIND_REGISTERED:
        return atoll_encode_registered(enc, obj);
    case KIND_OWN:
        atoll_mark_mutable(enc);
        return encode_own(enc, obj);
    case KIND_SPECIAL:
        enc->exempt++;
        rc = encode_special(enc, obj);
        enc->exempt--;
        return rc;
    case KIND_ENUM:
        rc = try_enum(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        return atoll_encode_reduced(enc, obj);
    default:
        if (PyModule_Check(obj)) {
            return atoll_encode_module(enc, obj);
        }
        if (PyCFunction_Check(obj)) {
            return atoll_encode_bound(enc, obj, encode_mutable);
        }
        rc = encode_mutable(enc, obj);
        return rc == 0 ? atoll_encode_nested(enc, obj, at) : -1;
    }
}

int atoll_encode_instance(atoll_encoder *enc, PyObject *obj, const atoll_type_info *info) {
    int rc = atoll_try_ref(enc, obj);
    return rc != 0 ? (rc < 0 ? -1 : 0) : encode_by_kind(enc, obj, info->kind);
}

int atoll_encode_object(atoll_encoder *enc, PyObject *obj) {
    int rc = atoll_try_ref(enc, obj);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyFunction_Type) {
        return atoll_encode_function(enc, obj);
    }
    if (type == &PyType_Type) {
        return atoll_encode_class(enc, obj);
    }
    if (type == &PyModule_Type) {
        return atoll_encode_module(enc, obj);
    }
    if (type == &PyPickleBuffer_Type) {
        return atoll_encode_buffer(enc, obj);
    }
    if (type == &PyCell_Type) {
        return atoll_encode_cell(enc, obj);
    }
    if (type == &PyMethod_Type) {
        return atoll_encode_bound(enc, obj, atoll_encode_method);
    }
    if (type == &PyStaticMethod_Type || type == &PyClassMethod_Type || type == &PyProperty_Type) {
        return atoll_encode_wrapper(enc, obj,
                                    type == &PyStaticMethod_Type  ? W_STATICMETHOD
                                    : type == &PyClassMethod_Type ? W_CLASSMETHOD
                                                                  : W_PROPERTY);
    }
    atoll_type_info *info = atoll_type_info_get(enc, type);
    return info != NULL ? encode_by_kind(enc, obj, info->kind) : -1;
}
