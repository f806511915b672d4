/* SharedArrow, SharedArrowStream and SharedTensor: what share() makes of objects that offer Arrow or DLPack, and how they cross.
 *
 * Sending one makes an export, or sends on the one that it has; where that comes home it is a reference of the owner's own again, so that an
 * interpreter is never kept by itself.  The types do not know their module, as those of pyshared.h do not.
 */
#include "module/lent.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    atoll_lent_ref ref;
    PyObject *weakrefs;
} lent_object;

static const atoll_lent_ref *ref_of(PyObject *self) { return &((lent_object *)self)->ref; }

/* Takes over the reference, also on failure. */
static PyObject *make(atoll_state *state, const atoll_lent_ref *ref) {
    PyTypeObject *type = state->lent_types[atoll_lent_of(ref)->kind];
    lent_object *self = (lent_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        atoll_lent_ref_drop(ref);
        return NULL;
    }
    self->ref = *ref;
    return (PyObject *)self;
}

static void lent_dealloc(PyObject *raw) {
    lent_object *self = (lent_object *)raw;
    PyTypeObject *type = Py_TYPE(raw);
    PyObject_GC_UnTrack(raw);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(raw);
    }
    atoll_lent_ref_drop(&self->ref);
    type->tp_free(raw);
    Py_DECREF(type);
}

static int lent_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

int atoll_lent_share(atoll_state *state, PyObject *obj, bool tensors, PyObject **out) {
    for (int i = 0; i < ATOLL_LENT_KINDS; i++) {
        if (Py_IS_TYPE(obj, state->lent_types[i])) {
            *out = Py_NewRef(obj);
            return 1;
        }
    }
    atoll_lent_ref ref = {NULL, NULL};
    int rc = tensors ? atoll_lent_take_tensor(obj, &ref.own) : atoll_lent_take_arrow(state, obj, &ref.own);
    if (rc > 0) {
        *out = make(state, &ref);
        rc = *out != NULL ? 1 : -1;
    }
    return rc;
}

/* ---- crossing ---- */

static void export_ends(void *what, bool alive) { atoll_lent_drop(what, alive); }

static int lent_encode(atoll_encoder *enc, PyObject *self) {
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    if (state == NULL) {
        return -1;
    }
    const atoll_lent_ref *ref = ref_of(self);
    atoll_export *export = ref->away;
    if (export != NULL) {
        atoll_export_retain(export);
    } else {
        export = atoll_export_of(state, ref->own, export_ends);
        if (export == NULL) {
            return -1;
        }
        (void)atoll_lent_ref_copy(ref); /* the export's */
    }
    atoll_message *msg = atoll_encoder_message(enc);
    atoll_put_u64(&msg->body, atoll_lent_of(ref)->serial);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_export_object_class, export));
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *lent_decode(atoll_decoder *dec) {
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint64_t serial = atoll_get_u64(rd);
    uint32_t index = atoll_get_u32(rd);
    atoll_export *export =
        rd->failed ? NULL
                   : atoll_message_handle(atoll_decoder_message(dec), index, &atoll_export_object_class);
    if (state == NULL || export == NULL || ((atoll_lent *)export->what)->serial != serial) {
        if (state != NULL) {
            PyErr_SetString(PyExc_ValueError, "malformed message: what a library has lent");
        }
        return NULL;
    }
    bool home = export->owner == state->entry;
    atoll_lent_ref ref = {home ? export->what : NULL, home ? NULL : export};
    ref = atoll_lent_ref_copy(&ref);
    return make(state, &ref);
}

static const atoll_codec_hook lent_hook = {ATOLL_HOOK_LENT, lent_encode, lent_decode};

/* ---- methods ---- */

static PyObject *arrow_schema(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_lent_schema_capsule(ref_of(self));
}

/* requested_schema is a wish, which a producer need not fulfil. */
static int parse_wish(PyObject *args, PyObject *kwargs, const char *format) {
    static char *keywords[] = {"requested_schema", NULL};
    PyObject *wish;
    return PyArg_ParseTupleAndKeywords(args, kwargs, format, keywords, &wish) ? 0 : -1;
}

static PyObject *arrow_array(PyObject *self, PyObject *args, PyObject *kwargs) {
    if (parse_wish(args, kwargs, "|O:__arrow_c_array__") < 0) {
        return NULL;
    }
    PyObject *schema = atoll_lent_schema_capsule(ref_of(self));
    PyObject *array = schema != NULL ? atoll_lent_array_capsule(ref_of(self)) : NULL;
    PyObject *pair = array != NULL ? PyTuple_Pack(2, schema, array) : NULL;
    Py_XDECREF(schema);
    Py_XDECREF(array);
    return pair;
}

static PyObject *arrow_stream(PyObject *self, PyObject *args, PyObject *kwargs) {
    return parse_wish(args, kwargs, "|O:__arrow_c_stream__") < 0 ? NULL
                                                                 : atoll_lent_stream_capsule(ref_of(self));
}

static PyObject *tensor_capsule(PyObject *self, PyObject *args, PyObject *kwargs) {
    return atoll_lent_tensor_capsule(ref_of(self), args, kwargs);
}

static PyObject *tensor_device(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_lent_tensor_device(ref_of(self));
}

PyDoc_STRVAR(
    schema_doc,
    "__arrow_c_schema__($self, /)\n--\n\nReturn a capsule with the schema (Arrow C data interface).");
PyDoc_STRVAR(array_doc, "__arrow_c_array__($self, /, requested_schema=None)\n--\n\n"
                        "Return capsules with the schema and the array (Arrow C data interface).");
PyDoc_STRVAR(stream_doc, "__arrow_c_stream__($self, /, requested_schema=None)\n--\n\n"
                         "Return a capsule with a stream of the arrays (Arrow C stream interface).");
PyDoc_STRVAR(dlpack_doc,
             "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
             "Return a capsule of DLPack that shows the same memory.");
PyDoc_STRVAR(device_doc,
             "__dlpack_device__($self, /)\n--\n\nReturn the device's type and number, as DLPack has them.");

static PyMethodDef array_methods[] = {
    {"__arrow_c_schema__", arrow_schema, METH_NOARGS, schema_doc},
    {"__arrow_c_array__", (PyCFunction)(void (*)(void))arrow_array, METH_VARARGS | METH_KEYWORDS, array_doc},
    {"__arrow_c_stream__", (PyCFunction)(void (*)(void))arrow_stream, METH_VARARGS | METH_KEYWORDS,
     stream_doc},
    {"__reduce__", atoll_unpicklable, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef stream_methods[] = {
    {"__arrow_c_schema__", arrow_schema, METH_NOARGS, schema_doc},
    {"__arrow_c_stream__", (PyCFunction)(void (*)(void))arrow_stream, METH_VARARGS | METH_KEYWORDS,
     stream_doc},
    {"__reduce__", atoll_unpicklable, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef tensor_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_capsule, METH_VARARGS | METH_KEYWORDS, dlpack_doc},
    {"__dlpack_device__", tensor_device, METH_NOARGS, device_doc},
    {"__reduce__", atoll_unpicklable, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- the types ---- */

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(lent_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(arrow_type_doc,
             "An Arrow array or record batch of a library's, in whichever interpreter: share() makes it.\n\n"
             "Libraries that read the Arrow C data interface take it without a copy.");
PyDoc_STRVAR(stream_type_doc,
             "Arrow arrays of the same kind, such as a table's batches: share() makes it.\n\n"
             "Libraries that read the Arrow C stream interface take it without a copy, any number of times.");
PyDoc_STRVAR(tensor_type_doc, "A tensor of a library's, in whichever interpreter: share() makes it.\n\n"
                              "Libraries that read DLPack take it without a copy.");

#define SLOTS(doc, methods)                                                                                  \
    {                                                                                                        \
        {Py_tp_doc, (void *)(doc)}, {Py_tp_dealloc, lent_dealloc}, {Py_tp_traverse, lent_traverse},          \
        {Py_tp_methods, methods},   {Py_tp_members, members},      {0, NULL},                                \
    }

static PyType_Slot slots[ATOLL_LENT_KINDS][6] = {
    [ATOLL_LENT_ARRAY] = SLOTS(arrow_type_doc, array_methods),
    [ATOLL_LENT_STREAM] = SLOTS(stream_type_doc, stream_methods),
    [ATOLL_LENT_TENSOR] = SLOTS(tensor_type_doc, tensor_methods),
};

static const char *const names[ATOLL_LENT_KINDS] = {
    [ATOLL_LENT_ARRAY] = "atoll.SharedArrow",
    [ATOLL_LENT_STREAM] = "atoll.SharedArrowStream",
    [ATOLL_LENT_TENSOR] = "atoll.SharedTensor",
};

int atoll_lent_add(atoll_state *state, PyObject *module) {
    for (int i = 0; i < ATOLL_LENT_KINDS; i++) {
        PyType_Spec spec = {
            .name = names[i],
            .basicsize = sizeof(lent_object),
            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
                     Py_TPFLAGS_DISALLOW_INSTANTIATION,
            .slots = slots[i],
        };
        state->lent_types[i] = (PyTypeObject *)PyType_FromSpec(&spec);
        if (state->lent_types[i] == NULL || PyModule_AddType(module, state->lent_types[i]) < 0 ||
            atoll_codec_add_hook(state->codec, state->lent_types[i], &lent_hook) < 0) {
            return -1;
        }
    }
    return 0;
}
