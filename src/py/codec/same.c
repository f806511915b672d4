/* One object under several names: globals and attributes of classes that are the same list, dict or instance at home are the same over
 * there, whichever of them come first, and in however many messages.
 *
 * A named value that may change has an identity, made of its address and its interpreter.  It says only which values of
 * one moment are one object: an address may come to be another's.  So the version of the value has to be the same, too.  The receiver
 * notes under which name it has bound what (codec->same: identity -> list of version, namespace or class, name, address), and gives what comes under
 * another name the object that is bound there, if it still is that one.  What has come in the message that is being read, and may not be
 * bound yet, it holds (codec->recent: identity -> version, object, thread).
 *
 * Under the GIL.  Both tables can be emptied at any time: then what is one object comes as two, as what has no name does.
 */
#include "py/codec/internal.h"

enum { SAME_KEPT = 4096 };
enum { R_VERSION, R_VALUE, R_THREAD };
enum { S_VERSION, S_IS_CLASS, S_OWNER, S_NAME, S_ADDRESS };

/* What atoll._crossing.classes puts in the place of others is made anew each time. */
static bool is_made_for_this(PyObject *value) {
    if (strcmp(Py_TYPE(value)->tp_name, "_Made") != 0) {
        return false;
    }
    PyObject *dict = PyType_GetDict(Py_TYPE(value));
    PyObject *module = dict != NULL ? PyDict_GetItemString(dict, "__module__") : NULL;
    bool ours = module != NULL && PyUnicode_Check(module) &&
                PyUnicode_CompareWithASCIIString(module, "atoll._crossing.classes") == 0;
    Py_XDECREF(dict);
    return ours;
}

uint64_t atoll_identity_of(const atoll_codec *codec, PyObject *value) {
    return is_made_for_this(value)
               ? 0
               : (uint64_t)(uintptr_t)value ^ ((uint64_t)codec->interp_id * UINT64_C(0x9E3779B97F4A7C15));
}

static bool is_number(PyObject *obj, uint64_t number) {
    bool same = PyLong_AsUnsignedLongLong(obj) == number;
    if (!same) {
        PyErr_Clear();
    }
    return same;
}

/* What is bound where the entry says, and was taken there in this version: new reference, or NULL, maybe with an exception. */
static PyObject *look_up(atoll_codec *codec, PyObject *entry, uint64_t version) {
    uint64_t number = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, S_OWNER));
    PyObject *name = PyTuple_GET_ITEM(entry, S_NAME);
    PyObject *dict = NULL;
    PyObject *seen = NULL;
    if (PyTuple_GET_ITEM(entry, S_IS_CLASS) == Py_True) {
        PyObject *cls = atoll_weak_get(codec->class_refs, number);
        if (cls != NULL && PyType_Check(cls)) {
            dict = PyType_GetDict((PyTypeObject *)cls);
            seen = Py_XNewRef(atoll_class_seen(codec, cls));
        }
        Py_XDECREF(cls);
    } else if (atoll_space_look(codec, number, &dict, &seen) < 0) {
        return NULL;
    }
    PyObject *value = NULL;
    if (dict != NULL && seen != NULL && PyDict_Check(seen) &&
        atoll_taken(seen, name, version) == ATOLL_SAME) {
        value = Py_XNewRef(PyDict_GetItemWithError(dict, name));
    }
    Py_XDECREF(dict);
    Py_XDECREF(seen);
    if (value != NULL && !is_number(PyTuple_GET_ITEM(entry, S_ADDRESS), (uintptr_t)value)) {
        Py_CLEAR(value);
    }
    return value;
}

/* The places of an identity: borrowed, or NULL, maybe with an exception. */
static PyObject *places_of(atoll_codec *codec, PyObject *key) {
    PyObject *places = PyDict_GetItemWithError(codec->same, key);
    if (places != NULL || PyErr_Occurred()) {
        return places;
    }
    if (PyDict_GET_SIZE(codec->same) >= SAME_KEPT) {
        PyDict_Clear(codec->same);
    }
    places = PyList_New(0);
    int rc = places != NULL ? PyDict_SetItem(codec->same, key, places) : -1;
    Py_XDECREF(places);
    return rc == 0 ? places : NULL;
}

/* The object of this identity in this version: new reference, or NULL, maybe with an exception.  Places where it is no more are
 * forgotten. */
static PyObject *find(atoll_codec *codec, PyObject *key, PyObject *places, uint64_t version) {
    PyObject *entry = PyDict_GetItemWithError(codec->recent, key);
    if (entry != NULL && is_number(PyTuple_GET_ITEM(entry, R_VERSION), version) &&
        is_number(PyTuple_GET_ITEM(entry, R_THREAD), PyThread_get_thread_ident())) {
        return Py_NewRef(PyTuple_GET_ITEM(entry, R_VALUE)); /* another thread's may still be empty */
    }
    PyObject *value = NULL;
    for (Py_ssize_t i = PyList_GET_SIZE(places); value == NULL && !PyErr_Occurred() && i-- > 0;) {
        entry = Py_NewRef(PyList_GET_ITEM(places, i));
        if (is_number(PyTuple_GET_ITEM(entry, S_VERSION), version)) {
            value = look_up(codec, entry, version);
        }
        if (value == NULL && !PyErr_Occurred() && PyList_SetSlice(places, i, i + 1, NULL) < 0) {
            PyErr_Clear();
        }
        Py_DECREF(entry);
    }
    return value;
}

/* The value is bound under this name from now on. */
static int note(atoll_codec *codec, PyObject *key, PyObject *places, const atoll_named *named, uint64_t owner,
                bool is_class) {
    PyObject *version = PyLong_FromUnsignedLongLong(named->version);
    PyObject *number = PyLong_FromUnsignedLongLong(owner);
    PyObject *address = PyLong_FromVoidPtr(named->value);
    PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    PyObject *recent = NULL;
    PyObject *entry = NULL;
    int rc = -1;
    if (version != NULL && number != NULL && address != NULL && thread != NULL) {
        recent = PyTuple_Pack(3, version, named->value, thread);
        entry = PyTuple_Pack(5, version, is_class ? Py_True : Py_False, number, named->name, address);
    }
    if (recent != NULL && entry != NULL) {
        rc = PyDict_SetItem(codec->recent, key, recent) < 0 ? -1 : PyList_Append(places, entry);
    }
    Py_XDECREF(entry);
    Py_XDECREF(recent);
    Py_XDECREF(thread);
    Py_XDECREF(address);
    Py_XDECREF(number);
    Py_XDECREF(version);
    return rc;
}

static void replace_in_memo(atoll_decoder *dec, PyObject *old, PyObject *with) {
    for (size_t i = dec->nmemo; dec->pinned && old != with && i-- > 0;) {
        if (dec->memo[i] == old) {
            Py_SETREF(dec->memo[i], Py_NewRef(with));
            return;
        }
    }
}

int atoll_same_value(atoll_decoder *dec, atoll_named *named, uint64_t owner, bool is_class) {
    if (named->identity == 0) {
        return 0;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(named->identity);
    PyObject *places = key != NULL ? Py_XNewRef(places_of(dec->codec, key)) : NULL;
    PyObject *found = places != NULL ? find(dec->codec, key, places, named->version) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (found != NULL && Py_TYPE(found) == Py_TYPE(named->value)) {
        replace_in_memo(dec, named->value, found);
        Py_SETREF(named->value, Py_NewRef(found));
    }
    rc = rc == 0 ? note(dec->codec, key, places, named, owner, is_class) : -1;
    Py_XDECREF(found);
    Py_XDECREF(places);
    Py_XDECREF(key);
    return rc;
}

int atoll_keep_bound(atoll_decoder *dec, PyObject *dict, const atoll_named *named) {
    PyObject *bound =
        named->identity != 0 && dict != NULL ? PyDict_GetItemWithError(dict, named->name) : NULL;
    if (bound != NULL && Py_TYPE(bound) == Py_TYPE(named->value)) {
        replace_in_memo(dec, named->value, bound);
    }
    return PyErr_Occurred() ? -1 : 0;
}
