/* Asks how many processors there are, in each way that a library with a pool of threads does.  Built twice: with POOL it
 * can start threads, and its copies are told what their interpreter's share is; without, all is as it is. */
#define _GNU_SOURCE
#include "ext.h"
#include <pthread.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#ifdef POOL
static void *nothing(void *arg) { return arg; }

static PyObject *start(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, nothing, NULL);
    return PyLong_FromLong(failed != 0 ? failed : pthread_join(thread, NULL));
}
#endif

static PyObject *processors(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    cpu_set_t set, of_thread;
    if (sched_getaffinity(0, sizeof(set), &set) != 0 ||
        pthread_getaffinity_np(pthread_self(), sizeof(of_thread), &of_thread) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("{s:l,s:l,s:i,s:i,s:i}", "online", sysconf(_SC_NPROCESSORS_ONLN), "configured",
                         sysconf(_SC_NPROCESSORS_CONF), "get_nprocs", get_nprocs(), "affinity",
                         CPU_COUNT(&set), "thread's affinity", CPU_COUNT(&of_thread));
}

/* Whatever else sysconf() is asked, and of another process's affinity, is the truth. */
static PyObject *rest(PyObject *Py_UNUSED(self), PyObject *arg) {
    cpu_set_t set;
    if (sched_getaffinity((pid_t)PyLong_AsLong(arg), sizeof(set), &set) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("li", sysconf(_SC_PAGESIZE), CPU_COUNT(&set));
}

static PyMethodDef methods[] = {EXT_METHODS,
#ifdef POOL
                                {"start", start, METH_NOARGS, NULL},
#endif
                                {"processors", processors, METH_NOARGS, NULL},
                                {"rest", rest, METH_O, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_pool", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT_NAME(void);
PyMODINIT_FUNC INIT_NAME(void) { return PyModule_Create(&module); }
