/* Every way to be told of the end: Py_AtExit(), C's atexit(), a destructor.  Each writes its name and the number of
 * this copy's calls of bump() to a file descriptor, which it can only when the copy is still there. */
#include "ext.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int told = -1;

static void tell(const char *what) {
    char line[100];
    int length = snprintf(line, sizeof(line), "%s %ld\n", what, ext_count);
    if (told >= 0 && write(told, line, (size_t)length) != length) {
        _exit(99);
    }
}

static void first(void) { tell("Py_AtExit first"); }
static void second(void) { tell("Py_AtExit second"); }
static void third(void) { tell("Py_AtExit third"); }
static void by_atexit(void) { tell("atexit"); }
static useconds_t lasting; /* of the destructor */
__attribute__((destructor)) static void destroy(void) {
    if (lasting != 0) {
        tell("destructor begins");
        usleep(lasting);
    }
    tell("destructor");
}

/* tell(fd, c_atexit): registers all of them. */
static PyObject *start(PyObject *Py_UNUSED(self), PyObject *args) {
    int c_atexit;
    if (!PyArg_ParseTuple(args, "ip", &told, &c_atexit)) {
        return NULL;
    }
    if (Py_AtExit(first) != 0 || Py_AtExit(second) != 0 || Py_AtExit(third) != 0 ||
        (c_atexit && atexit(by_atexit) != 0)) {
        return PyErr_Format(PyExc_RuntimeError, "no room for a function");
    }
    Py_RETURN_NONE;
}

/* last(milliseconds): so long does the destructor take. */
static PyObject *last(PyObject *Py_UNUSED(self), PyObject *arg) {
    lasting = (useconds_t)PyLong_AsLong(arg) * 1000;
    Py_RETURN_NONE;
}

/* fill(n): registers n more; how many were taken. */
static void nothing(void) {}
static PyObject *fill(PyObject *Py_UNUSED(self), PyObject *arg) {
    long taken = 0;
    for (long i = PyLong_AsLong(arg); i > 0; i--) {
        taken += Py_AtExit(nothing) == 0;
    }
    return PyLong_FromLong(taken);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"tell", start, METH_VARARGS, NULL},
                                {"last", last, METH_O, NULL},
                                {"fill", fill, METH_O, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_exit", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_exit(void) { return PyModule_Create(&module); }
