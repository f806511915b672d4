/* Classes whose users say how their instances cross: atoll.register_shareable(cls, encode, decode).
 *
 * A registration belongs to an interpreter, as copyreg's do, and is for exactly that class.  An instance is written as a call of
 * `arrive` with the class, both functions and what encode() has given; so nothing need be known of it where it arrives.  There, arrive
 * registers the class in the same way, so that instances can go on from there and back, unless code there has
 * registered it itself, and calls decode().
 *
 * Functions of C (module/capi_register.c) are not sent: they are others in each interpreter, where the class's module, which is imported with it, has
 * registered it.
 *
 * What has arrived of a class that code has made is in that class's own namespace, and goes with it; all else is in a table.  Both are looked at
 * when a class is classified (codec/state.c); what was known of classes is forgotten when they change.
 */
#include "py/codec/internal.h"

static void forget_types(atoll_codec *codec) { memset(codec->types, 0, sizeof codec->types); }

/* Types that the encoder writes without asking what class they are of. */
static bool is_native(const atoll_codec *codec, const PyTypeObject *type) {
    const PyTypeObject *const types[] = {
        &PyBaseObject_Type, Py_TYPE(Py_None),     &PyBool_Type,         Py_TYPE(Py_Ellipsis),
        &PyLong_Type,       &PyFloat_Type,        &PyComplex_Type,      Py_TYPE(Py_NotImplemented),
        &PyUnicode_Type,    &PyBytes_Type,        &PyByteArray_Type,    &PyTuple_Type,
        &PyList_Type,       &PyDict_Type,         &PySet_Type,          &PyFrozenSet_Type,
        &PyRange_Type,      &PySlice_Type,        &PyCode_Type,         &PyFunction_Type,
        &PyType_Type,       &PyModule_Type,       &PyPickleBuffer_Type, &PyCell_Type,
        &PyMethod_Type,     &PyStaticMethod_Type, &PyClassMethod_Type,  &PyProperty_Type,
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (type == types[i]) {
            return true;
        }
    }
    return atoll_hook_of(codec, type) != NULL;
}

/* What stands for the class in what is sent: itself, or None for one of C that has no path to be found by, as those of generators: new
 * reference, or NULL with an exception. */
static PyObject *what_stands_for(atoll_codec *codec, PyObject *cls) {
    if (atoll_is_made_by_code(codec, (PyTypeObject *)cls)) {
        return Py_NewRef(cls);
    }
    atoll_message probe = {0};
    int rc = atoll_encode_whole(codec, &probe, cls, "cls");
    atoll_message_clear(&probe);
    if (rc < 0) {
        if (!PyErr_ExceptionMatches(codec->not_shareable)) {
            return NULL;
        }
        PyErr_Clear();
    }
    return Py_NewRef(rc < 0 ? Py_None : cls);
}

void atoll_codec_set_arrive(atoll_codec *codec, PyObject *arrive) {
    Py_XSETREF(codec->arrive, Py_NewRef(arrive));
}

/* What a registration is, as a tuple. */
enum { R_ENCODE_CALL, R_DECODE_CALL, R_ARRIVED, R_CLASS, R_IS_C, R_PARTS };

/* Whether it has its registration itself, once that has arrived. */
static bool has_own(const atoll_codec *codec, PyObject *cls) {
    return PyType_Check(cls) && atoll_is_made_by_code(codec, (PyTypeObject *)cls);
}

/* What has arrived with a class: new reference, or NULL, maybe with an exception. */
static PyObject *find_own(atoll_codec *codec, PyObject *cls) {
    PyObject *dict = has_own(codec, cls) ? PyType_GetDict((PyTypeObject *)cls) : NULL;
    PyObject *entry =
        dict != NULL ? Py_XNewRef(PyDict_GetItemWithError(dict, codec->names[N_REGISTERED])) : NULL;
    Py_XDECREF(dict);
    if (entry != NULL && (!PyTuple_CheckExact(entry) || PyTuple_GET_SIZE(entry) != R_PARTS ||
                          PyTuple_GET_ITEM(entry, R_CLASS) != cls)) {
        Py_CLEAR(entry); /* somebody has copied the namespace of another */
    }
    return entry;
}

static PyObject *find_in_table(atoll_codec *codec, PyObject *cls) {
    return PyDict_GET_SIZE(codec->registered) != 0 ? atoll_find_class(codec->registered, cls) : NULL;
}

/* How a class is registered: new reference, or NULL, maybe with an exception. */
static PyObject *find(atoll_codec *codec, PyObject *cls) {
    PyObject *entry = find_in_table(codec, cls);
    return entry != NULL || PyErr_Occurred() ? entry : find_own(codec, cls);
}

/* entry: NULL to take it away.  0, or -1 with an exception. */
static int set_own(atoll_codec *codec, PyObject *cls, PyObject *entry) {
    return PyType_Type.tp_setattro(cls, codec->names[N_REGISTERED], entry);
}

static int drop_own(atoll_codec *codec, PyObject *cls) {
    PyObject *own = find_own(codec, cls);
    int rc = own != NULL ? set_own(codec, cls, NULL) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(own);
    return rc;
}

static int add(atoll_codec *codec, PyObject *cls, PyObject *encode, PyObject *decode, bool arrived,
               bool is_c) {
    if (is_native(codec, (PyTypeObject *)cls)) {
        PyErr_Format(PyExc_TypeError, "%R crosses as it is, and no other way can be registered for it", cls);
        return -1;
    }
    PyObject *known = find(codec, cls);
    if (known == NULL && PyErr_Occurred()) {
        return -1;
    }
    bool stays = known != NULL && arrived &&
                 (PyTuple_GET_ITEM(known, R_ARRIVED) == Py_False ||
                  (PyTuple_GET_ITEM(known, R_ENCODE_CALL) == encode &&
                   PyTuple_GET_ITEM(known, R_DECODE_CALL) == decode));
    Py_XDECREF(known);
    if (stays) {
        return 0;
    }
    PyObject *sent = is_c ? Py_NewRef(cls) : what_stands_for(codec, cls);
    PyObject *entry = sent != NULL ? PyTuple_Pack(R_PARTS, encode, decode, arrived ? Py_True : Py_False, sent,
                                                  is_c ? Py_True : Py_False)
                                   : NULL;
    Py_XDECREF(sent);
    bool own = arrived && has_own(codec, cls);
    int rc = entry == NULL ? -1 : own ? set_own(codec, cls, entry) : drop_own(codec, cls);
    rc = rc == 0 && !own ? PyDict_SetItem(codec->registered, cls, entry) : rc;
    Py_XDECREF(entry);
    forget_types(codec);
    return rc;
}

int atoll_codec_register(atoll_codec *codec, PyObject *cls, PyObject *encode, PyObject *decode,
                         bool arrived) {
    return add(codec, cls, encode, decode, arrived, false);
}

int atoll_codec_register_native(atoll_codec *codec, PyObject *cls, PyObject *encode, PyObject *decode) {
    return add(codec, cls, encode, decode, false, true);
}

PyObject *atoll_codec_decode_of(atoll_codec *codec, PyObject *cls) {
    PyObject *entry = find(codec, cls);
    if (entry == NULL && !PyErr_Occurred()) {
        PyErr_Format(
            PyExc_TypeError,
            "%R is not registered in this interpreter: its module has to do that when it is imported", cls);
    }
    PyObject *decode = entry != NULL ? Py_NewRef(PyTuple_GET_ITEM(entry, R_DECODE_CALL)) : NULL;
    Py_XDECREF(entry);
    return decode;
}

int atoll_codec_unregister(atoll_codec *codec, PyObject *cls) {
    PyObject *known = find(codec, cls);
    if (known == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "%R is not registered", cls);
        }
        return -1;
    }
    forget_types(codec);
    PyObject *there = find_in_table(codec, cls);
    int rc = there != NULL ? PyDict_DelItem(codec->registered, cls) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(there);
    Py_DECREF(known);
    return rc == 0 ? drop_own(codec, cls) : -1;
}

int atoll_is_registered(atoll_codec *codec, PyTypeObject *type) {
    PyObject *entry = find(codec, (PyObject *)type);
    Py_XDECREF(entry);
    return entry != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* What the user's encode() gives: new reference, or NULL with an exception that says whose it is. */
static PyObject *ask(atoll_encoder *enc, PyObject *encode, PyObject *obj) {
    PyObject *value = PyObject_CallOneArg(encode, obj);
    if (value == NULL && !atoll_passes_through(enc->codec)) {
        (void)atoll_refuse_with_cause(enc, "the encode() that its class is registered with has failed");
    } else if (value == obj) {
        Py_CLEAR(value);
        (void)atoll_encoder_refuse(
            enc, "the encode() that its class is registered with returns the object itself");
    }
    return value;
}

static int put(atoll_encoder *enc, PyObject *obj, PyObject *entry, PyObject *value) {
    bool is_c = PyTuple_GET_ITEM(entry, R_IS_C) == Py_True;
    const struct {
        const char *word;
        PyObject *part;
    } parts[] = {
        {"__class__", PyTuple_GET_ITEM(entry, R_CLASS)},
        {"encode", is_c ? Py_None : PyTuple_GET_ITEM(entry, R_ENCODE_CALL)},
        {"decode", is_c ? Py_None : PyTuple_GET_ITEM(entry, R_DECODE_CALL)},
        {"encode()", value},
    };
    enum { PARTS = sizeof parts / sizeof *parts };
    if (atoll_write_tag(enc, T_REDUCE | ATOLL_MEMO) < 0) {
        return -1;
    }
    size_t flags_at = enc->msg->body.len;
    if (atoll_write_tag(enc, 0) < 0 || atoll_encode_shared(enc, enc->codec->arrive) < 0 ||
        atoll_write_count(enc, PARTS) < 0) {
        return -1;
    }
    enc->late++;
    for (size_t i = 0; i < PARTS; i++) {
        if (atoll_encode_part(enc, obj, parts[i].word, parts[i].part) < 0) {
            return -1;
        }
    }
    enc->late--;
    /* In a cycle through it: that copy is the one. */
    return atoll_memo_add_late(enc, obj, flags_at, R_DUP) < 0 ? -1 : 0;
}

int atoll_encode_registered(atoll_encoder *enc, PyObject *obj) {
    PyObject *entry = find(enc->codec, (PyObject *)Py_TYPE(obj));
    if (entry == NULL) { /* code that was called meanwhile has taken it away */
        return PyErr_Occurred() ? -1 : atoll_encode_reduced(enc, obj);
    }
    atoll_mark_mutable(enc);
    PyObject *value = ask(enc, PyTuple_GET_ITEM(entry, R_ENCODE_CALL), obj);
    int rc = value != NULL ? put(enc, obj, entry, value) : -1;
    Py_XDECREF(value);
    Py_DECREF(entry);
    return rc;
}
