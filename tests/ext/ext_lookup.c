/* Looks functions up by their names while it runs: of threads, as jemalloc does, of Python's, and of a library that it needs. */
#define _GNU_SOURCE
#include "ext.h"
#include "libs.h"

#include <dlfcn.h>
#include <pthread.h>
#include <time.h>

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static create_function *creates(void) {
    void *found = dlsym(RTLD_NEXT, "pthread_create");
    create_function *function;
    memcpy(&function, &found, sizeof function);
    return function;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

/* Waits for ever, a millisecond at a time. */
static void *wait_for_work(void *Py_UNUSED(unused)) {
    pthread_mutex_lock(&mutex);
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&condition, &mutex, &until);
    }
    return NULL;
}

/* start(): a thread that waits. */
static PyObject *start(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    pthread_t thread;
    if (creates()(&thread, NULL, wait_for_work, NULL) != 0) {
        return PyErr_NoMemory();
    }
    pthread_detach(thread);
    Py_RETURN_NONE;
}

static void *ask(void *id) {
    void *found[2] = {dlsym(RTLD_DEFAULT, "PyGILState_Ensure"), dlsym(RTLD_DEFAULT, "PyGILState_Release")};
    PyGILState_STATE (*ensure)(void);
    void (*release)(PyGILState_STATE);
    memcpy(&ensure, &found[0], sizeof ensure);
    memcpy(&release, &found[1], sizeof release);
    PyGILState_STATE state = ensure();
    *(int64_t *)id = PyInterpreterState_GetID(PyInterpreterState_Get());
    release(state);
    return NULL;
}

/* enter(): the number of the interpreter that a thread enters. */
static PyObject *enter(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    int64_t id = -1;
    pthread_t thread;
    Py_BEGIN_ALLOW_THREADS if (creates()(&thread, NULL, ask, &id) == 0) { pthread_join(thread, NULL); }
    Py_END_ALLOW_THREADS return PyLong_FromLongLong(id);
}

/* found(): whether what is behind this library is found, what is in no library, and what is in another one than is asked. */
static PyObject *found(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    void *libm = dlopen("libm.so.6", RTLD_LAZY);
    int all[] = {dlsym(RTLD_NEXT, "lib_plain_double") == (void *)(uintptr_t)lib_plain_double,
                 dlsym(RTLD_DEFAULT, "lib_plain_double") == (void *)(uintptr_t)lib_plain_double,
                 dlsym(RTLD_NEXT, "nobody_has_this") != NULL, dlsym(libm, "PyGILState_Ensure") != NULL};
    return Py_BuildValue("(iiii)", all[0], all[1], all[2], all[3]);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"start", start, METH_NOARGS, NULL},
                                {"enter", enter, METH_NOARGS, NULL},
                                {"found", found, METH_NOARGS, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_lookup", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_lookup(void) { return PyModule_Create(&module); }
