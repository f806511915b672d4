/* DLPack: the memory of a SharedBuffer or SharedArray for those who know that protocol, torch.from_dlpack() among them.
 *
 * What is handed out is a capsule with a struct that has a reference to the block.  Its consumer calls the struct's deleter when it
 * has done with it, on whatever thread and with or without a thread state: that needs none, as the block does not.  A capsule that nobody
 * has consumed (it is still named as it was) does so when it is freed.
 */
#include "module/dlpack.h"
#include "module/pyshared.h"

typedef struct {
    union {
        atoll_dlpack_managed plain;
        atoll_dlpack_versioned versioned;
    } dl; /* first: the deleter gets it */
    atoll_shared *block;
    int64_t extents[]; /* shape, then strides in elements */
} handed_out;

static void end(handed_out *out) {
    atoll_shared_release(out->block);
    PyMem_RawFree(out);
}

static void delete_plain(atoll_dlpack_managed *dl) { end((handed_out *)dl); }
static void delete_versioned(atoll_dlpack_versioned *dl) { end((handed_out *)dl); }

static void capsule_plain(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, ATOLL_DLPACK_NAME)) {
        end(PyCapsule_GetPointer(capsule, ATOLL_DLPACK_NAME));
    }
}

static void capsule_versioned(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, ATOLL_DLPACK_VERSIONED_NAME)) {
        end(PyCapsule_GetPointer(capsule, ATOLL_DLPACK_VERSIONED_NAME));
    }
}

/* -1 with BufferError for what DLPack does not know. */
static int type_of(const atoll_geometry *g, atoll_dlpack_type *type) {
    static const struct {
        char format[3];
        uint8_t code;
    } codes[] = {
        {"b", ATOLL_DLPACK_INT},      {"h", ATOLL_DLPACK_INT},   {"i", ATOLL_DLPACK_INT},
        {"l", ATOLL_DLPACK_INT},      {"q", ATOLL_DLPACK_INT},   {"B", ATOLL_DLPACK_UINT},
        {"H", ATOLL_DLPACK_UINT},     {"I", ATOLL_DLPACK_UINT},  {"L", ATOLL_DLPACK_UINT},
        {"Q", ATOLL_DLPACK_UINT},     {"e", ATOLL_DLPACK_FLOAT}, {"f", ATOLL_DLPACK_FLOAT},
        {"d", ATOLL_DLPACK_FLOAT},    {"?", ATOLL_DLPACK_BOOL},  {"Zf", ATOLL_DLPACK_COMPLEX},
        {"Zd", ATOLL_DLPACK_COMPLEX},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(codes); i++) {
        if (strcmp(g->format, codes[i].format) == 0) {
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
        .device = {ATOLL_DLPACK_CPU, 0},
        .ndim = g->ndim,
        .dtype = type,
        .shape = out->extents,
        .strides = out->extents + g->ndim,
    };
    if (versioned) {
        out->dl.versioned = (atoll_dlpack_versioned){
            .version = {ATOLL_DLPACK_MAJOR, ATOLL_DLPACK_MINOR},
            .manager = out,
            .deleter = delete_versioned,
            .flags = (g->readonly ? ATOLL_DLPACK_READ_ONLY : 0) | (copied ? ATOLL_DLPACK_COPIED : 0),
            .tensor = tensor,
        };
    } else {
        out->dl.plain = (atoll_dlpack_managed){.tensor = tensor, .manager = out, .deleter = delete_plain};
    }
    atoll_shared_retain(self->block);
    out->block = self->block;
    PyObject *capsule = PyCapsule_New(out, versioned ? ATOLL_DLPACK_VERSIONED_NAME : ATOLL_DLPACK_NAME,
                                      versioned ? capsule_versioned : capsule_plain);
    if (capsule == NULL) {
        end(out);
    }
    return capsule;
}

const char atoll_pyshared_dlpack_doc[] =
    "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
    "Return a capsule of DLPack that shows the same memory: a versioned one if max_version is (1, 0) or "
    "newer.\n"
    "BufferError for what DLPack cannot say, such as read-only memory to those who ask for an older version, "
    "and\n"
    "for a device that is not the CPU.";

PyObject *atoll_pyshared_dlpack(PyObject *raw, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None;
    PyObject *max_version = Py_None;
    PyObject *device = Py_None;
    PyObject *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", keywords, &stream, &max_version,
                                     &device, &copy)) {
        return NULL;
    }
    if (stream != Py_None) {
        PyErr_SetString(PyExc_BufferError, "stream must be None: the memory is not on an accelerator");
        return NULL;
    }
    bool versioned;
    if (atoll_dlpack_arguments(max_version, device, ATOLL_DLPACK_CPU, 0, &versioned) < 0) {
        return NULL;
    }
    atoll_pyshared *self = (atoll_pyshared *)raw;
    int copies = copy != Py_None ? PyObject_IsTrue(copy) : 0;
    if (copies < 0) {
        return NULL;
    }
    if (copies == 0 && self->g.readonly && !versioned) {
        PyErr_SetString(PyExc_BufferError, "read-only memory takes DLPack 1.0 (max_version)");
        return NULL;
    }
    Py_buffer b = atoll_geometry_buffer(&self->g);
    PyObject *from = copies > 0 ? atoll_pyshared_packed(Py_TYPE(raw), &b) : Py_NewRef(raw);
    PyObject *capsule = from != NULL ? hand_out((atoll_pyshared *)from, versioned, copies > 0) : NULL;
    Py_XDECREF(from);
    return capsule;
}

const char atoll_pyshared_dlpack_device_doc[] =
    "__dlpack_device__($self, /)\n--\n\nReturn (1, 0): the memory is the CPU's.";

PyObject *atoll_pyshared_dlpack_device(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("ii", ATOLL_DLPACK_CPU, 0);
}
