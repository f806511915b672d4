/* pickle of SharedBuffer and SharedArray: the content, as of any array; of what has a name the name, by which it is found again, if it is the
 * same memory: the name may have been removed and given anew meanwhile.
 *
 * What is read is somebody's word: names, sizes and strides are checked against the memory that is there.
 */
#include "module/pyshared.h"

#include <errno.h>

const char atoll_pyshared_reduce_doc[] =
    "__reduce_ex__($self, protocol, /)\n--\n\nHelper for pickle: the content, or the name.";

/* Where the content comes from: the name of the memory, an out-of-band buffer, or bytes. */
static PyObject *content_of(PyObject *raw, const Py_buffer *b, long protocol) {
    const char *name = atoll_shared_name(((atoll_pyshared *)raw)->block);
    if (name != NULL) {
        return PyUnicode_FromString(name);
    }
    return protocol >= 5 && PyBuffer_IsContiguous(b, 'C') ? PyPickleBuffer_FromObject(raw)
                                                          : PyObject_CallMethod(raw, "tobytes", NULL);
}

/* Which memory a name led to, or None. */
static PyObject *id_of(const atoll_shared *block) {
    if (atoll_shared_name(block) == NULL) {
        return Py_NewRef(Py_None);
    }
    atoll_shm_id id = atoll_shared_id(block);
    return Py_BuildValue("KK", (unsigned long long)id.device, (unsigned long long)id.inode);
}

PyObject *atoll_pyshared_reduce(PyObject *raw, PyObject *protocol) {
    const atoll_pyshared *self = (atoll_pyshared *)raw;
    Py_buffer b = atoll_geometry_buffer(&self->g);
    long number = PyLong_AsLong(protocol);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    PyObject *restore = state != NULL ? PyObject_GetAttrString(state->module, "_shared_restore") : NULL;
    PyObject *content = restore != NULL ? content_of(raw, &b, number) : NULL;
    bool named = atoll_shared_name(self->block) != NULL;
    PyObject *shape = content != NULL ? atoll_pyshared_tuple(b.shape, b.ndim) : NULL;
    PyObject *strides = shape == NULL ? NULL
                        : named       ? atoll_pyshared_tuple(b.strides, b.ndim)
                                      : Py_NewRef(Py_None);
    PyObject *id = strides != NULL ? id_of(self->block) : NULL;
    PyObject *result =
        id != NULL ? Py_BuildValue("O(OOOOsnnOO)", restore, (PyObject *)Py_TYPE(raw), content, shape, strides,
                                   b.format, b.itemsize, self->g.data - (char *)self->block->data,
                                   b.readonly ? Py_True : Py_False, id)
                   : NULL;
    Py_XDECREF(id);
    Py_XDECREF(strides);
    Py_XDECREF(shape);
    Py_XDECREF(content);
    Py_XDECREF(restore);
    return result;
}

/* The memory with that name, if it is that memory: a reference, or NULL with an exception. */
static atoll_shared *find_same(PyObject *name, PyObject *id) {
    atoll_shared *block = atoll_pyshared_find(name);
    PyObject *own = block != NULL ? id_of(block) : NULL;
    int same = own != NULL ? PyObject_RichCompareBool(own, id, Py_EQ) : -1;
    Py_XDECREF(own);
    if (same > 0) {
        return block;
    }
    if (same == 0) {
        PyObject *exc = PyObject_CallFunction(PyExc_FileNotFoundError, "isO", ENOENT,
                                              "the name leads to other memory than what was pickled", name);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    }
    if (block != NULL) {
        atoll_shared_release(block);
    }
    return NULL;
}

static PyObject *restore_named(PyTypeObject *type, PyObject *name, PyObject *id, const Py_buffer *layout,
                               Py_ssize_t offset) {
    atoll_shared *block = find_same(name, id);
    atoll_pyshared *self =
        block != NULL ? atoll_pyshared_make(type, block, layout->ndim, layout->format) : NULL;
    if (self == NULL) {
        return NULL;
    }
    self->g.len = self->g.itemsize = layout->itemsize;
    for (int i = 0; i < layout->ndim; i++) {
        self->g.shape[i] = layout->shape[i];
        self->g.strides[i] = layout->strides[i];
        if (__builtin_mul_overflow(self->g.len, layout->shape[i], &self->g.len)) {
            self->g.len = -1; /* fits nowhere */
        }
    }
    if (!atoll_geometry_fits(&self->g, offset, 0, (int64_t)block->size)) {
        PyErr_Format(PyExc_ValueError, "shared memory %R has %zu bytes, and the array does not lie in them",
                     name, block->size);
        Py_DECREF(self);
        return NULL;
    }
    self->g.data += offset;
    return (PyObject *)self;
}

static PyObject *restore(PyTypeObject *type, PyObject *content, PyObject *id, Py_buffer *layout,
                         Py_ssize_t offset) {
    if (layout->strides != NULL) {
        return restore_named(type, content, id, layout, offset);
    }
    Py_buffer b;
    if (PyObject_GetBuffer(content, &b, PyBUF_CONTIG_RO) < 0) {
        return NULL;
    }
    layout->buf = b.buf;
    layout->len = b.len;
    PyObject *self = atoll_pyshared_packed(type, layout);
    PyBuffer_Release(&b);
    return self;
}

/* Whether a layout may be one of an object of this type. */
static bool is_sensible(const atoll_state *state, const PyTypeObject *type, const Py_buffer *layout) {
    if (!atoll_dtype_is_true(layout->format, layout->itemsize) ||
        atoll_geometry_has_pointers(layout->format)) {
        return false;
    }
    return type == state->shared_array_type ||
           (type == state->shared_buffer_type && strcmp(layout->format, "B") == 0 && layout->itemsize == 1);
}

PyDoc_STRVAR(restore_doc,
             "_shared_restore($module, cls, content, shape, strides, format, itemsize, offset, readonly, id, "
             "/)\n--\n\n"
             "Return what pickle has of a SharedBuffer or SharedArray.");

static PyObject *module_restore(PyObject *module, PyObject *args) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    PyTypeObject *type;
    PyObject *content;
    PyObject *shape;
    PyObject *strides;
    PyObject *id;
    Py_ssize_t offset;
    int readonly;
    Py_ssize_t sizes[PyBUF_MAX_NDIM];
    Py_ssize_t steps[PyBUF_MAX_NDIM];
    Py_buffer layout = {.shape = sizes};
    if (state == NULL ||
        !PyArg_ParseTuple(args, "O!OO!OsnnpO:_shared_restore", &PyType_Type, &type, &content, &PyTuple_Type,
                          &shape, &strides, &layout.format, &layout.itemsize, &offset, &readonly, &id)) {
        return NULL;
    }
    layout.ndim = atoll_pyshared_sizes(shape, sizes);
    if (layout.ndim < 0) {
        return NULL;
    }
    if (strides != Py_None) {
        layout.strides = steps;
        if (!PyTuple_Check(strides) || PyTuple_GET_SIZE(strides) != layout.ndim) {
            PyErr_SetString(PyExc_ValueError, "there is one stride for each dimension");
            return NULL;
        }
        for (int i = 0; i < layout.ndim; i++) {
            steps[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(strides, i), PyExc_ValueError);
            if (steps[i] == -1 && PyErr_Occurred()) {
                return NULL;
            }
        }
    }
    if (!is_sensible(state, type, &layout)) {
        PyErr_SetString(PyExc_ValueError, "this is not what pickle has of shared memory");
        return NULL;
    }
    PyObject *self = restore(type, content, id, &layout, offset);
    if (self != NULL) {
        ((atoll_pyshared *)self)->g.readonly = readonly != 0;
    }
    return self;
}

PyMethodDef atoll_pyshared_pickle_functions[] = {
    {"_shared_restore", module_restore, METH_VARARGS, restore_doc},
    {NULL, NULL, 0, NULL},
};
