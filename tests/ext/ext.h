/* What every extension of the corpus offers besides its own mechanism: state in static variables, by which the
 * tests see whether two interpreters share a copy of the library.
 *
 *   bump()    how often it was called in this copy, this call included
 *   keep(x)   keeps x in a static variable; returns what was kept before, or None
 *   address() where this copy's variables are
 *   owner()   the id of the interpreter that runs this
 *   work(n)   4 * n, found with n look-ups in a dict that a static variable holds: when two interpreters with
 *             a GIL each share that dict, its reference counts and its items break
 */
#ifndef EXT_H
#define EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static long ext_count;
static PyObject *ext_kept;

static PyObject *ext_bump(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(++ext_count);
}

static PyObject *ext_keep(PyObject *Py_UNUSED(self), PyObject *value) {
    PyObject *before = ext_kept;
    Py_INCREF(value);
    ext_kept = value;
    if (before == NULL) {
        Py_RETURN_NONE;
    }
    return before;
}

static PyObject *ext_address(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromVoidPtr((void *)&ext_count);
}

static PyObject *ext_owner(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLongLong(PyInterpreterState_GetID(PyInterpreterState_Get()));
}

static PyObject *ext_work(PyObject *Py_UNUSED(self), PyObject *arg) {
    static PyObject *cache;
    long count = PyLong_AsLong(arg);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (cache == NULL && (cache = PyDict_New()) == NULL) {
        return NULL;
    }
    Py_ssize_t total = 0;
    for (long i = 0; i < count; i++) {
        PyObject *key = PyLong_FromLong(1000 + i % 257);
        if (key == NULL) {
            return NULL;
        }
        PyObject *text = PyDict_GetItemWithError(cache, key);
        if (text == NULL && !PyErr_Occurred()) {
            text = PyObject_Str(key);
            if (text != NULL) {
                int failed = PyDict_SetItem(cache, key, text);
                Py_DECREF(text); /* the dict has it */
                text = failed ? NULL : text;
            }
        }
        Py_DECREF(key);
        if (text == NULL) {
            return NULL;
        }
        total += PyUnicode_GetLength(text);
    }
    return PyLong_FromSsize_t(total);
}

#define EXT_METHODS                                                                                          \
    {"bump", ext_bump, METH_NOARGS, NULL}, {"keep", ext_keep, METH_O, NULL},                                 \
        {"address", ext_address, METH_NOARGS, NULL}, {"owner", ext_owner, METH_NOARGS, NULL}, {              \
        "work", ext_work, METH_O, NULL                                                                       \
    }
#define EXT_METHODS_END {NULL, NULL, 0, NULL}

/* A module without anything else, by single-phase or by multi-phase initialisation. */
#define EXT_SINGLE_PHASE(name)                                                                               \
    static PyMethodDef name##_methods[] = {EXT_METHODS, EXT_METHODS_END};                                    \
    static struct PyModuleDef name##_module = {                                                              \
        PyModuleDef_HEAD_INIT, #name, NULL, -1, name##_methods, NULL, NULL, NULL, NULL};                     \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModule_Create(&name##_module); }

#define EXT_MULTI_PHASE(name, slots)                                                                         \
    static PyMethodDef name##_methods[] = {EXT_METHODS, EXT_METHODS_END};                                    \
    static struct PyModuleDef name##_module = {                                                              \
        PyModuleDef_HEAD_INIT, #name, NULL, 0, name##_methods, slots, NULL, NULL, NULL};                     \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModuleDef_Init(&name##_module); }

#endif
