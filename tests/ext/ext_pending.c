/* Py_AddPendingCall(): what is added, from whatever thread, has to run in the interpreter of this copy. */
#include "ext.h"
#include <pthread.h>

static long runs, refused;
static int64_t ran_in = -1;

static int run_pending(void *callback) {
    runs++;
    ran_in = PyInterpreterState_GetID(PyInterpreterState_Get());
    PyObject *result = PyObject_CallNoArgs((PyObject *)callback);
    Py_DECREF((PyObject *)callback);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void *add_from_thread(void *callback) {
    if (Py_AddPendingCall(run_pending, callback) != 0) {
        refused++;
    }
    return NULL;
}

/* add(callback, foreign): adds it from a thread of the extension's own, or from this one. */
static PyObject *add(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *callback;
    int foreign;
    if (!PyArg_ParseTuple(args, "Op", &callback, &foreign)) {
        return NULL;
    }
    Py_INCREF(callback);
    if (!foreign) {
        add_from_thread(callback);
    } else {
        pthread_t thread;
        if (pthread_create(&thread, NULL, add_from_thread, callback) != 0) {
            return PyErr_Format(PyExc_RuntimeError, "pthread_create");
        }
        Py_BEGIN_ALLOW_THREADS pthread_join(thread, NULL);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

/* result(): how many ran, where the last one ran, how many were refused. */
static PyObject *result(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return Py_BuildValue("lLl", runs, (long long)ran_in, refused);
}

static PyMethodDef methods[] = {
    EXT_METHODS, {"add", add, METH_VARARGS, NULL}, {"result", result, METH_NOARGS, NULL}, EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_pending", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_pending(void) { return PyModule_Create(&module); }
