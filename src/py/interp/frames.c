/* sys._current_frames() and sys._current_exceptions(), which debuggers, profilers and pytest-timeout call.
 *
 * Before 3.14 CPython's walk the threads of all interpreters, and make frame objects of frames that run there meanwhile, in memory of
 * the caller's: a process whose interpreters have GILs of their own ends of it.  These show the threads of the interpreter that
 * calls.  Its GIL is held, so none of its threads runs, and none of its thread states is deleted, while they are walked;
 * one that is just being made has no frame yet.
 *
 * The functions of sys are replaced in every interpreter that knows Atoll, in main too.
 */
#include "py/interp/frames.h"

#include "py/facade.h"

typedef PyObject *(*describe)(PyThreadState *tstate);

static PyObject *frame_of(PyThreadState *tstate) { return (PyObject *)PyThreadState_GetFrame(tstate); }

/* What sys.exception() is there, or None; NULL for a thread that runs no Python. */
static PyObject *exception_of(PyThreadState *tstate) {
    PyFrameObject *frame = PyThreadState_GetFrame(tstate);
    if (frame == NULL) {
        return NULL;
    }
    Py_DECREF(frame);
    const atoll_exception_item *item = tstate->exc_info;
    while ((item->exc_value == NULL || item->exc_value == Py_None) && item->previous_item != NULL) {
        item = item->previous_item;
    }
    return Py_NewRef(item->exc_value != NULL ? item->exc_value : Py_None);
}

/* A dict of each thread's identifier and what describes it. */
static PyObject *each_thread(describe function) {
    PyObject *result = PyDict_New();
    PyThreadState *tstate = result != NULL ? PyInterpreterState_ThreadHead(PyInterpreterState_Get()) : NULL;
    for (; tstate != NULL; tstate = PyThreadState_Next(tstate)) {
        PyObject *value = function(tstate);
        if (value == NULL) {
            if (PyErr_Occurred()) {
                Py_CLEAR(result);
                break;
            }
            continue;
        }
        PyObject *id = PyLong_FromUnsignedLong(tstate->thread_id);
        int rc = id != NULL ? PyDict_SetItem(result, id, value) : -1;
        Py_XDECREF(id);
        Py_DECREF(value);
        if (rc < 0) {
            Py_CLEAR(result);
            break;
        }
    }
    return result;
}

static PyObject *current_frames(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PySys_Audit("sys._current_frames", NULL) == 0 ? each_thread(frame_of) : NULL;
}

static PyObject *current_exceptions(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PySys_Audit("sys._current_exceptions", NULL) == 0 ? each_thread(exception_of) : NULL;
}

static PyMethodDef methods[] = {{"_current_frames", current_frames, METH_NOARGS, NULL},
                                {"_current_exceptions", current_exceptions, METH_NOARGS, NULL}};

int atoll_frames_init(void) {
    if (!ATOLL_FRAMES_OF_ALL) {
        return 0;
    }
    PyObject *sys = PyImport_ImportModule("sys");
    int rc = sys != NULL ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < Py_ARRAY_LENGTH(methods); i++) {
        PyObject *function = PyCFunction_New(&methods[i], NULL);
        rc = function != NULL ? atoll_facade_put(sys, methods[i].ml_name, function) : -1;
        Py_XDECREF(function);
    }
    Py_XDECREF(sys);
    return rc;
}
