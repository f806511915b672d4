/* Objects that have a name, where they occur without it: as an argument or result, in a list, in another object.
 *
 *   T_SAME
 *   u8     bit 0: it belongs to globals or to a class; bit 1: it is found by a path
 *   u64    its state, a hash of what it encodes to; of what is found by its identity in globals or a class, its version (codec/version.c)
 *   u64    its identity (codec/same.c), or, by a path, twice a length (u8) and UTF-8: a module, and a name in it
 *   value  the object
 *
 * `x is MISSING` is so in an interpreter where it is so at home, and the other way round.  The receiver takes the object that it has under
 * the name, or one that came in something with a name, and drops the copy:
 *
 *   for an argument, result, or item of a queue   where that one has the very state that was sent: an argument has the state that it
 *                                                 has at home, whatever the receiver has done to its own
 *   in a global or an attribute of a class        where that one came in this version: what it has become in the receiver
 *                                                 since then stays
 *
 * So a change of the sender's object, or that another has the name now, makes another version, and nothing is the same.  At its home
 * an object has no version: there, its state decides.
 *
 * Which objects have a name is known when code that uses the name was sent, or came (codec/same.c).  What is nothing but itself, an
 * instance of object or of a class that gives it no attributes, is looked for when it is sent: in __main__, in its class's module, and
 * an instance of object in all modules.  In a module that is found by its name, the object is the one that the receiver's own module
 * has under the name; so it is for a global that was imported from there.
 *
 * What is in the object comes with it, and later parts of the message may refer to that: they get what is in the one that is here.  What came
 * before it and is in it, too, has been given out already: then the object is a copy, so that one call's arguments are to each
 * other what they were at home.
 *
 * Only instances have it, and only when they are small: the state of a large one would have to be compared.  For what has no name this
 * costs a look at a filter.
 */
#include "py/codec/internal.h"

enum { SMALL = 4096, NAME_MAX_SIZE = 255 };
enum { DEFINING = 1, BY_PATH = 2 };

/* ---- who has a name ---- */

/* Whether there is nothing in it. */
static bool is_bare(const atoll_codec *codec, PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyBaseObject_Type) {
        return true;
    }
    if (!atoll_type_has_only(type, 0) || !atoll_is_made_by_code(codec, type)) {
        return false;
    }
    if (!atoll_type_has_dict(type)) {
        return true;
    }
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    bool empty = dict != NULL && PyDict_CheckExact(dict) && PyDict_GET_SIZE(dict) == 0;
    PyErr_Clear();
    Py_XDECREF(dict);
    return empty;
}

/* Notes the bare ones of a class among the values of a module's dict.  0, or -1 with an exception. */
static int search(atoll_codec *codec, const PyTypeObject *type, PyObject *module, PyObject *name) {
    PyObject *dict = PyModule_GetDict(module); /* borrowed */
    PyObject *values = NULL;
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(dict, &pos, &key, &value)) {
        if (Py_TYPE(value) == type && PyUnicode_CheckExact(key) && is_bare(codec, value)) {
            values = values != NULL ? values : PyDict_New();
            rc = values != NULL ? PyDict_SetItem(values, key, value) : -1;
        }
    }
    int path = rc == 0 && values != NULL && !atoll_is_main_name(codec, name)
                   ? atoll_origin_is_found(codec, module, name)
                   : 0;
    if (rc < 0 || path < 0 || values == NULL) {
        Py_XDECREF(values);
        return rc < 0 || path < 0 ? -1 : 0;
    }
    pos = 0;
    while (path > 0 && rc == 0 && PyDict_Next(values, &pos, &key, &value)) { /* nobody else has it */
        rc = atoll_same_name(codec, PLACE_MODULE, name, key, value);
    }
    if (path == 0) {
        rc = atoll_same_names(codec, PLACE_SPACE, atoll_space_of(codec, dict), values);
    }
    Py_DECREF(values);
    return rc;
}

static int search_named(atoll_codec *codec, const PyTypeObject *type, PyObject *name) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = PyDict_CheckExact(modules) && PyUnicode_CheckExact(name)
                           ? Py_XNewRef(PyDict_GetItemWithError(modules, name))
                           : NULL;
    int rc = PyErr_Occurred()                           ? -1
             : module != NULL && PyModule_Check(module) ? search(codec, type, module, name)
                                                        : 0;
    Py_XDECREF(module);
    return rc;
}

/* Another number when a module comes or goes, or has another number of names than before. */
static uint64_t stamp_of(PyObject *modules) {
    uint64_t stamp = 0;
    Py_ssize_t pos = 0;
    PyObject *module;
    while (PyDict_Next(modules, &pos, NULL, &module)) {
        if (PyModule_Check(module)) {
            stamp += (uint64_t)PyDict_GET_SIZE(PyModule_GetDict(module)) +
                     atoll_memo_hash(module) * UINT64_C(0x9E3779B97F4A7C15);
        }
    }
    return stamp;
}

/* For instances of object, in all modules: 1 when these were searched, 0 when they are what they were, or -1 with an exception.  known: a
 * name of it is known already. */
static int search_all(atoll_codec *codec, bool known) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (!PyDict_CheckExact(modules)) {
        return 0;
    }
    Py_ssize_t count = PyDict_GET_SIZE(modules);
    if (count == codec->searched && (known || stamp_of(modules) == codec->searched_stamp)) {
        return 0;
    }
    codec->searched = count;
    codec->searched_stamp = stamp_of(modules);
    PyObject *names = PyDict_Keys(modules);
    int rc = names != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(names); i++) {
        rc = search_named(codec, &PyBaseObject_Type, PyList_GET_ITEM(names, i));
    }
    Py_XDECREF(names);
    return rc < 0 ? -1 : 1;
}

/* Looks for the names of a bare object; of one of which no name is known, for the first of its class in each message.  1 when something was
 * searched, 0, or -1 with an exception. */
static int search_for(atoll_encoder *enc, PyObject *obj, bool known) {
    atoll_codec *codec = enc->codec;
    PyTypeObject *type = Py_TYPE(obj);
    if (!known) {
        enc->searched = type;
        if (search_named(codec, type, codec->names[N_MAIN]) < 0) {
            return -1;
        }
    }
    if (type == &PyBaseObject_Type) {
        int rc = search_all(codec, known);
        return rc == 0 ? !known : rc;
    }
    PyObject *dict = PyType_GetDict(type);
    PyObject *name = dict != NULL ? PyDict_GetItemWithError(dict, codec->names[N_MODULE]) : NULL;
    bool elsewhere = name != NULL && !atoll_is_main_name(codec, name);
    int rc = elsewhere ? search_named(codec, type, name) : 0;
    Py_XDECREF(dict);
    return rc < 0 || PyErr_Occurred() ? -1 : elsewhere || !known;
}

/* As atoll_same_lookup(), of what may be bare as well. */
static int find_name(atoll_encoder *enc, PyObject *obj, uint64_t *identity, PyObject **module,
                     PyObject **name) {
    atoll_codec *codec = enc->codec;
    /* What has nothing in it ends with a count of nothing, or None. */
    bool maybe_bare = enc->msg->body.data[enc->msg->body.len - 1] == 0 || Py_IS_TYPE(obj, &PyBaseObject_Type);
    *module = *name = NULL;
    int rc = atoll_may_have_name(codec, obj) ? atoll_same_lookup(codec, obj, identity, module, name) : 0;
    if (rc < 0 || *module != NULL || !maybe_bare || enc->searched == Py_TYPE(obj) || !is_bare(codec, obj)) {
        return rc;
    }
    int searched = search_for(enc, obj, rc > 0);
    if (searched > 0) {
        rc = atoll_may_have_name(codec, obj) ? atoll_same_lookup(codec, obj, identity, module, name) : 0;
    }
    return searched < 0 ? -1 : rc;
}

/* ---- sending ---- */

/* Room for n bytes in front of what was written from `at` on; NULL with an exception. */
static uint8_t *insert(atoll_encoder *enc, size_t at, size_t n) {
    size_t size = enc->msg->body.len - at;
    if (atoll_reserve(enc, n) == NULL) {
        return NULL;
    }
    uint8_t *from = enc->msg->body.data + at;
    memmove(from + n, from, size);
    enc->msg->body.len += n;
    atoll_written_moved(enc, at, n);
    return from;
}

static int put_prefix(atoll_encoder *enc, size_t at, uint64_t state, uint64_t identity, PyObject *module,
                      PyObject *name) {
    uint8_t prefix[2 + 8 + 2 * (1 + NAME_MAX_SIZE)];
    bool path = module != NULL;
    prefix[0] = T_SAME;
    prefix[1] = (uint8_t)((enc->defining != 0 ? DEFINING : 0) | (path ? BY_PATH : 0));
    atoll_store_u64(prefix + 2, state);
    size_t n = 10;
    PyObject *const parts[] = {module, name};
    for (int i = 0; path && i < 2; i++) {
        Py_ssize_t length;
        const char *text = PyUnicode_AsUTF8AndSize(parts[i], &length);
        if (text == NULL || length > NAME_MAX_SIZE) {
            PyErr_Clear(); /* then it is a copy */
            return 0;
        }
        prefix[n] = (uint8_t)length;
        memcpy(prefix + n + 1, text, (size_t)length);
        n += 1 + (size_t)length;
    }
    if (!path) {
        atoll_store_u64(prefix + n, identity);
        n += 8;
    }
    uint8_t *to = insert(enc, at, n);
    if (to != NULL) {
        memcpy(to, prefix, n);
    }
    return to != NULL ? 0 : -1;
}

int atoll_encode_nested(atoll_encoder *enc, PyObject *obj, size_t at) {
    if (enc->outline) {
        uint64_t which = enc->identities ? atoll_named_identity(enc->codec, obj) : 0;
        return which != 0 ? atoll_write_u64(enc, which) : 0;
    }
    if (enc->msg->body.len - at > SMALL) {
        return 0;
    }
    uint64_t identity;
    uint64_t state;
    PyObject *module;
    PyObject *name;
    int rc = find_name(enc, obj, &identity, &module, &name);
    if (rc <= 0 || (obj == enc->named && module == NULL)) {
        return rc < 0 ? -1 : 0; /* of the value of a name it is said anyway (codec/version.c) */
    }
    bool version = enc->defining != 0 && module == NULL;
    rc =
        version ? atoll_version_of(enc->codec, obj, &state) : atoll_version_of_state(enc->codec, obj, &state);
    if (rc < 0 && !atoll_error_is_urgent()) {
        PyErr_Clear();
        rc = 1;
    }
    rc = rc == 0 ? put_prefix(enc, at, state, identity, module, name) : rc < 0 ? -1 : 0;
    Py_XDECREF(module);
    Py_XDECREF(name);
    return rc;
}

/* ---- receiving ---- */

static PyObject *get_text(atoll_decoder *dec) {
    size_t length = atoll_get_u8(&dec->rd);
    const uint8_t *at = atoll_get_bytes(&dec->rd, length);
    return at != NULL ? PyUnicode_DecodeUTF8((const char *)at, (Py_ssize_t)length, NULL)
                      : atoll_malformed("a name goes past the end");
}

/* ---- what is in them ---- */

/* Objects that are in an object of this state, in an order that two such objects have: a new list, or NULL, maybe with an exception. */
static PyObject *shape_of(atoll_codec *codec, PyObject *obj, atoll_message *outline) {
    PyObject *met = atoll_encode_shape(codec, outline, obj);
    if (met == NULL && !atoll_error_is_urgent()) {
        PyErr_Clear();
    }
    return met;
}

static bool is_in_memo(const atoll_decoder *dec, size_t before, const PyObject *obj) {
    for (size_t i = 0; i < before; i++) {
        if (dec->memo[i] == obj) {
            return true;
        }
    }
    return false;
}

/* What has come, and is no more in use, gives way: mine[i] to theirs[i].  But where something of it was there before (it is in what has been
 * read), nothing does, and it is false. */
static bool exchange(atoll_decoder *dec, size_t from, bool outside, PyObject *mine, PyObject *theirs) {
    for (Py_ssize_t i = 0; outside && i < PyList_GET_SIZE(mine); i++) {
        PyObject *one = PyList_GET_ITEM(mine, i);
        if (one != PyList_GET_ITEM(theirs, i) && atoll_is_own_object(one) && is_in_memo(dec, from, one)) {
            return false;
        }
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(mine); i++) {
        atoll_replace_in_memo(dec, from, PyList_GET_ITEM(mine, i), PyList_GET_ITEM(theirs, i));
    }
    return true;
}

/* Whether something else than obj was read from `from` on that others may refer to. */
static bool has_parts(const atoll_decoder *dec, size_t from, const PyObject *obj) {
    for (size_t i = from; i < dec->nmemo && dec->rd.at != dec->rd.end; i++) {
        if (dec->memo[i] != obj && atoll_is_own_object(dec->memo[i])) {
            return true;
        }
    }
    return false;
}

/* obj came, with memo indices from `from` on; found is what it is here.  outside: it refers to what came before.  1 when found takes its
 * place, 0 when it cannot, or -1 with an exception. */
static int take_place(atoll_decoder *dec, size_t from, bool outside, PyObject *obj, PyObject *found) {
    int rc = 1;
    if (outside || has_parts(dec, from, obj)) {
        atoll_message one = {0};
        atoll_message other = {0};
        PyObject *mine = shape_of(dec->codec, obj, &one);
        PyObject *theirs = mine != NULL ? shape_of(dec->codec, found, &other) : NULL;
        if (theirs != NULL && PyList_GET_SIZE(mine) == PyList_GET_SIZE(theirs) &&
            one.body.len == other.body.len && memcmp(one.body.data, other.body.data, one.body.len) == 0) {
            rc = exchange(dec, from, outside, mine, theirs);
        } else if (outside) {
            rc = 0; /* what came before is not whole yet: in a cycle through it */
        }
        Py_XDECREF(mine);
        Py_XDECREF(theirs);
        atoll_message_clear(&one);
        atoll_message_clear(&other);
    }
    if (rc > 0) {
        atoll_replace_in_memo(dec, from, obj, found);
    }
    return PyErr_Occurred() ? -1 : rc;
}

/* What comes next: new reference, or NULL with an exception; and whether it refers to what came before. */
static PyObject *decode_copy(atoll_decoder *dec, size_t *from, bool *outside) {
    size_t lowest = dec->lowest;
    *from = dec->nmemo;
    dec->lowest = SIZE_MAX;
    PyObject *obj = atoll_decode_value(dec);
    *outside = dec->lowest < *from;
    dec->lowest = lowest < dec->lowest ? lowest : dec->lowest;
    return obj;
}

static PyObject *decode_by_path(atoll_decoder *dec, uint64_t state) {
    size_t from;
    bool outside;
    PyObject *module = get_text(dec);
    PyObject *name = module != NULL ? get_text(dec) : NULL;
    PyObject *obj = name != NULL ? decode_copy(dec, &from, &outside) : NULL;
    PyObject *found = obj != NULL ? atoll_same_by_path(dec->codec, module, name, state, obj) : NULL;
    if (found != NULL && found != obj) {
        int taken = take_place(dec, from, outside, obj, found);
        if (taken <= 0) {
            Py_SETREF(found, taken == 0 ? Py_NewRef(obj) : NULL);
        }
    }
    Py_XDECREF(obj);
    Py_XDECREF(name);
    Py_XDECREF(module);
    return found;
}

PyObject *atoll_decode_nested(atoll_decoder *dec) {
    uint8_t flags = atoll_get_u8(&dec->rd);
    uint64_t state = atoll_get_u64(&dec->rd);
    if (dec->rd.failed) {
        return atoll_malformed("it ends too early");
    }
    if ((flags & BY_PATH) != 0) {
        return decode_by_path(dec, state);
    }
    uint64_t identity = atoll_get_u64(&dec->rd);
    if (dec->rd.failed) {
        return atoll_malformed("it ends too early");
    }
    bool defining = (flags & DEFINING) != 0;
    size_t from;
    bool outside;
    PyObject *obj = decode_copy(dec, &from, &outside);
    PyObject *found = obj != NULL ? atoll_same_nested(dec, identity, state, defining, obj) : NULL;
    if (found != NULL && found != obj) {
        int taken = take_place(dec, from, outside && !defining, obj, found);
        if (taken == 0) {
            Py_SETREF(found, Py_NewRef(obj));
            taken = atoll_same_hold(dec->codec, identity, 0, obj);
        }
        if (taken < 0) {
            Py_CLEAR(found);
        }
    }
    Py_XDECREF(obj);
    return found;
}
