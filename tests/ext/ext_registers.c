/* Gives a library that it needs functions to call: one in place of another one, which this module then has, and one of the C library's.  With
 * KEEPS, one that the library keeps in memory from malloc(). */
#define PY_SSIZE_T_CLEAN
#include "libs.h"

#include <stdio.h>

static long times = 1;
static long (*before)(long);

static long add(long number) { return number + times + (before != NULL ? before(number) : 0); }

#ifdef KEEPS

static void count(void) { times++; }

static PyObject *keep(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(sqlite3_auto_extension(count));
}

#endif

/* replace(): whether there was another one. */
static PyObject *replace(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    before = lib_keeper_handle(add);
    return PyBool_FromLong(before != NULL);
}

static PyObject *put_back(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    (void)lib_keeper_handle(before);
    Py_RETURN_NONE;
}

static PyObject *hand_on(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    lib_keeper_close_with(fclose);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
#ifdef KEEPS
    {"keep", keep, METH_NOARGS, NULL},
#endif
    {"replace", replace, METH_NOARGS, NULL},
    {"put_back", put_back, METH_NOARGS, NULL},
    {"hand_on", hand_on, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME, NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT_NAME(void) { return PyModule_Create(&module); }
