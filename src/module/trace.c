/* Traces, for Python: a block in which what happens in the process is noted.  core/trace does it, py/interp/traced.c brings Python to it.
 *
 * __exit__() is a function of C, so that nothing interrupts it before the file is written.
 */
#include "module/module.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    PyObject *path;          /* bytes */
    unsigned long long most; /* events */
    uint32_t trace;          /* its number; 0: it has not been started */
    unsigned long long events;
    unsigned long long dropped;
} trace_object;

PyDoc_STRVAR(
    trace_doc,
    "trace(path, *, max_events=1000000)\n--\n\n"
    "A block in which what happens in the process is traced: calls, tasks, waits, imports and so on of\n"
    "all interpreters. At its end the trace is written to the file path, in Chrome's trace event format,\n"
    "for https://ui.perfetto.dev or chrome://tracing.\n\n"
    "with trace(path): the file is made at the beginning of the block, as an empty trace, and written at\n"
    "its end, or when the process ends; one that is there is overwritten. path is a str, bytes or\n"
    "os.PathLike. Memory is bounded: of max_events events (32 bytes each) the first are kept, and a\n"
    "RuntimeWarning says how many were dropped. The attributes events and dropped have the numbers\n"
    "after the block.\n"
    "Raises, before anything is traced, OSError when path cannot be written (BlockingIOError when\n"
    "another trace is written to it), RuntimeError when a trace of the process is on or the object has\n"
    "been used, TypeError, and ValueError for max_events below 1; at the end OSError when the disk is\n"
    "full or the program has closed the file, and then it is an empty trace.");

/* A converter, as PyUnicode_FSConverter() is, whose TypeError names the argument. */
static int path_of(PyObject *value, void *to) {
    int rc = PyUnicode_FSConverter(value, to);
    if (rc == 0 && value != NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "path must be a str, bytes or os.PathLike object, not %.200s",
                     Py_TYPE(value)->tp_name);
    }
    return rc;
}

static PyObject *trace_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"path", "max_events", NULL};
    PyObject *path = NULL;
    PyObject *max_events = NULL;
    int64_t most = 1000000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$O:trace", keywords, path_of, &path, &max_events)) {
        return NULL;
    }
    if (max_events != NULL && atoll_argument_int(max_events, "max_events", &most) < 0) {
        Py_DECREF(path);
        return NULL;
    }
    if (most < 1) {
        PyErr_Format(PyExc_ValueError, "max_events must be at least 1, not %R", max_events);
        Py_DECREF(path);
        return NULL;
    }
    trace_object *self = (trace_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(path);
        return NULL;
    }
    self->path = path;
    self->most = (unsigned long long)most;
    return (PyObject *)self;
}

static PyObject *trace_enter(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    trace_object *self = (trace_object *)op;
    if (self->trace != 0) {
        PyErr_SetString(PyExc_RuntimeError, "this trace has been used already");
        return NULL;
    }
    uint32_t trace = atoll_traced_start(PyBytes_AS_STRING(self->path), self->most);
    if (trace == 0) {
        return NULL;
    }
    self->trace = trace; /* not before: another thread may have entered the same object meanwhile */
    return Py_NewRef(op);
}

static PyObject *trace_exit(PyObject *op, PyObject *Py_UNUSED(args)) {
    trace_object *self = (trace_object *)op;
    atoll_trace_result result;
    if (!atoll_traced_stop(self->trace, &result)) {
        Py_RETURN_NONE; /* the process ends, or this is a forked child */
    }
    self->events = result.events;
    self->dropped = result.dropped;
    if (result.error != 0) {
        errno = result.error;
        PyObject *name = PyUnicode_DecodeFSDefault(PyBytes_AS_STRING(self->path));
        if (name != NULL) {
            PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
            Py_DECREF(name);
        }
        return NULL;
    }
    if (result.dropped != 0 &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "the trace has the first %llu events; %llu were dropped (max_events=%llu)",
                         self->events, self->dropped, self->most) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int trace_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    return 0;
}

static void trace_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_DECREF(((trace_object *)op)->path);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef trace_methods[] = {
    {"__enter__", trace_enter, METH_NOARGS, NULL},
    {"__exit__", trace_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef trace_members[] = {
    {"events", Py_T_ULONGLONG, offsetof(trace_object, events), Py_READONLY,
     PyDoc_STR("How many events the file has; 0 before the end.")},
    {"dropped", Py_T_ULONGLONG, offsetof(trace_object, dropped), Py_READONLY,
     PyDoc_STR("How many events there was no room for; 0 before the end.")},
    {0},
};

static PyType_Slot trace_slots[] = {
    {Py_tp_doc, (void *)trace_doc},
    {Py_tp_new, trace_new},
    {Py_tp_dealloc, trace_dealloc},
    {Py_tp_methods, trace_methods},
    {Py_tp_members, trace_members},
    {Py_tp_traverse, trace_traverse},
    {0, NULL},
};

static PyType_Spec trace_spec = {
    .name = "atoll.trace",
    .basicsize = sizeof(trace_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trace_slots,
};

int atoll_pytrace_add(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &trace_spec, NULL);
    int rc = type != NULL ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return rc;
}
