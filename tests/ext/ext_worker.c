/* Starts a thread that never touches Python and never ends: its code has to stay after the interpreter's close. */
#include "ext.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static atomic_long rounds;
static int told;

/* Goes through code and data of this copy all the time; tells the descriptor once, after some rounds. */
static void *spin(void *arg) {
    (void)arg;
    const struct timespec pause = {0, 100 * 1000};
    for (;;) {
        if (atomic_fetch_add(&rounds, 1) == 20 && told > 0 && write(told, "!", 1) != 1) {
            return NULL;
        }
        nanosleep(&pause, NULL);
    }
}

static void *wait_for_byte(void *arg) {
    char byte;
    long number = (long)arg;
    if (read((int)number, &byte, 1) == 1) {
        atomic_fetch_add(&rounds, 1);
    }
    if (told > 0 && write(told, "!", 1) != 1) {
        return (void *)1;
    }
    return NULL;
}

static PyObject *start_thread(void *(*function)(void *), void *arg) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, arg) != 0) {
        return PyErr_Format(PyExc_RuntimeError, "pthread_create");
    }
    pthread_detach(thread);
    Py_RETURN_NONE;
}

/* start(fd): a thread that runs until the process ends.  wait(fd, reader): one that ends after it could read a byte. */
static PyObject *start(PyObject *Py_UNUSED(self), PyObject *arg) {
    told = (int)PyLong_AsLong(arg);
    return start_thread(spin, NULL);
}

static PyObject *start_wait(PyObject *Py_UNUSED(self), PyObject *args) {
    int reader;
    if (!PyArg_ParseTuple(args, "ii", &told, &reader)) {
        return NULL;
    }
    return start_thread(wait_for_byte, (void *)(long)reader);
}

static PyObject *get_rounds(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(atomic_load(&rounds));
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"start", start, METH_O, NULL},
                                {"wait", start_wait, METH_VARARGS, NULL},
                                {"rounds", get_rounds, METH_NOARGS, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_worker", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_worker(void) { return PyModule_Create(&module); }
