/* SharedBuffer and SharedArray: making them, what they are, how they cross; pyshared.h has the essay.
 *
 * Crossing.  What is sent is a handle to the block and the layout: a pointer, whatever the size.  The receiver checks that
 * the layout lies in the block.  An object that comes home is another one that shows the same memory.
 *
 * pickle copies the content, as for any array; what has a name is pickled as its name, and found again by it.
 */
#include "module/pyshared.h"

#include <errno.h>

/* ---- objects ---- */

atoll_pyshared *atoll_pyshared_make(PyTypeObject *type, atoll_shared *block, int ndim, const char *format) {
    atoll_pyshared *self = (atoll_pyshared *)type->tp_alloc(type, 0);
    if (self == NULL) {
        atoll_shared_release(block);
        return NULL;
    }
    self->block = block;
    if (atoll_geometry_init(&self->g, ndim, format, strlen(format)) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->g.data = (char *)block->data;
    return self;
}

atoll_pyshared *atoll_pyshared_derive(const atoll_pyshared *from, int ndim) {
    atoll_shared_retain(from->block);
    atoll_pyshared *self = atoll_pyshared_make(Py_TYPE(from), from->block, ndim, from->g.format);
    if (self != NULL) {
        self->g.data = from->g.data;
        self->g.len = from->g.len;
        self->g.itemsize = from->g.itemsize;
        self->g.readonly = from->g.readonly;
    }
    return self;
}

void atoll_pyshared_dealloc(PyObject *raw) {
    atoll_pyshared *self = (atoll_pyshared *)raw;
    PyTypeObject *type = Py_TYPE(raw);
    PyObject_GC_UnTrack(raw);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(raw);
    }
    atoll_geometry_clear(&self->g);
    if (self->block != NULL) {
        atoll_shared_release(self->block);
    }
    type->tp_free(raw);
    Py_DECREF(type);
}

int atoll_pyshared_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

int atoll_pyshared_getbuffer(PyObject *self, Py_buffer *b, int flags) {
    return atoll_geometry_getbuffer(&((atoll_pyshared *)self)->g, self, b, flags);
}

PyObject *atoll_pyshared_tuple(const Py_ssize_t *values, int n) {
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple != NULL && i < n; i++) {
        PyObject *value = PyLong_FromSsize_t(values[i]);
        if (value == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, value);
    }
    return tuple;
}

/* ---- making ---- */

/* Where memory comes from: what the constructors of both have in common. */
typedef struct {
    PyObject *name;   /* str or None */
    PyObject *create; /* True, False or None */
} source;

static const char *name_of(PyObject *name) {
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "name must be a str, not %.200s", Py_TYPE(name)->tp_name);
        return NULL;
    }
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text != NULL && *text == '/') { /* as the system has it */
        text++;
        length--;
    }
    if (text == NULL || !atoll_shared_name_is_good(text, (size_t)length)) {
        PyErr_Clear();
        PyErr_Format(
            PyExc_ValueError,
            "name %R is none for shared memory: it has 1 to 254 bytes, and no slash or null character", name);
        return NULL;
    }
    return text;
}

/* Others may run meanwhile. */
static int open_detached(const char *name, atoll_shm_way way, size_t size, atoll_shared **out) {
    int error;
    Py_BEGIN_ALLOW_THREADS;
    error = atoll_shared_named(name, way, size, out);
    Py_END_ALLOW_THREADS;
    return error;
}

/* The block with this name: SIZE_MAX is all of one that is there.  NULL with an exception. */
static atoll_shared *open_named(const source *from, size_t size) {
    const char *name = name_of(from->name);
    if (name == NULL) {
        return NULL;
    }
    if (from->create != Py_None && !PyBool_Check(from->create)) {
        PyErr_Format(PyExc_TypeError, "create must be a bool or None, not %.200s",
                     Py_TYPE(from->create)->tp_name);
        return NULL;
    }
    atoll_shm_way way = from->create == Py_None   ? ATOLL_SHM_EITHER
                        : from->create == Py_True ? ATOLL_SHM_MAKE
                                                  : ATOLL_SHM_FIND;
    if (size == SIZE_MAX) {
        way = ATOLL_SHM_FIND;
    }
    if (size == 0) {
        PyErr_Format(PyExc_ValueError, "memory with a name has at least one byte: %R", from->name);
        return NULL;
    }
    atoll_shared *block = NULL;
    int error = open_detached(name, way, size, &block);
    if (error == ENOMEM) {
        PyErr_NoMemory();
    } else if (error == ENODATA) {
        PyErr_Format(PyExc_ValueError, "shared memory %R is empty: whoever made it has not given it a size",
                     from->name);
    } else if (error == ENOENT && way != ATOLL_SHM_FIND) {
        PyObject *exc =
            PyObject_CallFunction(PyExc_OSError, "isO", error,
                                  "there is no place for memory with a name, which is /dev/shm", from->name);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    } else if (error != 0) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, from->name);
    } else if (size != SIZE_MAX && block->size < size) {
        PyErr_Format(PyExc_ValueError, "shared memory %R has %zu bytes, and %zu are asked for", from->name,
                     block->size, size);
        atoll_shared_release(block);
        block = NULL;
    }
    return block;
}

atoll_shared *atoll_pyshared_find(PyObject *name) {
    source from = {name, Py_False};
    return open_named(&from, SIZE_MAX);
}

static atoll_shared *open_block(const source *from, size_t size) {
    if (from->name != Py_None) {
        return open_named(from, size);
    }
    if (from->create != Py_None) {
        PyErr_SetString(PyExc_TypeError, "create is for memory with a name");
        return NULL;
    }
    atoll_shared *block = atoll_shared_new(size);
    if (block == NULL) {
        PyErr_Format(PyExc_MemoryError, "%zu bytes of shared memory are not to be had", size);
    }
    return block;
}

/* A size that the user gives; -1 with an exception that names it. */
static Py_ssize_t size_from(PyObject *value, const char *what) {
    if (!PyIndex_Check(value) || PyBool_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %.200s", what, Py_TYPE(value)->tp_name);
        return -1;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Format(PyExc_ValueError, "%s is out of range: %S", what, value);
        }
        return -1;
    }
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "%s must not be negative: %zd", what, size);
        return -1;
    }
    return size;
}

PyObject *atoll_pyshared_buffer_of(PyTypeObject *type, atoll_shared *block, size_t size) {
    atoll_pyshared *self = atoll_pyshared_make(type, block, 1, "B");
    if (self != NULL) {
        self->g.itemsize = 1;
        self->g.len = self->g.shape[0] = (Py_ssize_t)size;
        self->g.strides[0] = 1;
    }
    return (PyObject *)self;
}

static const source nowhere = {Py_None, Py_None};

/* A new, packed object with a copy of what a buffer has; takes over the object, also on failure.  NULL with an exception. */
static PyObject *filled(PyObject *self, const Py_buffer *from) {
    if (self != NULL && ((atoll_pyshared *)self)->g.len != from->len) {
        PyErr_Format(PyExc_ValueError, "shared memory of %zd bytes is to have a content of %zd",
                     ((atoll_pyshared *)self)->g.len, from->len);
        Py_CLEAR(self);
    }
    if (self != NULL && atoll_geometry_copy(((atoll_pyshared *)self)->g.data, from) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

/* The bytes of a buffer, whatever its elements are, as a new object of SharedBuffer. */
static PyObject *buffer_from(PyTypeObject *type, const Py_buffer *from) {
    atoll_shared *block = open_block(&nowhere, (size_t)from->len);
    return filled(block != NULL ? atoll_pyshared_buffer_of(type, block, block->size) : NULL, from);
}

PyObject *atoll_pyshared_buffer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"nbytes", "name", "create", NULL};
    PyObject *nbytes = NULL;
    source from = {Py_None, Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$OO:SharedBuffer", keywords, &nbytes, &from.name,
                                     &from.create)) {
        return NULL;
    }
    nbytes = nbytes == Py_None ? NULL : nbytes;
    if (nbytes == NULL && (from.name == Py_None || from.create == Py_True)) {
        PyErr_SetString(PyExc_TypeError,
                        "SharedBuffer() needs nbytes, unless it is to find memory by its name");
        return NULL;
    }
    size_t size = SIZE_MAX;
    if (nbytes != NULL) {
        Py_ssize_t given = size_from(nbytes, "nbytes");
        if (given < 0) {
            return NULL;
        }
        size = (size_t)given;
    }
    atoll_shared *block = open_block(&from, size);
    return block != NULL ? atoll_pyshared_buffer_of(type, block, size == SIZE_MAX ? block->size : size)
                         : NULL;
}

const char atoll_pyshared_from_bytes_doc[] =
    "from_bytes($type, data, /)\n--\n\n"
    "Return a new SharedBuffer with a copy of data, which is bytes or has a buffer.";

PyObject *atoll_pyshared_from_bytes(PyObject *type, PyObject *data) {
    Py_buffer b;
    if (!PyObject_CheckBuffer(data)) {
        PyErr_Format(PyExc_TypeError, "data must be bytes or have a buffer, not %.200s",
                     Py_TYPE(data)->tp_name);
        return NULL;
    }
    if (PyObject_GetBuffer(data, &b, PyBUF_FULL_RO) < 0) {
        return NULL;
    }
    PyObject *self = NULL;
    if (atoll_geometry_has_pointers(b.format)) {
        PyErr_SetString(PyExc_TypeError, "data holds pointers to Python objects (format 'O')");
    } else {
        self = buffer_from((PyTypeObject *)type, &b);
    }
    PyBuffer_Release(&b);
    return self;
}

int atoll_pyshared_sizes(PyObject *shape, Py_ssize_t sizes[PyBUF_MAX_NDIM]) {
    if (PyIndex_Check(shape)) {
        sizes[0] = size_from(shape, "shape");
        if (sizes[0] >= 0) {
            return 1;
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError) || !PySequence_Check(shape)) {
            return -1;
        }
        PyErr_Clear(); /* an array of numpy's has the method of an index whatever it is */
    }
    if (!PySequence_Check(shape) || PyUnicode_Check(shape) || PyBytes_Check(shape)) {
        PyErr_Format(PyExc_TypeError, "shape must be an int or a sequence of ints, not %.200s",
                     Py_TYPE(shape)->tp_name);
        return -1;
    }
    PyObject *items = PySequence_Tuple(shape);
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    if (n > PyBUF_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "shape has %zd dimensions, and there may be %d", n, PyBUF_MAX_NDIM);
        n = -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        char what[32];
        (void)snprintf(what, sizeof what, "shape[%zd]", i);
        sizes[i] = size_from(PyTuple_GET_ITEM(items, i), what);
        if (sizes[i] < 0) {
            n = -1;
        }
    }
    Py_DECREF(items);
    return (int)n;
}

/* A new, packed array.  `from` has the memory: which comes first, as others run meanwhile and must not find an array without. */
static PyObject *array_of(PyTypeObject *type, const source *from, PyObject *shape, int ndim,
                          Py_ssize_t *sizes, const char *format, Py_ssize_t itemsize) {
    Py_ssize_t strides[PyBUF_MAX_NDIM];
    atoll_geometry layout = {.ndim = ndim, .shape = sizes, .strides = strides, .itemsize = itemsize};
    if (atoll_geometry_pack(&layout) < 0) {
        PyErr_Format(PyExc_ValueError, "shape %R is too large: it has more bytes than an address has", shape);
        return NULL;
    }
    atoll_shared *block = open_block(from, (size_t)layout.len);
    atoll_pyshared *self = block != NULL ? atoll_pyshared_make(type, block, ndim, format) : NULL;
    if (self != NULL) {
        self->g.len = layout.len;
        self->g.itemsize = itemsize;
        for (int i = 0; i < ndim; i++) {
            self->g.shape[i] = sizes[i];
            self->g.strides[i] = strides[i];
        }
    }
    return (PyObject *)self;
}

PyObject *atoll_pyshared_array_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"shape", "dtype", "name", "create", NULL};
    PyObject *shape;
    PyObject *dtype = (PyObject *)&PyFloat_Type;
    source from = {Py_None, Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OO:SharedArray", keywords, &shape, &dtype, &from.name,
                                     &from.create)) {
        return NULL;
    }
    Py_ssize_t sizes[PyBUF_MAX_NDIM];
    int ndim = atoll_pyshared_sizes(shape, sizes);
    atoll_dtype element;
    if (ndim < 0 || atoll_dtype_parse(dtype, &element) < 0) {
        return NULL;
    }
    PyObject *self = array_of(type, &from, shape, ndim, sizes, element.format, element.itemsize);
    atoll_dtype_clear(&element);
    return self;
}

/* ---- sharing what is there ---- */

PyObject *atoll_pyshared_packed(PyTypeObject *type, const Py_buffer *from) {
    return filled(array_of(type, &nowhere, Py_None, from->ndim, from->shape, from->format, from->itemsize),
                  from);
}

PyObject *atoll_pyshared_copy(atoll_state *state, PyObject *obj) {
    Py_buffer b;
    if (PyObject_GetBuffer(obj, &b, PyBUF_FULL_RO) < 0) {
        return NULL;
    }
    const char *format = atoll_dtype_usual(b.format != NULL ? b.format : "B", b.itemsize);
    bool plain = PyBytes_Check(obj) || PyByteArray_Check(obj) || PyMemoryView_Check(obj) ||
                 Py_IS_TYPE(obj, state->shared_buffer_type);
    bool bytes = plain && b.ndim == 1 && strcmp(format, "B") == 0;
    PyObject *self = NULL;
    if (atoll_geometry_has_pointers(format)) {
        PyErr_Format(PyExc_TypeError,
                     "the %.200s holds pointers to Python objects, which belong to one interpreter",
                     Py_TYPE(obj)->tp_name);
    } else if (strspn(format, "0123456789x") == strlen(format)) {
        PyErr_Format(PyExc_TypeError, "the elements of the %.200s are raw bytes ('V')",
                     Py_TYPE(obj)->tp_name);
    } else if (b.itemsize == 0) {
        PyErr_Format(PyExc_TypeError, "the elements of the %.200s have no bytes", Py_TYPE(obj)->tp_name);
    } else if (!atoll_dtype_is_true(format, b.itemsize)) {
        PyErr_Format(PyExc_TypeError, "the %.200s says that elements of format '%s' have %zd bytes",
                     Py_TYPE(obj)->tp_name, format, b.itemsize);
    } else if (bytes) {
        self = buffer_from(state->shared_buffer_type, &b);
    } else {
        self = filled(array_of(state->shared_array_type, &nowhere, obj, b.ndim, b.shape, format, b.itemsize),
                      &b);
    }
    PyBuffer_Release(&b);
    return self;
}

static PyObject *share(atoll_state *state, PyObject *obj) {
    if (Py_IS_TYPE(obj, state->shared_buffer_type) || Py_IS_TYPE(obj, state->shared_array_type)) {
        return Py_NewRef(obj);
    }
    PyObject *lent;
    int found = atoll_lent_share(state, obj, false, &lent);
    if (found == 0 && PyObject_CheckBuffer(obj)) {
        PyObject *copy = atoll_pyshared_copy(state, obj);
        if (copy == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) { /* numpy's, of dates */
            (void)atoll_dtype_explain(obj, "shared", "share");
        }
        return copy;
    }
    found = found == 0 ? atoll_lent_share(state, obj, true, &lent) : found;
    if (found == 0) {
        PyErr_Format(
            PyExc_TypeError,
            "obj must have memory that can be shared, not be of type %.200s: that has no buffer, and "
            "offers neither Arrow nor DLPack",
            Py_TYPE(obj)->tp_name);
    }
    return found > 0 ? lent : NULL;
}

/* ---- crossing ---- */

static int pyshared_encode(atoll_encoder *enc, PyObject *raw) {
    atoll_pyshared *self = (atoll_pyshared *)raw;
    atoll_message *msg = atoll_encoder_message(enc);
    Py_buffer b = atoll_geometry_buffer(&self->g);
    atoll_shared_retain(self->block);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_shared_class, self->block));
    atoll_put_u64(&msg->body, self->block->serial);
    atoll_geometry_put(&msg->body, &b, self->g.data - (char *)self->block->data);
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void atoll_pyshared_put(atoll_message *msg, atoll_shared *block) {
    Py_ssize_t size = (Py_ssize_t)block->size;
    Py_ssize_t stride = 1;
    char format[] = "B";
    const Py_buffer b = {.len = size,
                         .itemsize = 1,
                         .readonly = block->fixed,
                         .ndim = 1,
                         .format = format,
                         .shape = &size,
                         .strides = &stride};
    atoll_codec_put_hook(msg, ATOLL_HOOK_SHARED_BUFFER);
    atoll_shared_retain(block);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_shared_class, block));
    atoll_put_u64(&msg->body, block->serial);
    atoll_geometry_put(&msg->body, &b, 0);
}

atoll_shared *atoll_pyshared_peek(const atoll_message *msg, atoll_reader *rd, void **data, size_t *size,
                                  bool *readonly) {
    uint32_t index = atoll_get_u32(rd);
    (void)atoll_get_u64(rd);
    atoll_shared *block = atoll_message_handle(msg, index, &atoll_shared_class);
    int64_t offset;
    if (block == NULL || !atoll_geometry_peek(rd, &offset, size, readonly) || offset < 0 ||
        (size_t)offset > block->size || *size > block->size - (size_t)offset) {
        return NULL;
    }
    *data = block->data + offset;
    *readonly |= block->fixed;
    return block;
}

static PyObject *pyshared_decode(atoll_decoder *dec, PyTypeObject *type) {
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint32_t index = atoll_get_u32(rd);
    uint64_t serial = atoll_get_u64(rd);
    atoll_shared *block =
        rd->failed ? NULL : atoll_message_handle(atoll_decoder_message(dec), index, &atoll_shared_class);
    if (block == NULL || block->serial != serial) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared memory");
        return NULL;
    }
    atoll_pyshared *self = (atoll_pyshared *)type->tp_alloc(type, 0);
    int64_t offset;
    if (self == NULL || atoll_geometry_get(rd, &self->g, &offset) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    if (!atoll_geometry_fits(&self->g, offset, 0, (int64_t)block->size)) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared memory out of bounds");
        Py_DECREF(self);
        return NULL;
    }
    atoll_shared_retain(block);
    self->block = block;
    self->g.data = (char *)block->data + offset;
    if (block->fixed) {
        self->g.readonly = true;
        atoll_decoder_note_array(dec);
    }
    return (PyObject *)self;
}

static PyObject *buffer_decode(atoll_decoder *dec) {
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    return state != NULL ? pyshared_decode(dec, state->shared_buffer_type) : NULL;
}

static PyObject *array_decode(atoll_decoder *dec) {
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    return state != NULL ? pyshared_decode(dec, state->shared_array_type) : NULL;
}

static const atoll_codec_hook buffer_hook = {ATOLL_HOOK_SHARED_BUFFER, pyshared_encode, buffer_decode};
static const atoll_codec_hook array_hook = {ATOLL_HOOK_SHARED_ARRAY, pyshared_encode, array_decode};

int atoll_pyshared_add_hooks(atoll_state *state) {
    return atoll_codec_add_hook(state->codec, state->shared_buffer_type, &buffer_hook) < 0
               ? -1
               : atoll_codec_add_hook(state->codec, state->shared_array_type, &array_hook);
}

/* ---- functions of the module ---- */

PyDoc_STRVAR(
    share_doc,
    "share($module, obj, /)\n--\n\n"
    "Return the content of obj in memory that all interpreters share.\n\n"
    "* Of bytes, bytearray and memoryview it is a SharedBuffer: the one copy that is made.\n"
    "* Of a numpy array, and whatever else has a buffer, it is a SharedArray of the same shape and dtype:\n"
    "  the one copy.\n"
    "* Of what offers the Arrow C data interface (pyarrow, polars) it is a SharedArrow or a\n"
    "  SharedArrowStream: without a copy, and released in this interpreter.\n"
    "* Of what offers DLPack (torch) it is a SharedTensor: likewise without a copy.\n"
    "* What is shared already is returned as it is.\n\n"
    "Raises TypeError for what has none of these, or holds pointers to Python objects.");

static PyObject *module_share(PyObject *module, PyObject *obj) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    return state != NULL ? share(state, obj) : NULL;
}

PyDoc_STRVAR(figures_doc, "_shared_memory($module, /)\n--\n\n"
                          "Return how many blocks of shared memory the process has, and their bytes.");

static PyObject *module_figures(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    atoll_shared_figures figures = atoll_shared_count();
    return Py_BuildValue("KK", (unsigned long long)figures.blocks, (unsigned long long)figures.bytes);
}

PyMethodDef atoll_pyshared_functions[] = {
    {"share", module_share, METH_O, share_doc},
    {"_shared_memory", module_figures, METH_NOARGS, figures_doc},
    {NULL, NULL, 0, NULL},
};
