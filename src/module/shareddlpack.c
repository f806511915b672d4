/* DLPack: the memory of a SharedBuffer or SharedArray for those who know that protocol, torch.from_dlpack() among them.
 *
 * What is handed out has a reference to the block (dlpack.h says who ends it): dropping that needs no thread state, as the block does not.
 */
#include "module/dlpack.h"
#include "module/pyshared.h"

static const atoll_dlpack_device device = {ATOLL_DLPACK_CPU, 0};

typedef struct {
    atoll_dlpack_given given; /* first */
    atoll_shared *block;
    int64_t extents[]; /* shape, then strides in elements */
} handed_out;

static void end(atoll_dlpack_given *given) {
    atoll_shared_release(((handed_out *)given)->block);
    PyMem_RawFree(given);
}

/* -1 with BufferError for what DLPack does not know. */
static int type_of(const atoll_geometry *g, atoll_dlpack_type *type) {
    static const struct {
        char kind;
        uint8_t code;
    } codes[] = {
        {'b', ATOLL_DLPACK_BOOL},  {'i', ATOLL_DLPACK_INT},     {'u', ATOLL_DLPACK_UINT},
        {'f', ATOLL_DLPACK_FLOAT}, {'c', ATOLL_DLPACK_COMPLEX},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(codes); i++) {
        if (codes[i].kind == atoll_dtype_kind(g->format)) {
            *type = (atoll_dlpack_type){codes[i].code, (uint8_t)(g->itemsize * 8), 1};
            return 0;
        }
    }
    PyErr_Format(PyExc_BufferError, "DLPack has no elements of format '%s'", g->format);
    return -1;
}

static PyObject *hand_out(atoll_pyshared *self, bool versioned, bool copied) {
    const atoll_geometry *g = &self->g;
    atoll_dlpack_type type;
    if (type_of(g, &type) < 0) {
        return NULL;
    }
    handed_out *out = PyMem_RawCalloc(1, sizeof *out + (size_t)g->ndim * 2 * sizeof *out->extents);
    if (out == NULL) {
        return PyErr_NoMemory();
    }
    for (int i = 0; i < g->ndim; i++) {
        out->extents[i] = g->shape[i];
        out->extents[g->ndim + i] = g->strides[i] / g->itemsize;
        if (g->strides[i] % g->itemsize != 0) {
            PyMem_RawFree(out);
            PyErr_SetString(PyExc_BufferError, "DLPack has no strides between elements");
            return NULL;
        }
    }
    const atoll_dlpack_tensor tensor = {
        .data = g->data,
        .device = device,
        .ndim = g->ndim,
        .dtype = type,
        .shape = out->extents,
        .strides = out->extents + g->ndim,
    };
    atoll_shared_retain(self->block);
    out->block = self->block;
    out->given.end = end;
    uint64_t flags = (g->readonly ? ATOLL_DLPACK_READ_ONLY : 0) | (copied ? ATOLL_DLPACK_COPIED : 0);
    return atoll_dlpack_capsule(&out->given, &tensor, flags, versioned);
}

const char atoll_pyshared_dlpack_doc[] =
    "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
    "Return a capsule of DLPack that shows the same memory: a versioned one if max_version is (1, 0) or "
    "newer.\n"
    "BufferError for what DLPack cannot say, such as read-only memory to those who ask for an older version, "
    "and\n"
    "for a device that is not the CPU.";

PyObject *atoll_pyshared_dlpack(PyObject *raw, PyObject *args, PyObject *kwargs) {
    atoll_dlpack_wish wish;
    if (atoll_dlpack_parse(args, kwargs, device, &wish) < 0) {
        return NULL;
    }
    if (wish.stream != Py_None) {
        (void)atoll_dlpack_no_stream();
        return NULL;
    }
    Py_buffer b = atoll_geometry_buffer(&((atoll_pyshared *)raw)->g);
    PyObject *from = wish.copy ? atoll_pyshared_packed(Py_TYPE(raw), &b) : Py_NewRef(raw);
    PyObject *capsule = from != NULL ? hand_out((atoll_pyshared *)from, wish.versioned, wish.copy) : NULL;
    Py_XDECREF(from);
    return capsule;
}

const char atoll_pyshared_dlpack_device_doc[] =
    "__dlpack_device__($self, /)\n--\n\nReturn (1, 0): the memory is the CPU's.";

PyObject *atoll_pyshared_dlpack_device(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("ii", device.type, device.id);
}
