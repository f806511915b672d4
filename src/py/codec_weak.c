/* Weak maps, of two forms: a number to a weak reference, and an address to a tuple that begins with one.  Entries of what is
 * gone stay until the map has doubled.
 *
 * A weak reference made without a callback is the only one of its kind for its object, and never has the address
 * of another that is still held: comparing it says whether an object is the one that was meant.
 */
#include "py/codec_internal.h"

/* New reference, or NULL, with an exception or (the object is gone) without. */
static PyObject *target_of(PyObject *ref) {
    PyObject *obj = PyObject_CallNoArgs(ref);
    if (obj == Py_None) {
        Py_DECREF(obj);
        return NULL;
    }
    return obj;
}

PyObject *atoll_weak_get(PyObject *refs, uint64_t number) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *ref = key != NULL ? PyDict_GetItemWithError(refs, key) : NULL;
    Py_XINCREF(ref);
    Py_XDECREF(key);
    PyObject *obj = ref != NULL ? target_of(ref) : NULL;
    Py_XDECREF(ref);
    return obj;
}

/* Drops the entries of what is gone.  Giving a reference back may run code that changes the map: what is deleted is looked
 * at once more. */
static int sweep(PyObject *map) {
    PyObject *items = PyDict_Items(map);
    if (items == NULL) {
        return -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items) && rc == 0; i++) {
        PyObject *key = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 0);
        PyObject *entry = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 1);
        PyObject *obj = target_of(PyTuple_Check(entry) ? PyTuple_GET_ITEM(entry, 0) : entry);
        if (obj != NULL) {
            Py_DECREF(obj);
        } else if (PyErr_Occurred()) {
            rc = -1;
        } else if (PyDict_GetItemWithError(map, key) == entry) {
            rc = PyDict_DelItem(map, key);
        }
    }
    Py_DECREF(items);
    return rc;
}

int atoll_weak_store(PyObject *map, PyObject *key, PyObject *entry) {
    Py_ssize_t size = PyDict_GET_SIZE(map);
    if (size >= 256 && (size & (size - 1)) == 0 && sweep(map) < 0) {
        return -1;
    }
    return PyDict_SetItem(map, key, entry);
}

int atoll_weak_put(PyObject *refs, uint64_t number, PyObject *obj) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *ref = key != NULL ? PyWeakref_NewRef(obj, NULL) : NULL;
    int rc = ref != NULL ? atoll_weak_store(refs, key, ref) : -1;
    Py_XDECREF(key);
    Py_XDECREF(ref);
    return rc;
}
