/* SharedDict: a dict that threads of all interpreters use at once; core/map/map.h says how.
 *
 * Keys become bytes (shareddict_key.c), values messages, as in a queue, but for ints of 64 bits, which are numbers in the map, so that
 * add() needs no message.  Whatever is stored is a copy or a handle: nothing is lent by the interpreter that has stored it, which may
 * be closed.  Encoding and decoding happen before and after the map is touched, with none of its locks held.
 *
 * compare_and_set() compares as Python does: it decodes the value that is there, compares, and stores if the very same value is still there;
 * else it looks again.
 */
#include "module/shareddict.h"

#include "py/interp/interp.h"

#include <math.h>

/* ---- making one ---- */

/* The object for a map; the caller keeps its own reference. */
static PyObject *object_for(atoll_state *state, atoll_hashmap *map) {
    PyObject *object = atoll_thing_find(state, map);
    return object != NULL ? object
                          : atoll_thing_new(state, state->shareddict_type, &atoll_hashmap_class, map);
}

static PyObject *dict_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"max_bytes", "ttl", NULL};
    PyObject *max_bytes = Py_None;
    PyObject *ttl = Py_None;
    double seconds;
    unsigned long long limit = 0;
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:SharedDict", keywords, &max_bytes, &ttl) ||
        atoll_shareddict_ttl_of(ttl, &seconds) < 0) {
        return NULL;
    }
    if (max_bytes != Py_None) {
        int64_t n;
        if (atoll_argument_int(max_bytes, "max_bytes", &n) < 0) {
            return NULL;
        }
        if (n <= 0) {
            PyErr_Format(PyExc_ValueError, "max_bytes must be above 0, got %R", max_bytes);
            return NULL;
        }
        limit = (unsigned long long)n;
    }
    atoll_hashmap *map = atoll_hashmap_new(limit, seconds);
    if (map == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *object = object_for(state, map);
    atoll_hashmap_release(map);
    return object;
}

static PyObject *get_max_bytes(PyObject *self, void *Py_UNUSED(closure)) {
    if (atoll_shareddict_state(self) == NULL) {
        return NULL;
    }
    uint64_t limit = atoll_hashmap_max_bytes(atoll_shareddict_map(self));
    return limit != 0 ? PyLong_FromUnsignedLongLong(limit) : Py_NewRef(Py_None);
}

static PyObject *get_ttl(PyObject *self, void *Py_UNUSED(closure)) {
    if (atoll_shareddict_state(self) == NULL) {
        return NULL;
    }
    double ttl = atoll_hashmap_ttl(atoll_shareddict_map(self));
    return ttl != INFINITY ? PyFloat_FromDouble(ttl) : Py_NewRef(Py_None);
}

static PyObject *dict_repr(PyObject *self) {
    return ((atoll_thing *)self)->state != NULL
               ? PyUnicode_FromFormat("<atoll.SharedDict of %llu items at %p>",
                                      (unsigned long long)atoll_hashmap_count(atoll_shareddict_map(self)),
                                      self)
               : PyUnicode_FromFormat("<atoll.SharedDict at %p>", self);
}

/* ---- crossing ---- */

static int dict_encode(atoll_encoder *enc, PyObject *self) {
    if (atoll_shareddict_state(self) == NULL) {
        return -1;
    }
    atoll_message *msg = atoll_encoder_message(enc);
    atoll_hashmap_retain(atoll_shareddict_map(self));
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_hashmap_class, atoll_shareddict_map(self)));
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *dict_decode(atoll_decoder *dec) {
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint32_t index = atoll_get_u32(rd);
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    atoll_hashmap *map =
        rd->failed ? NULL : atoll_message_handle(atoll_decoder_message(dec), index, &atoll_hashmap_class);
    if (map == NULL || state == NULL) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared dict");
        return NULL;
    }
    return object_for(state, map);
}

static const atoll_codec_hook dict_hook = {ATOLL_HOOK_SHARED_DICT, dict_encode, dict_decode};

/* ---- the type ---- */

static PyGetSetDef dict_getset[] = {
    {"max_bytes", get_max_bytes, NULL, "How many bytes it may take, or None.", NULL},
    {"ttl", get_ttl, NULL, "How many seconds a value stays, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    dict_doc,
    "SharedDict(max_bytes=None, ttl=None)\n--\n\n"
    "A dict that threads of all interpreters use at once.\n\n"
    "It can be sent to other interpreters, and is the same dict there. Keys are None, numbers, str, bytes,\n"
    "and tuples and frozensets of these. Values are whatever crosses, and cross each time: what is looked "
    "up\n"
    "is a copy. Each method is done at once; keys(), values() and items() list what is there key by key.\n"
    "max_bytes: what was used least recently is removed when more would be taken.\n"
    "ttl: how many seconds a value stays.\n\n"
    "Raises NotShareableError, a TypeError, for keys and values that cannot be stored.");

static PyType_Slot dict_slots[] = {
    {Py_tp_doc, (void *)dict_doc},
    {Py_tp_new, dict_new},
    {Py_tp_dealloc, atoll_thing_dealloc},
    {Py_tp_traverse, atoll_thing_traverse},
    {Py_tp_repr, dict_repr},
    {Py_tp_iter, atoll_shareddict_iter},
    {Py_tp_methods, atoll_shareddict_methods},
    {Py_tp_getset, dict_getset},
    {Py_tp_members, atoll_thing_members},
    {Py_mp_length, atoll_shareddict_length},
    {Py_mp_subscript, atoll_shareddict_subscript},
    {Py_mp_ass_subscript, atoll_shareddict_assign},
    {Py_sq_contains, atoll_shareddict_contains},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "atoll.SharedDict",
    .basicsize = sizeof(atoll_thing),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = dict_slots,
};

int atoll_shareddict_add(atoll_state *state, PyObject *module) {
    state->shareddict_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &dict_spec, NULL);
    if (state->shareddict_type == NULL || PyModule_AddType(module, state->shareddict_type) < 0) {
        return -1;
    }
    return atoll_codec_add_hook(state->codec, state->shareddict_type, &dict_hook);
}
