/* atoll.freeze() and what belongs to it.  py/frozen/frozen.h says what frozen objects are and how long they live.
 *
 * What an interpreter freezes outside of any block lies in one area of its own, which its module state fills.  freezing() makes another one,
 * which the thread that enters the block fills until it leaves it: the areas of a thread's blocks, innermost last, are a list in its
 * thread state's dict.
 *
 * An Area object has the area only while its block is open; later it knows its number, by which it is asked whether it is there.
 *
 * While something is frozen code may run: handlers of signals, other threads.  What that freezes in the same interpreter goes into an area of its own
 * where the one it would go to is being filled; and a block that is left meanwhile keeps its area until that is done.
 */
#include "py/frozen/frozen.h"
#include "module/module.h"
#include "module/pyshared.h"
#include "py/interp/interp.h"

static const char blocks_key[] = "atoll: areas that this thread fills";

typedef struct {
    PyObject_HEAD
    atoll_area *area; /* NULL unless the block is open */
    atoll_frozen_table *table;
    uint64_t serial; /* 0: it was never entered */
    size_t bytes;
    bool is_filled; /* something is being frozen in it */
    bool is_left;   /* and the block was left meanwhile */
} area_object;

static atoll_state *live_state(PyObject *module) { return atoll_state_live(PyModule_GetState(module)); }

/* ---- the type ---- */

/* The thread's list of open blocks: borrowed, or NULL, without an exception when there is none and it is not to be made. */
static PyObject *open_blocks(bool make) {
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    PyObject *key = dict != NULL ? PyUnicode_FromString(blocks_key) : NULL;
    PyObject *list = key != NULL ? PyDict_GetItemWithError(dict, key) : NULL; /* borrowed */
    if (key != NULL && list == NULL && make && !PyErr_Occurred()) {
        PyObject *made = PyList_New(0);
        list = made != NULL && PyDict_SetItem(dict, key, made) == 0 ? made : NULL;
        Py_XDECREF(made); /* the dict has it */
    }
    Py_XDECREF(key);
    return list;
}

static void leave(area_object *self) {
    self->is_left = true;
    if (self->area != NULL && !self->is_filled) {
        atoll_area *area = self->area;
        self->area = NULL;
        self->bytes = atoll_area_bytes(area);
        atoll_area_release(area);
        atoll_frozen_table_free(self->table);
        self->table = NULL;
    }
}

static PyObject *area_enter(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    area_object *self = (area_object *)op;
    if (self->serial != 0) {
        PyErr_SetString(PyExc_RuntimeError, "this area was entered before: freezing() makes another");
        return NULL;
    }
    PyObject *blocks = open_blocks(true);
    if (blocks == NULL) {
        return NULL;
    }
    self->table = atoll_frozen_table_new();
    self->area = self->table != NULL ? atoll_area_new() : NULL;
    if (self->area == NULL) {
        atoll_frozen_table_free(self->table);
        self->table = NULL;
        return PyErr_NoMemory();
    }
    self->serial = atoll_area_serial(self->area);
    if (PyList_Append(blocks, op) < 0) {
        leave(self);
        return NULL;
    }
    return Py_NewRef(op);
}

static PyObject *area_exit(PyObject *op, PyObject *Py_UNUSED(args)) {
    PyObject *blocks = open_blocks(false);
    if (blocks == NULL && PyErr_Occurred()) {
        return NULL;
    }
    for (Py_ssize_t i = blocks != NULL ? PyList_GET_SIZE(blocks) : 0; i-- > 0;) {
        if (PyList_GET_ITEM(blocks, i) == op && PyList_SetSlice(blocks, i, i + 1, NULL) < 0) {
            return NULL;
        }
    }
    leave((area_object *)op);
    Py_RETURN_NONE;
}

static int area_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    return 0;
}

static void area_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    leave((area_object *)op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *area_nbytes(PyObject *op, void *Py_UNUSED(closure)) {
    const area_object *self = (const area_object *)op;
    return PyLong_FromSize_t(self->area != NULL ? atoll_area_bytes(self->area) : self->bytes);
}

static PyObject *area_released(PyObject *op, void *Py_UNUSED(closure)) {
    const area_object *self = (const area_object *)op;
    return PyBool_FromLong(self->serial != 0 && !atoll_area_is_there(self->serial));
}

static PyObject *area_repr(PyObject *op) {
    const area_object *self = (const area_object *)op;
    return PyUnicode_FromFormat("<atoll.Area of %zu bytes%s>",
                                self->area != NULL ? atoll_area_bytes(self->area) : self->bytes,
                                self->serial == 0                   ? ", not entered"
                                : self->area != NULL                ? ", being filled"
                                : atoll_area_is_there(self->serial) ? ""
                                                                    : ", released");
}

static PyMethodDef area_methods[] = {
    {"__enter__", area_enter, METH_NOARGS, NULL},
    {"__exit__", area_exit, METH_VARARGS, NULL},
    {"__reduce__", atoll_unpicklable, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef area_getset[] = {
    {"nbytes", area_nbytes, NULL, "The bytes of what was frozen in it.", NULL},
    {"released", area_released, NULL,
     "Whether its memory was given back: nobody who could have something of it is left.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(area_doc,
             "Memory for what is frozen in the block of ``with atoll.freezing() as area:``.\n\n"
             "Its memory is given back when the block is over, all interpreters that have frozen or\n"
             "received something of it are closed, and nothing of it is under way. What the main\n"
             "interpreter has frozen or received stays for good.");

static PyType_Slot area_slots[] = {
    {Py_tp_doc, (void *)area_doc},
    {Py_tp_dealloc, area_dealloc},
    {Py_tp_traverse, area_traverse},
    {Py_tp_repr, area_repr},
    {Py_tp_methods, area_methods},
    {Py_tp_getset, area_getset},
    {0, NULL},
};

static PyType_Spec area_spec = {
    .name = "atoll.Area",
    .basicsize = sizeof(area_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = area_slots,
};

/* ---- the functions ---- */

PyDoc_STRVAR(freeze_doc,
             "freeze($module, obj, /)\n--\n\n"
             "Return an immutable deep copy of obj that all interpreters read as it is, without a copy.\n\n"
             "Sending it to another interpreter, or any part of it, costs a pointer. str, bytes, int,\n"
             "float, complex, bool, None, tuple, frozenset and range stay what they are; a list becomes a\n"
             "tuple, a set a frozenset, a bytearray bytes, and a dict a frozendict (before CPython 3.15: a\n"
             "types.MappingProxyType). An array of numpy or of the module array becomes a read-only\n"
             "SharedArray. Equal parts are there once. What is frozen already is returned.\n"
             "Raises NotShareableError, which names the path, for other objects, instances of subclasses\n"
             "and what contains itself. The memory stays as long as an interpreter that has frozen or\n"
             "received something of it, and for good once the main one has: see freezing().");

/* This thread's innermost open block: a new reference, or NULL, maybe with an exception. */
static area_object *innermost_block(void) {
    PyObject *blocks = open_blocks(false);
    for (Py_ssize_t i = blocks != NULL ? PyList_GET_SIZE(blocks) : 0; i-- > 0;) {
        area_object *innermost = (area_object *)PyList_GET_ITEM(blocks, i);
        if (!innermost->is_left) { /* by another thread */
            return (area_object *)Py_NewRef(innermost);
        }
    }
    return NULL;
}

/* What would interrupt a wait interrupts this. */
static int check(void) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    return state != NULL ? atoll_blocking_check(state->entry) : 0;
}

/* Freezes in an area, which this interpreter has from now on. */
static PyObject *freeze_in(atoll_state *state, atoll_area *area, atoll_frozen_table *table, PyObject *obj) {
    if (atoll_area_seen(area, state->interp_id) < 0) {
        return NULL;
    }
    const atoll_frozen_way way = {area, table, state->not_shareable, check};
    PyObject *frozen = atoll_frozen_make(&way, obj);
    bool proxies =
        atoll_area_has_proxies(area) || (!ATOLL_HAS_FROZENDICT && frozen != NULL && !atoll_frozen_is(frozen));
    if (frozen != NULL && atoll_codec_prepare_frozen(state->codec, proxies) < 0) {
        Py_CLEAR(frozen);
    }
    return frozen;
}

/* The same in a new one. */
static PyObject *freeze_apart(atoll_state *state, PyObject *obj) {
    atoll_area *area = atoll_area_new();
    if (area == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *frozen = freeze_in(state, area, NULL, obj);
    atoll_area_release(area);
    return frozen;
}

static PyObject *freeze_in_block(atoll_state *state, area_object *block, PyObject *obj) {
    block->is_filled = true;
    PyObject *frozen = freeze_in(state, block->area, block->table, obj);
    block->is_filled = false;
    if (block->is_left) {
        leave(block);
    }
    return frozen;
}

static PyObject *freeze_outside(atoll_state *state, PyObject *obj) {
    if (state->frozen_area == NULL && (state->frozen_area = atoll_area_new()) == NULL) {
        return PyErr_NoMemory();
    }
    state->frozen_area_filled = true;
    PyObject *frozen = freeze_in(state, state->frozen_area, NULL, obj);
    state->frozen_area_filled = false;
    return frozen;
}

static PyObject *module_freeze(PyObject *module, PyObject *obj) {
    atoll_state *state = live_state(module);
    area_object *block = state != NULL ? innermost_block() : NULL;
    if (state == NULL || (block == NULL && PyErr_Occurred())) {
        return NULL;
    }
    bool is_filled = block != NULL ? block->is_filled : state->frozen_area_filled;
    PyObject *frozen = is_filled       ? freeze_apart(state, obj)
                       : block != NULL ? freeze_in_block(state, block, obj)
                                       : freeze_outside(state, obj);
    Py_XDECREF(block);
    return frozen;
}

PyDoc_STRVAR(is_frozen_doc,
             "is_frozen($module, obj, /)\n--\n\n"
             "Return whether obj is frozen: what freeze() has returned, or a part of that.\n\n"
             "None, True, small ints and the like, which all interpreters have in common, are, and so are\n"
             "tuples of nothing but frozen objects with a frozen array among them.");

static PyObject *module_is_frozen(PyObject *Py_UNUSED(module), PyObject *obj) {
    int is = atoll_frozen_is_all(obj);
    return is < 0 ? NULL : PyBool_FromLong(is);
}

PyDoc_STRVAR(frozen_memory_doc, "frozen_memory($module, /)\n--\n\n"
                                "Return how many bytes frozen objects take in this process, an int.");

static PyObject *module_frozen_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromSize_t(atoll_areas_bytes());
}

PyDoc_STRVAR(freezing_doc,
             "freezing($module, /)\n--\n\n"
             "Return a context manager that collects what this thread freezes in an area of its own.\n\n"
             "with freezing() as area: the memory of what is frozen in the block (area.nbytes) is given\n"
             "back as one, when nobody can have anything of it any more: see Area.");

static PyObject *module_freezing(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    return state != NULL ? state->area_type->tp_alloc(state->area_type, 0) : NULL;
}

/* What constants of modules take, for tests. */
static PyObject *module_constants_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromSize_t(atoll_frozen_constants_bytes());
}

static PyMethodDef frozen_methods[] = {
    {"freeze", module_freeze, METH_O, freeze_doc},
    {"is_frozen", module_is_frozen, METH_O, is_frozen_doc},
    {"frozen_memory", module_frozen_memory, METH_NOARGS, frozen_memory_doc},
    {"freezing", module_freezing, METH_NOARGS, freezing_doc},
    {"_constants_memory", module_constants_memory, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int atoll_pyfrozen_add(atoll_state *state, PyObject *module) {
    state->area_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &area_spec, NULL);
    atoll_pyshared_init_frozen();
    if (state->area_type == NULL || PyModule_AddType(module, state->area_type) < 0 ||
        atoll_frozen_add_own(state) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, frozen_methods);
}

void atoll_pyfrozen_forget(atoll_state *state) {
    if (state->frozen_area != NULL) {
        atoll_area_release(state->frozen_area);
        state->frozen_area = NULL;
    }
}
