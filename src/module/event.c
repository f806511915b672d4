/* Event: threading's, for threads of all interpreters. */
#include "module/sync.h"

static PyObject *event_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Event() takes no arguments");
        return NULL;
    }
    return atoll_pysync_new(state, atoll_sync_new(ATOLL_SYNC_EVENT, 0));
}

static PyObject *event_is_set(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pysync_state(self) != NULL ? PyBool_FromLong(atoll_sync_event_is_set(atoll_pysync_of(self)))
                                            : NULL;
}

static PyObject *event_set(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    atoll_sync_event_set(atoll_pysync_of(self));
    Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    atoll_sync_event_clear(atoll_pysync_of(self));
    Py_RETURN_NONE;
}

static PyObject *event_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    double deadline;
    if (atoll_pysync_state(self) == NULL ||
        atoll_pysync_argument("wait", "timeout", args, nargs, kwnames, &timeout) < 0 ||
        atoll_pysync_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    int is_set = atoll_sync_event_is_set(atoll_pysync_of(self));
    if (!is_set && deadline != ATOLL_NO_WAIT) {
        is_set = atoll_pysync_wait(self, 0, deadline, atoll_sync_event_await);
    }
    return is_set < 0 ? NULL : PyBool_FromLong(is_set);
}

static PyObject *event_repr(PyObject *self) {
    if (((atoll_thing *)self)->state == NULL) {
        return PyUnicode_FromFormat("<atoll.Event at %p>", self);
    }
    return PyUnicode_FromFormat("<atoll.Event at %p: %s>", self,
                                atoll_sync_event_is_set(atoll_pysync_of(self)) ? "set" : "unset");
}

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nReturn whether the event is set."},
    {"set", event_set, METH_NOARGS, "set($self, /)\n--\n\nSet the event: every thread that waits goes on."},
    {"clear", event_clear, METH_NOARGS, "clear($self, /)\n--\n\nMake the event not set."},
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, timeout=None)\n--\n\n"
     "Wait until the event is set, or for timeout seconds. Return False on a timeout."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(event_doc, "Event()\n--\n\n"
                        "An event for threads of all interpreters: threading.Event's methods.\n\n"
                        "It can be sent to other interpreters, and is the same event there.");

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (void *)event_doc},
    {Py_tp_new, event_new},
    {Py_tp_dealloc, atoll_thing_dealloc},
    {Py_tp_traverse, atoll_thing_traverse},
    {Py_tp_repr, event_repr},
    {Py_tp_methods, event_methods},
    {Py_tp_members, atoll_thing_members},
    {0, NULL},
};

PyType_Spec atoll_pyevent_spec = {
    .name = "atoll.Event",
    .basicsize = sizeof(atoll_pysync),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = event_slots,
};
