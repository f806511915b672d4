/* Threads that the extension starts itself, with pthread_create(), and PyGILState_Ensure() in every situation: they
 * have to enter the interpreter that this copy belongs to. */
#include "ext.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct {
    PyObject *callback; /* owned by whoever waits for the thread; a thread that nobody waits for leaks it */
    long calls;
    int depth;    /* of nested PyGILState_Ensure() */
    long done;    /* calls that returned */
    long wrong;   /* entered another interpreter, or the state was not as it has to be */
    int64_t here; /* where it has to be */
    pthread_t thread;
} job;

static int64_t current(void) { return PyInterpreterState_GetID(PyInterpreterState_Get()); }

/* Attached: the callback is called with a number. */
static int call(PyObject *callback, long number) {
    PyObject *result = PyObject_CallFunction(callback, "l", number);
    if (result == NULL) {
        PyErr_WriteUnraisable(callback);
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

static void enter_and_call(job *work, long number) {
    PyGILState_STATE states[8];
    for (int i = 0; i < work->depth; i++) {
        states[i] = PyGILState_Ensure();
        if (states[i] != (i == 0 ? PyGILState_UNLOCKED : PyGILState_LOCKED)) {
            work->wrong++;
        }
    }
    if (current() != work->here || !PyGILState_Check() ||
        PyGILState_GetThisThreadState() != PyThreadState_Get()) {
        work->wrong++;
    }
    if (call(work->callback, number) == 0) {
        work->done++;
    }
    for (int i = work->depth; i-- > 0;) {
        if (!PyGILState_Check() || current() != work->here) {
            work->wrong++;
        }
        PyGILState_Release(states[i]);
    }
}

static void *run_job(void *arg) {
    job *work = (job *)arg;
    for (long i = 0; i < work->calls; i++) {
        enter_and_call(work, i);
    }
    return NULL;
}

static int start_job(job *work, PyObject *callback, long calls, int depth) {
    *work = (job){.callback = callback, .calls = calls, .depth = depth, .here = current()};
    int failed = pthread_create(&work->thread, NULL, run_job, work);
    if (failed) {
        PyErr_Format(PyExc_RuntimeError, "pthread_create: %d", failed);
        return -1;
    }
    Py_INCREF(callback);
    return 0;
}

/* run(callback, calls, threads=1, depth=1): calls from new threads and waits for them; (done, wrong). */
static PyObject *run(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *callback;
    long calls;
    int threads = 1, depth = 1;
    if (!PyArg_ParseTuple(args, "Ol|ii", &callback, &calls, &threads, &depth)) {
        return NULL;
    }
    job *jobs = (job *)calloc((size_t)threads, sizeof(job));
    if (jobs == NULL) {
        return PyErr_NoMemory();
    }
    int started = 0;
    while (started < threads && start_job(&jobs[started], callback, calls, depth) == 0) {
        started++;
    }
    long done = 0, wrong = 0;
    Py_BEGIN_ALLOW_THREADS for (int i = 0; i < started; i++) {
        pthread_join(jobs[i].thread, NULL);
        done += jobs[i].done;
        wrong += jobs[i].wrong;
    }
    Py_END_ALLOW_THREADS for (int i = 0; i < started; i++) { Py_DECREF(callback); }
    free(jobs);
    return started < threads ? NULL : Py_BuildValue("ll", done, wrong);
}

/* start(callback, calls): lets Python go on meanwhile.  wait(): (done, wrong). */
static job background;

static PyObject *start(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *callback;
    long calls;
    if (!PyArg_ParseTuple(args, "Ol", &callback, &calls) || start_job(&background, callback, calls, 1) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *wait_for(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    Py_BEGIN_ALLOW_THREADS pthread_join(background.thread, NULL);
    Py_END_ALLOW_THREADS Py_CLEAR(background.callback);
    return Py_BuildValue("ll", background.done, background.wrong);
}

/* forever(callback): a detached thread calls until stop() or for ever, also while the interpreter is closed. */
static atomic_int stopped;
static atomic_long running;

static void *run_forever(void *arg) {
    job *work = (job *)arg;
    for (long i = 0; !atomic_load(&stopped); i++) {
        enter_and_call(work, i);
    }
    atomic_fetch_sub(&running, 1);
    free(work);
    return NULL;
}

static PyObject *forever(PyObject *Py_UNUSED(self), PyObject *callback) {
    job *work = (job *)calloc(1, sizeof(job));
    if (work == NULL) {
        return PyErr_NoMemory();
    }
    *work = (job){.callback = Py_NewRef(callback), .depth = 1, .here = current()};
    atomic_fetch_add(&running, 1);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&work->thread, &detached, run_forever, work);
    pthread_attr_destroy(&detached);
    if (failed) {
        free(work);
        return PyErr_Format(PyExc_RuntimeError, "pthread_create: %d", failed);
    }
    Py_RETURN_NONE;
}

static PyObject *stop(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    atomic_store(&stopped, 1);
    Py_RETURN_NONE;
}

static PyObject *get_running(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(atomic_load(&running));
}

/* attached(): PyGILState_Ensure() where the interpreter is entered already has nothing to do. */
static PyObject *attached(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    PyThreadState *before = PyThreadState_Get();
    int known = PyGILState_GetThisThreadState() == before && PyGILState_Check();
    PyGILState_STATE state = PyGILState_Ensure();
    int right = state == PyGILState_LOCKED && PyThreadState_Get() == before && PyGILState_Check();
    int64_t here = current();
    PyGILState_Release(state);
    right = right && PyThreadState_Get() == before && PyGILState_Check();
    return Py_BuildValue("NNL", PyBool_FromLong(known), PyBool_FromLong(right), (long long)here);
}

/* detached(callback): the GIL given up and taken again on the same thread, as a library does for its own callbacks. */
static PyObject *detached(PyObject *Py_UNUSED(self), PyObject *callback) {
    int64_t here = current();
    PyThreadState *before = PyEval_SaveThread();
    PyGILState_STATE state = PyGILState_Ensure();
    int right = state == PyGILState_UNLOCKED && PyThreadState_Get() == before && current() == here;
    int failed = call(callback, 0);
    PyGILState_Release(state);
    PyEval_RestoreThread(before);
    right = right && PyGILState_Check() && PyThreadState_Get() == before;
    return failed ? NULL : PyBool_FromLong(right);
}

/* own_state(callback): a thread that makes its thread state itself, for the interpreter that it was started from. */
static PyInterpreterState *interpreter;

static void *run_own_state(void *arg) {
    job *work = (job *)arg;
    PyThreadState *own = PyThreadState_New(interpreter);
    PyEval_AcquireThread(own);
    work->wrong += current() != work->here;
    work->done += call(work->callback, 0) == 0;
    PyThreadState_Clear(own);
    PyThreadState_DeleteCurrent();
    return NULL;
}

static PyObject *own_state(PyObject *Py_UNUSED(self), PyObject *callback) {
    job work = {.callback = callback, .here = current()};
    interpreter = PyInterpreterState_Get();
    if (pthread_create(&work.thread, NULL, run_own_state, &work) != 0) {
        return PyErr_Format(PyExc_RuntimeError, "pthread_create");
    }
    Py_BEGIN_ALLOW_THREADS pthread_join(work.thread, NULL);
    Py_END_ALLOW_THREADS return Py_BuildValue("ll", work.done, work.wrong);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"run", run, METH_VARARGS, NULL},
                                {"start", start, METH_VARARGS, NULL},
                                {"wait", wait_for, METH_NOARGS, NULL},
                                {"forever", forever, METH_O, NULL},
                                {"stop", stop, METH_NOARGS, NULL},
                                {"running", get_running, METH_NOARGS, NULL},
                                {"attached", attached, METH_NOARGS, NULL},
                                {"detached", detached, METH_O, NULL},
                                {"own_state", own_state, METH_O, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_foreign", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_foreign(void) { return PyModule_Create(&module); }
