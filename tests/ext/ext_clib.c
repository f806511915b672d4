/* What the C library keeps when it is given it, from memory of this library: the environment's strings, streams'
 * buffers, threads and keys by C's own names; and what it says about where this library is. */
#define _GNU_SOURCE
#include "ext.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

static char variable[] = "EXT_CLIB=literal";
static char buffer[BUFSIZ];
static tss_t key;
static volatile int stop;

static void destroy(void *value) { ext_count += *(int *)value; }

static int run(void *arg) {
    static int value = 40;
    if (tss_set(key, &value) != thrd_success) {
        return -1;
    }
    return *(int *)arg + 1;
}

static int wait(void *arg) {
    while (!stop) {
        usleep(1000);
    }
    return *(int *)arg;
}

/* give(path): gives the C library all of them, and leaves text in the buffer of a stream that writes there. */
static PyObject *give(PyObject *Py_UNUSED(self), PyObject *arg) {
    const char *path = PyUnicode_AsUTF8(arg);
    FILE *stream = path != NULL ? fopen(path, "w") : NULL;
    if (stream == NULL || setvbuf(stream, buffer, _IOFBF, sizeof buffer) != 0 || fputs("text", stream) < 0 ||
        putenv(variable) != 0) {
        return PyErr_Format(PyExc_OSError, "it cannot be given");
    }
    Py_RETURN_NONE;
}

/* thread(): what a thread returns, and what its key's destructor left in the count. */
static PyObject *thread(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    static int start = 1;
    thrd_t made;
    int result = 0;
    if (tss_create(&key, destroy) != thrd_success || thrd_create(&made, run, &start) != thrd_success ||
        thrd_join(made, &result) != thrd_success) {
        return PyErr_Format(PyExc_OSError, "no thread");
    }
    return Py_BuildValue("il", result, ext_count);
}

/* begin(): a thread that does not end. */
static PyObject *begin(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    static int start = 1;
    thrd_t made;
    if (thrd_create(&made, wait, &start) != thrd_success) {
        return PyErr_Format(PyExc_OSError, "no thread");
    }
    thrd_detach(made);
    Py_RETURN_NONE;
}

static void wait_for_python(void *arg) {
    if (wait(arg) != 1) {
        abort();
    }
}

/* begin_python(): such a thread, by way of CPython. */
static PyObject *begin_python(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    static int start = 1;
    if (PyThread_start_new_thread(wait_for_python, &start) == PYTHREAD_INVALID_THREAD_ID) {
        return PyErr_Format(PyExc_OSError, "no thread");
    }
    Py_RETURN_NONE;
}

static PyObject *path(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    Dl_info info;
    if (dladdr((void *)&ext_count, &info) == 0) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeFSDefault(info.dli_fname);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"give", give, METH_O, NULL},
                                {"thread", thread, METH_NOARGS, NULL},
                                {"begin", begin, METH_NOARGS, NULL},
                                {"begin_python", begin_python, METH_NOARGS, NULL},
                                {"path", path, METH_NOARGS, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_clib", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_clib(void) { return PyModule_Create(&module); }
