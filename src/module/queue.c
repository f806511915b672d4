/* The Queue type: what it is.  queue_ops.c and queue_get.c have what it does.
 *
 * An object is one reference to a queue (core/queue/queue.h); an interpreter has at most one object per queue (things.c), so that
 * identity, hash and equality are those of the queue.  A queue crosses as a handle in the message and is found again on the other
 * side.
 *
 * The exceptions and constants are Python's (atoll._queues.names), because they derive from those of the module
 * `queue`; they are loaded when the first one is needed.
 */
#include "module/queue_ops.h"

/* ---- objects ---- */

PyObject *atoll_pyqueue_for(atoll_state *state, atoll_queue *queue) {
    PyObject *object = atoll_thing_find(state, queue);
    return object != NULL ? object : atoll_thing_new(state, state->queue_type, &atoll_queue_class, queue);
}

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *arg;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Queue() takes no keyword arguments");
        return NULL;
    }
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL || !PyArg_ParseTuple(args, "O:Queue", &arg)) {
        return NULL;
    }
    if (!PyLong_Check(arg)) {
        PyErr_Format(PyExc_TypeError, "id must be an int, got %R", arg);
        return NULL;
    }
    int overflow;
    long long id = PyLong_AsLongLongAndOverflow(arg, &overflow);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    atoll_queue *queue = overflow == 0 ? atoll_queue_find(id) : NULL;
    if (queue == NULL) {
        PyObject *not_found = atoll_pyqueue_name_get(state, ATOLL_Q_NOT_FOUND);
        if (not_found != NULL) {
            PyErr_Format(not_found, "queue %R not found", arg);
        }
        return NULL;
    }
    PyObject *object = atoll_pyqueue_for(state, queue);
    atoll_queue_release(queue);
    return object;
}

PyObject *atoll_pyqueue_create(atoll_state *state, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"maxsize", "unbounditems", NULL};
    PyObject *size = NULL;
    int64_t maxsize = 0;
    PyObject *items = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:create_queue", keywords, &size, &items) ||
        (size != NULL && atoll_argument_int(size, "maxsize", &maxsize) < 0)) {
        return NULL;
    }
    uint8_t unbound = 0;
    if (items != NULL && items != Py_None && (unbound = atoll_pyqueue_unbound_of(state, items, 0)) == 0) {
        return NULL;
    }
    atoll_queue *queue = atoll_queue_new(maxsize, unbound);
    if (queue == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *object = atoll_pyqueue_for(state, queue);
    atoll_queue_release(queue);
    return object;
}

PyObject *atoll_pyqueue_list(atoll_state *state) {
    PyObject *list = PyList_New(0);
    atoll_queue *queue;
    for (int64_t above = 0; list != NULL && (queue = atoll_queue_after(above)) != NULL;) {
        above = atoll_queue_id(queue);
        PyObject *object = atoll_pyqueue_for(state, queue);
        atoll_queue_release(queue);
        if (object == NULL || PyList_Append(list, object) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(object);
    }
    return list;
}

static PyObject *queue_repr(PyObject *self) {
    return ((atoll_thing *)self)->state != NULL
               ? PyUnicode_FromFormat("Queue(%lld)", (long long)atoll_queue_id(atoll_pyqueue_of(self)))
               : PyUnicode_FromString("Queue(?)");
}

static PyObject *get_id(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pyqueue_state(self) != NULL ? PyLong_FromLongLong(atoll_queue_id(atoll_pyqueue_of(self)))
                                             : NULL;
}

static Py_hash_t queue_hash(PyObject *self) {
    PyObject *number = get_id(self, NULL);
    Py_hash_t hash = number != NULL ? PyObject_Hash(number) : -1;
    Py_XDECREF(number);
    return hash;
}

static PyObject *get_maxsize(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pyqueue_state(self) != NULL
               ? PyLong_FromLongLong(atoll_queue_maxsize(atoll_pyqueue_of(self)))
               : NULL;
}

static PyObject *get_unbounditems(PyObject *self, void *Py_UNUSED(closure)) {
    atoll_state *state = atoll_pyqueue_state(self);
    if (state == NULL) {
        return NULL;
    }
    uint8_t unbound = atoll_queue_unbound(atoll_pyqueue_of(self));
    return Py_XNewRef(atoll_pyqueue_name_get(state, unbound == ATOLL_UNBOUND_REMOVE  ? ATOLL_Q_UNBOUND_REMOVE
                                                    : unbound == ATOLL_UNBOUND_ERROR ? ATOLL_Q_UNBOUND_ERROR
                                                                                     : ATOLL_Q_UNBOUND));
}

static PyObject *get_is_shutdown(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pyqueue_state(self) != NULL ? PyBool_FromLong(atoll_queue_is_shut(atoll_pyqueue_of(self)))
                                             : NULL;
}

/* ---- crossing ---- */

static int queue_encode(atoll_encoder *enc, PyObject *self) {
    if (atoll_pyqueue_state(self) == NULL) {
        return -1;
    }
    atoll_queue *queue = atoll_pyqueue_of(self);
    atoll_message *msg = atoll_encoder_message(enc);
    atoll_queue_retain(queue);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_queue_class, queue));
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *queue_decode(atoll_decoder *dec) {
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint32_t index = atoll_get_u32(rd);
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    atoll_queue *queue =
        rd->failed ? NULL : atoll_message_handle(atoll_decoder_message(dec), index, &atoll_queue_class);
    if (queue == NULL || state == NULL) {
        PyErr_SetString(PyExc_ValueError, "malformed message: queue");
        return NULL;
    }
    return atoll_pyqueue_for(state, queue);
}

static const atoll_codec_hook queue_hook = {ATOLL_HOOK_QUEUE, queue_encode, queue_decode};

/* ---- the type ---- */

static PyGetSetDef queue_getset[] = {
    {"id", get_id, NULL, "The number that names the queue in this process: never used twice.", NULL},
    {"maxsize", get_maxsize, NULL, "How many items it holds at most; no limit when it is not positive.",
     NULL},
    {"unbounditems", get_unbounditems, NULL,
     "What becomes of an item whose sender's interpreter ends, unless put() said otherwise: UNBOUND, "
     "UNBOUND_ERROR\n"
     "or UNBOUND_REMOVE.",
     NULL},
    {"is_shutdown", get_is_shutdown, NULL, "Whether shutdown() was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(queue_doc,
             "Queue(id, /)\n--\n\n"
             "A first-in, first-out queue between interpreters and threads (PEP 734).\n\n"
             "create_queue() makes one. There is one object per queue in each interpreter; the queue is\n"
             "freed when its last object and the last message that carries it are gone. Waiting\n"
             "threads sleep until they are woken.\n"
             "Raises TypeError for an id that is not an int, QueueNotFoundError for an unknown one.");

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc},
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, atoll_thing_dealloc},
    {Py_tp_traverse, atoll_thing_traverse},
    {Py_tp_repr, queue_repr},
    {Py_tp_hash, queue_hash},
    {Py_tp_methods, atoll_pyqueue_ops},
    {Py_tp_getset, queue_getset},
    {Py_tp_members, atoll_thing_members},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, atoll_pyqueue_next},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "atoll.Queue",
    .basicsize = sizeof(atoll_thing),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};

int atoll_pyqueue_add(atoll_state *state, PyObject *module) {
    atoll_queues_init();
    state->queue_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &queue_spec, NULL);
    if (state->queue_type == NULL || PyModule_AddType(module, state->queue_type) < 0) {
        return -1;
    }
    return atoll_codec_add_hook(state->codec, state->queue_type, &queue_hook);
}
