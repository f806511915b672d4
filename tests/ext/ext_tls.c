/* Thread-local variables.  Built twice: in the usual way as ext_tls, and as ext_tls_initial with the initial-exec model, which
 * takes some of the little room that the process has for that (32 bytes a copy). */
#include "ext.h"

static __thread long number = 42; /* with an initial value, which is part of the file */
static __thread long zero;
static __thread PyObject *name;

/* next(): this copy's number of this thread. */
static PyObject *next(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    zero++;
    number++;
    if (number != zero + 42) {
        return PyErr_Format(PyExc_RuntimeError, "%ld and %ld do not fit", number, zero);
    }
    return PyLong_FromLong(number);
}

/* put(x): keeps it for this thread; what was kept before, or None. */
static PyObject *put(PyObject *Py_UNUSED(self), PyObject *value) {
    PyObject *before = name;
    name = Py_NewRef(value);
    return before == NULL ? Py_NewRef(Py_None) : before;
}

static PyMethodDef methods[] = {
    EXT_METHODS, {"next", next, METH_NOARGS, NULL}, {"put", put, METH_O, NULL}, EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_tls", NULL, -1, methods, NULL, NULL, NULL, NULL};

#ifdef INITIAL
PyMODINIT_FUNC PyInit_ext_tls_initial(void) { return PyModule_Create(&module); }
#else
PyMODINIT_FUNC PyInit_ext_tls(void) { return PyModule_Create(&module); }
#endif
