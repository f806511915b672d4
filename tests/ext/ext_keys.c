/* pthread keys with destructors: they run when a thread ends, which may be after this copy is gone. */
#include "ext.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static pthread_key_t key;
static int have_key;
static atomic_long destroyed;

static void destroy(void *value) {
    free(value);
    atomic_fetch_add(&destroyed, 1);
}

static int need_key(void) {
    int failed = have_key ? 0 : pthread_key_create(&key, destroy);
    if (failed) {
        PyErr_Format(PyExc_OSError, "pthread_key_create: %d", failed);
        return -1;
    }
    have_key = 1;
    return 0;
}

/* set(n): this thread's value.  get(): it, or None. */
static PyObject *set(PyObject *Py_UNUSED(self), PyObject *arg) {
    if (need_key() < 0) {
        return NULL;
    }
    long *value = (long *)pthread_getspecific(key);
    if (value == NULL) {
        value = (long *)malloc(sizeof(*value));
        if (value == NULL || pthread_setspecific(key, value) != 0) {
            free(value);
            return PyErr_NoMemory();
        }
    }
    *value = PyLong_AsLong(arg);
    Py_RETURN_NONE;
}

static PyObject *get(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    long *value = have_key ? (long *)pthread_getspecific(key) : NULL;
    if (value == NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(*value);
}

static PyObject *get_destroyed(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(atomic_load(&destroyed));
}

/* more(n): makes n keys that are never deleted; a process has 1,024. */
static PyObject *more(PyObject *Py_UNUSED(self), PyObject *arg) {
    for (long i = PyLong_AsLong(arg); i > 0; i--) {
        pthread_key_t unused;
        int failed = pthread_key_create(&unused, destroy);
        if (failed) {
            return PyErr_Format(PyExc_OSError, "pthread_key_create: %d", failed);
        }
    }
    Py_RETURN_NONE;
}

/* create_and_delete(n): each time; the key must be usable again and again. */
static PyObject *create_and_delete(PyObject *Py_UNUSED(self), PyObject *arg) {
    for (long i = PyLong_AsLong(arg); i > 0; i--) {
        pthread_key_t made;
        int failed = pthread_key_create(&made, destroy);
        if (failed == 0) {
            failed = pthread_setspecific(made, NULL);
            failed = pthread_key_delete(made) | failed;
        }
        if (failed) {
            return PyErr_Format(PyExc_OSError, "error %d", failed);
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"set", set, METH_O, NULL},
                                {"get", get, METH_NOARGS, NULL},
                                {"destroyed", get_destroyed, METH_NOARGS, NULL},
                                {"more", more, METH_O, NULL},
                                {"create_and_delete", create_and_delete, METH_O, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_keys", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_keys(void) { return PyModule_Create(&module); }
