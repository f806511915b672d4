/* Weak maps: what is known of an object, under a number or its address, until the object is gone.
 *
 * An entry is a tuple that begins with a weak reference to the object.  The reference's callback takes the entry out when
 * the object dies, and with it whatever else the tuple holds: nothing outlives what it belongs to.  The callback knows the
 * map and the key; so map and entries are a cycle, which whoever owns a map breaks by emptying it (atoll_weak_clear).
 */
#include "py/codec/internal.h"

/* self: (map, key).  Runs while the object dies, perhaps in a collection: keys are ints and strs, comparing runs no code. */
static PyObject *forget(PyObject *self, PyObject *ref) {
    PyObject *map = PyTuple_GET_ITEM(self, 0);
    PyObject *key = PyTuple_GET_ITEM(self, 1);
    PyObject *entry = PyDict_GetItemWithError(map, key);
    if (entry != NULL && PyTuple_GET_ITEM(entry, 0) == ref) {
        if (PyDict_DelItem(map, key) < 0) {
            return NULL;
        }
    } else if (entry == NULL && PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef forget_def = {"forget", forget, METH_O, NULL};

/* A weak reference to obj that takes map[key] out with it. */
static PyObject *new_reference(PyObject *map, PyObject *key, PyObject *obj) {
    PyObject *place = PyTuple_Pack(2, map, key);
    PyObject *callback = place != NULL ? PyCFunction_New(&forget_def, place) : NULL;
    PyObject *ref = callback != NULL ? PyWeakref_NewRef(obj, callback) : NULL;
    Py_XDECREF(place);
    Py_XDECREF(callback);
    return ref;
}

int atoll_weak_store(PyObject *map, PyObject *key, PyObject *obj, PyObject *const *more, Py_ssize_t n) {
    PyObject *ref = new_reference(map, key, obj);
    PyObject *entry = ref != NULL ? PyTuple_New(n + 1) : NULL;
    if (entry == NULL) {
        Py_XDECREF(ref);
        return -1;
    }
    PyTuple_SET_ITEM(entry, 0, ref);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyTuple_SET_ITEM(entry, i + 1, Py_NewRef(more[i]));
    }
    int rc = PyDict_SetItem(map, key, entry);
    Py_DECREF(entry);
    return rc;
}

void atoll_weak_drop(PyObject *map, PyObject *key) {
    PyObject *exc = PyErr_GetRaisedException();
    if (key == NULL || PyDict_DelItem(map, key) < 0) {
        PyErr_Clear(); /* it was not there */
    }
    PyErr_SetRaisedException(exc);
}

/* The key under which a map has obj: a new reference, or NULL.  For who has no memory for the key. */
static PyObject *key_of(PyObject *map, PyObject *obj) {
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *entry;
    while (PyDict_Next(map, &pos, &key, &entry)) {
        PyObject *there = NULL;
        bool found = atoll_weakref_target(PyTuple_GET_ITEM(entry, 0), &there) > 0 && there == obj;
        Py_INCREF(key); /* `there` may be the last reference to something */
        Py_XDECREF(there);
        if (found) {
            return key;
        }
        Py_DECREF(key);
    }
    return NULL;
}

/* key: of the map's, stolen, or NULL. */
static void forget_in(PyObject *map, PyObject *key, PyObject *obj) {
    PyErr_Clear();
    key = key != NULL ? key : key_of(map, obj);
    atoll_weak_drop(map, key);
    Py_XDECREF(key);
}

void atoll_weak_forget(PyObject *by_number, uint64_t number, PyObject *by_address, PyObject *obj) {
    PyObject *exc = PyErr_GetRaisedException();
    forget_in(by_number, PyLong_FromUnsignedLongLong(number), obj);
    forget_in(by_address, PyLong_FromVoidPtr(obj), obj);
    PyErr_SetRaisedException(exc);
}

PyObject *atoll_weak_entry(PyObject *map, PyObject *key, PyObject *obj) {
    PyObject *entry = PyDict_GetItemWithError(map, key);
    PyObject *there = NULL;
    if (entry == NULL || atoll_weakref_target(PyTuple_GET_ITEM(entry, 0), &there) < 0) {
        return NULL;
    }
    Py_XDECREF(there); /* obj, if it is the one: the caller has that */
    return there == obj ? entry : NULL;
}

PyObject *atoll_weak_get(PyObject *map, uint64_t number) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *entry = key != NULL ? PyDict_GetItemWithError(map, key) : NULL;
    Py_XDECREF(key);
    PyObject *obj = NULL;
    if (entry != NULL && atoll_weakref_target(PyTuple_GET_ITEM(entry, 0), &obj) < 0) {
        return NULL;
    }
    return obj;
}

int atoll_weak_put(PyObject *map, uint64_t number, PyObject *obj) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    int rc = key != NULL ? atoll_weak_store(map, key, obj, NULL, 0) : -1;
    Py_XDECREF(key);
    return rc;
}

void atoll_weak_clear(PyObject *map) {
    if (map != NULL) {
        PyDict_Clear(map);
    }
}
