/* Python's keys for thread-specific data (PyThread_tss_create()), which nobody gives back who is unloaded. */
#define _GNU_SOURCE
#include "ext.h"
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#define MOST 64

static Py_tss_t own = Py_tss_NEEDS_INIT;
static Py_tss_t keys[MOST]; /* zero: needs no init, as above */
static long made;
static int told = -1;

/* set(n): this thread's value.  get(): it, or 0. */
static PyObject *set(PyObject *Py_UNUSED(self), PyObject *arg) {
    if (PyThread_tss_create(&own) != 0 || PyThread_tss_create(&own) != 0 || !PyThread_tss_is_created(&own) ||
        PyThread_tss_set(&own, (void *)PyLong_AsLong(arg)) != 0) {
        return PyErr_Format(PyExc_OSError, "no key");
    }
    Py_RETURN_NONE;
}

static PyObject *get(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(PyThread_tss_is_created(&own) ? (long)PyThread_tss_get(&own) : 0);
}

/* more(n): makes n keys, at most 64 in all, that this library never deletes. */
static PyObject *more(PyObject *Py_UNUSED(self), PyObject *arg) {
    for (long i = PyLong_AsLong(arg); i > 0 && made < MOST; i--) {
        if (PyThread_tss_create(&keys[made]) != 0) {
            return PyErr_Format(PyExc_OSError, "no key after %ld", made);
        }
        made++;
    }
    return PyLong_FromLong(made);
}

/* create_and_delete(n): each time, in both ways. */
static PyObject *create_and_delete(PyObject *Py_UNUSED(self), PyObject *arg) {
    for (long i = PyLong_AsLong(arg); i > 0; i--) {
        Py_tss_t *allocated = PyThread_tss_alloc();
        Py_tss_t local = Py_tss_NEEDS_INIT;
        if (allocated == NULL || PyThread_tss_create(allocated) != 0 || PyThread_tss_create(&local) != 0) {
            return PyErr_Format(PyExc_OSError, "no key");
        }
        PyThread_tss_free(allocated);
        PyThread_tss_delete(&local);
        if (PyThread_tss_is_created(&local)) {
            return PyErr_Format(PyExc_AssertionError, "still created");
        }
    }
    Py_RETURN_NONE;
}

/* tell(fd): the destructor will delete the keys, as one of C++ may, and write there whether the keys that somebody else
 * has made by then are left: '+' or '-'. */
static PyObject *tell(PyObject *Py_UNUSED(self), PyObject *arg) {
    told = (int)PyLong_AsLong(arg);
    Py_RETURN_NONE;
}

__attribute__((destructor)) static void destroy(void) {
    pthread_key_t others[MOST];
    int good = 1;
    if (told < 0) {
        return;
    }
    /* The system's function, not the one that is this interpreter's. */
    int (*create)(pthread_key_t *, void (*)(void *)) =
        (int (*)(pthread_key_t *, void (*)(void *)))dlsym(RTLD_DEFAULT, "__pthread_key_create");
    int (*delete_key)(pthread_key_t) = (int (*)(pthread_key_t))dlsym(RTLD_DEFAULT, "pthread_key_delete");
    for (long i = 0; i < made; i++) {
        good &= create(&others[i], NULL) == 0;
    }
    for (long i = 0; i < made; i++) {
        PyThread_tss_delete(&keys[i]);
        good &= !PyThread_tss_is_created(&keys[i]);
    }
    for (long i = 0; i < made; i++) {
        good &= pthread_setspecific(others[i], NULL) == 0;
        delete_key(others[i]);
    }
    if (write(told, good ? "+" : "-", 1) != 1) {
        _exit(97);
    }
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"set", set, METH_O, NULL},
                                {"get", get, METH_NOARGS, NULL},
                                {"more", more, METH_O, NULL},
                                {"create_and_delete", create_and_delete, METH_O, NULL},
                                {"tell", tell, METH_O, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_tss", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_tss(void) { return PyModule_Create(&module); }
