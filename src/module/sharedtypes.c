/* The types SharedBuffer and SharedArray: attributes, views of the same memory, comparison, pickle. */
#include "module/pyshared.h"

#include <errno.h>
#include <structmember.h>

static atoll_pyshared *of(PyObject *self) { return (atoll_pyshared *)self; }

/* ---- attributes ---- */

static PyObject *get_nbytes(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(of(self)->g.len);
}

static PyObject *get_itemsize(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(of(self)->g.itemsize);
}

static PyObject *get_ndim(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLong(of(self)->g.ndim);
}

static PyObject *get_size(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(of(self)->g.len / of(self)->g.itemsize);
}

static PyObject *get_readonly(PyObject *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(of(self)->g.readonly);
}

static PyObject *get_shape(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pyshared_tuple(of(self)->g.shape, of(self)->g.ndim);
}

static PyObject *get_strides(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pyshared_tuple(of(self)->g.strides, of(self)->g.ndim);
}

static PyObject *get_format(PyObject *self, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(of(self)->g.format);
}

static PyObject *get_dtype(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_dtype_name(of(self)->g.format);
}

static PyObject *get_name(PyObject *self, void *Py_UNUSED(closure)) {
    const char *name = atoll_shared_name(of(self)->block);
    return name != NULL ? PyUnicode_FromString(name) : Py_NewRef(Py_None);
}

static PyObject *get_transposed(PyObject *raw, void *Py_UNUSED(closure)) {
    const atoll_pyshared *self = of(raw);
    atoll_pyshared *view = atoll_pyshared_derive(self, self->g.ndim);
    for (int i = 0; view != NULL && i < self->g.ndim; i++) {
        view->g.shape[i] = self->g.shape[self->g.ndim - 1 - i];
        view->g.strides[i] = self->g.strides[self->g.ndim - 1 - i];
    }
    return (PyObject *)view;
}

/* ---- views and copies ---- */

static PyObject *same_view(const atoll_pyshared *self) {
    atoll_pyshared *view = atoll_pyshared_derive(self, self->g.ndim);
    for (int i = 0; view != NULL && i < self->g.ndim; i++) {
        view->g.shape[i] = self->g.shape[i];
        view->g.strides[i] = self->g.strides[i];
    }
    return (PyObject *)view;
}

PyDoc_STRVAR(toreadonly_doc,
             "toreadonly($self, /)\n--\n\nReturn an object that shows the same memory and cannot change it.");

static PyObject *toreadonly(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *view = same_view(of(self));
    if (view != NULL) {
        of(view)->g.readonly = true;
    }
    return view;
}

PyDoc_STRVAR(tobytes_doc, "tobytes($self, /)\n--\n\nReturn a copy of the content, the last index fastest.");

static PyObject *tobytes(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    Py_buffer b = atoll_geometry_buffer(&of(self)->g);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, b.len);
    if (bytes != NULL && atoll_geometry_copy(PyBytes_AS_STRING(bytes), &b) < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

PyDoc_STRVAR(copy_doc,
             "copy($self, /)\n--\n\nReturn a copy in new memory without a name, which can be changed.");

static PyObject *copy(PyObject *raw, PyObject *Py_UNUSED(ignored)) {
    const atoll_pyshared *self = of(raw);
    Py_buffer b = atoll_geometry_buffer(&self->g);
    return atoll_pyshared_packed(Py_TYPE(raw), &b);
}

/* For the copy module, to which what never changes is its own copy. */
static PyObject *copy_unless_frozen(PyObject *raw, PyObject *ignored) {
    return atoll_pyshared_is_frozen(raw) ? Py_NewRef(raw) : copy(raw, ignored);
}

PyDoc_STRVAR(tolist_doc, "tolist($self, /)\n--\n\nReturn the elements as Python objects, in lists of lists.");

PyDoc_STRVAR(reshape_doc,
             "reshape($self, /, *shape)\n--\n\n"
             "Return an object that shows the same memory with another shape; one of the sizes may be -1.\n"
             "ValueError when the sizes do not fit, or when the elements do not lie one after the other.");

static PyObject *reshape(PyObject *raw, PyObject *args) {
    const atoll_pyshared *self = of(raw);
    PyObject *shape = PyTuple_GET_SIZE(args) == 1 && PySequence_Check(PyTuple_GET_ITEM(args, 0))
                          ? PySequence_Tuple(PyTuple_GET_ITEM(args, 0))
                          : Py_NewRef(args);
    if (shape == NULL) {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(shape);
    Py_ssize_t sizes[PyBUF_MAX_NDIM] = {0};
    Py_ssize_t count = self->g.len / self->g.itemsize;
    Py_ssize_t known = 1;
    Py_ssize_t open = -1;
    bool fits = n <= PyBUF_MAX_NDIM;
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        sizes[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(shape, i), PyExc_ValueError);
        if (sizes[i] == -1 && PyErr_Occurred()) {
            Py_DECREF(shape);
            return NULL;
        }
        if (sizes[i] == -1 && open < 0) {
            open = i;
        } else {
            fits = sizes[i] >= 0 && !__builtin_mul_overflow(known, sizes[i], &known);
        }
    }
    if (fits && open >= 0) {
        fits = known != 0 && count % known == 0;
        sizes[open] = fits ? count / known : 0;
    } else {
        fits = fits && known == count;
    }
    PyObject *view = NULL;
    Py_buffer b = atoll_geometry_buffer(&self->g);
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "an array of %zd elements has no shape %R", count, shape);
    } else if (!PyBuffer_IsContiguous(&b, 'C')) {
        PyErr_SetString(PyExc_ValueError, "the elements do not lie one after the other; those of copy() do");
    } else {
        view = (PyObject *)atoll_pyshared_derive(self, (int)n);
    }
    Py_DECREF(shape);
    if (view != NULL) {
        memcpy(of(view)->g.shape, sizes, (size_t)n * sizeof *sizes);
        (void)atoll_geometry_pack(&of(view)->g); /* it has as many bytes as before */
    }
    return view;
}

PyDoc_STRVAR(
    unlink_doc,
    "unlink($self, /)\n--\n\n"
    "Remove the name, so that it is not found any more and may be given anew. Who has the memory keeps it.\n"
    "FileNotFoundError when the name is gone, ValueError for memory that has none.");

static PyObject *unlink_name(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_shared_name(of(self)->block) == NULL) {
        PyErr_SetString(PyExc_ValueError, "this shared memory has no name");
        return NULL;
    }
    int error = atoll_shared_unlink(of(self)->block);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, atoll_shared_name(of(self)->block));
    }
    Py_RETURN_NONE;
}

/* ---- what they say of themselves; comparison ---- */

static PyObject *with_name(const atoll_pyshared *self, PyObject *text) {
    const char *name = atoll_shared_name(self->block);
    PyObject *word = text != NULL && name != NULL ? PyUnicode_FromString(name) : NULL;
    if (word != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("%U, name=%R", text, word));
        Py_DECREF(word);
    }
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat(self->g.readonly ? "<%U), read-only>" : "%U)", text));
    }
    return text;
}

static PyObject *buffer_repr(PyObject *self) {
    return with_name(of(self), PyUnicode_FromFormat("SharedBuffer(%zd", of(self)->g.len));
}

static PyObject *array_repr(PyObject *self) {
    PyObject *shape = get_shape(self, NULL);
    PyObject *dtype = shape != NULL ? get_dtype(self, NULL) : NULL;
    PyObject *text = dtype != NULL ? PyUnicode_FromFormat("SharedArray(%R, %R", shape, dtype) : NULL;
    Py_XDECREF(shape);
    Py_XDECREF(dtype);
    return with_name(of(self), text);
}

static bool same_shape(const Py_buffer *one, const Py_buffer *other) {
    bool same = one->ndim == other->ndim;
    for (int i = 0; same && i < one->ndim; i++) {
        same = one->shape[i] == other->shape[i];
    }
    return same;
}

/* What two objects give, which may be NULL with an exception and are taken over: whether they are equal, or -1. */
static int equal_parts(PyObject *left, PyObject *right) {
    int equal = left != NULL && right != NULL ? PyObject_RichCompareBool(left, right, Py_EQ) : -1;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return equal;
}

/* Below this dimension; both have the same shape, and formats as atoll_element_get() has them. */
static int equal_elements(const Py_buffer *one, const char *at, const Py_buffer *other, const char *there,
                          int dimension) {
    if (dimension == one->ndim) {
        PyObject *left = atoll_element_get(one->format, one->itemsize, at);
        return equal_parts(left,
                           left != NULL ? atoll_element_get(other->format, other->itemsize, there) : NULL);
    }
    int equal = 1;
    for (Py_ssize_t i = 0; equal > 0 && i < one->shape[dimension]; i++) {
        equal = equal_elements(one, at + i * one->strides[dimension], other,
                               there + i * other->strides[dimension], dimension + 1);
    }
    return equal;
}

static PyObject *bytes_of(PyObject *view) { return PyObject_CallMethod(view, "tobytes", NULL); }

/* The buffer of a memoryview, with the usual format. */
static Py_buffer usual_buffer(PyObject *view) {
    Py_buffer b = *PyMemoryView_GET_BUFFER(view);
    b.format = (char *)(uintptr_t)atoll_dtype_usual(b.format, b.itemsize);
    return b;
}

/* Whether what memoryview calls different are elements that it cannot read, and are equal: complex numbers, or the same bytes of the same
 * format. */
static int equal_unread(PyObject *mine, PyObject *theirs) {
    const Py_buffer one = usual_buffer(mine);
    const Py_buffer other = usual_buffer(theirs);
    if (!same_shape(&one, &other) || other.suboffsets != NULL ||
        !atoll_dtype_is_true(other.format, other.itemsize)) {
        return 0;
    }
    char kinds[] = {atoll_dtype_kind(one.format), atoll_dtype_kind(other.format), '\0'};
    if (strlen(kinds) == 2 && strchr(kinds, 'c') != NULL) {
        return equal_elements(&one, one.buf, &other, other.buf, 0);
    }
    if (strlen(kinds) == 2 || strcmp(one.format, other.format) != 0 || one.itemsize != other.itemsize) {
        return 0;
    }
    int known = atoll_dtype_is_known(one.format);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    PyObject *left = bytes_of(mine);
    return equal_parts(left, left != NULL ? bytes_of(theirs) : NULL);
}

/* As memoryview compares: same shape, equal elements.  What does not give its memory may know how it compares. */
static PyObject *compare(PyObject *self, PyObject *other, int op) {
    if ((op != Py_EQ && op != Py_NE) || !PyObject_CheckBuffer(other)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *mine = PyMemoryView_FromObject(self);
    PyObject *theirs = mine != NULL ? PyMemoryView_FromObject(other) : NULL;
    if (mine != NULL && theirs == NULL && !atoll_error_is_urgent()) {
        PyErr_Clear();
        Py_DECREF(mine);
        Py_RETURN_NOTIMPLEMENTED;
    }
    int equal = theirs != NULL ? PyObject_RichCompareBool(mine, theirs, Py_EQ) : -1;
    if (equal == 0) {
        equal = equal_unread(mine, theirs);
    }
    Py_XDECREF(theirs);
    Py_XDECREF(mine);
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *iterate(PyObject *self) {
    if (of(self)->g.ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "an array without dimensions has no items; its element is a[()]");
        return NULL;
    }
    return PySeqIter_New(self);
}

/* ---- the types ---- */

#define COMMON_GETSET                                                                                        \
    {"nbytes", get_nbytes, NULL, "The bytes of all elements.", NULL},                                        \
        {"readonly", get_readonly, NULL, "Whether the memory cannot be changed through this object.", NULL}, \
    {                                                                                                        \
        "name", get_name, NULL, "The name by which other processes find the memory, or None.", NULL          \
    }

static PyGetSetDef buffer_getset[] = {
    COMMON_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef array_getset[] = {
    COMMON_GETSET,
    {"shape", get_shape, NULL, "The size of each dimension.", NULL},
    {"strides", get_strides, NULL, "The bytes from one element to the next, for each dimension.", NULL},
    {"ndim", get_ndim, NULL, "The number of dimensions.", NULL},
    {"size", get_size, NULL, "The number of elements.", NULL},
    {"itemsize", get_itemsize, NULL, "The bytes of one element.", NULL},
    {"dtype", get_dtype, NULL, "What the elements are: numpy's name for it, or a format of struct.", NULL},
    {"format", get_format, NULL, "The same as a format of the buffer protocol.", NULL},
    {"T", get_transposed, NULL, "The same memory with its dimensions in reverse order.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* clang-format off */
#define COMMON_METHODS \
    {"toreadonly", toreadonly, METH_NOARGS, toreadonly_doc}, \
    {"tobytes", tobytes, METH_NOARGS, tobytes_doc}, \
    {"copy", copy, METH_NOARGS, copy_doc}, \
    {"unlink", unlink_name, METH_NOARGS, unlink_doc}, \
    {"__copy__", copy_unless_frozen, METH_NOARGS, "As copy(); itself, where it is part of a frozen object."}, \
    {"__deepcopy__", copy_unless_frozen, METH_O, "As copy(); itself, where it is part of a frozen object."}, \
    {"__reduce_ex__", atoll_pyshared_reduce, METH_O, atoll_pyshared_reduce_doc}, \
    {"__dlpack__", (PyCFunction)(void (*)(void))atoll_pyshared_dlpack, METH_VARARGS | METH_KEYWORDS, atoll_pyshared_dlpack_doc}, \
    {"__dlpack_device__", atoll_pyshared_dlpack_device, METH_NOARGS, atoll_pyshared_dlpack_device_doc}
/* clang-format on */

static PyMethodDef buffer_methods[] = {
    COMMON_METHODS,
    {"from_bytes", atoll_pyshared_from_bytes, METH_O | METH_CLASS, atoll_pyshared_from_bytes_doc},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef array_methods[] = {
    COMMON_METHODS,
    {"tolist", atoll_pyshared_tolist, METH_NOARGS, tolist_doc},
    {"reshape", reshape, METH_VARARGS, reshape_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(atoll_pyshared, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    buffer_doc,
    "SharedBuffer(nbytes=None, *, name=None, create=None)\n--\n\n"
    "Zero-filled memory that belongs to no interpreter: all that it is sent to see the same bytes.\n\n"
    "It has the buffer protocol; an int as index is a byte, a slice another SharedBuffer of the same memory. "
    "It\n"
    "is freed with its last reference in any interpreter. name: memory that other processes see under this "
    "name,\n"
    "as those of multiprocessing.shared_memory do; the process that made it removes the name with its last\n"
    "reference, or at its end. create: True to make it (FileExistsError), False to find it\n"
    "(FileNotFoundError), None to find it or else make it. Without nbytes: all of what has this name.\n"
    "Raises ValueError for sizes and names that cannot be, MemoryError when there is no memory.");

PyDoc_STRVAR(
    array_doc,
    "SharedArray(shape, dtype='float64', *, name=None, create=None)\n--\n\n"
    "An array in zero-filled memory that belongs to no interpreter: all that it is sent to see the same.\n\n"
    "shape: an int or a sequence of ints.\n"
    "dtype: a dtype of numpy or its name ('float64', '<f8'), a format of the module struct ('d'), float,\n"
    "int, bool or complex.\n"
    "name and create: see SharedBuffer.\n\n"
    "It has the buffer protocol, so that numpy.asarray() and memoryview() show the same memory; indices\n"
    "are ints, slices, Ellipsis and None, and what is not one element is another SharedArray of the same\n"
    "memory.\n\n"
    "Raises TypeError for a dtype that cannot be shared, ValueError for sizes and names that cannot be,\n"
    "MemoryError when there is no memory.");

/* clang-format off */
#define COMMON_SLOTS \
    {Py_tp_dealloc, atoll_pyshared_dealloc}, {Py_tp_traverse, atoll_pyshared_traverse}, \
    {Py_tp_richcompare, compare}, {Py_tp_hash, PyObject_HashNotImplemented}, {Py_tp_members, members}, \
    {Py_bf_getbuffer, atoll_pyshared_getbuffer}, \
    {Py_mp_length, atoll_pyshared_length}, {Py_mp_subscript, atoll_pyshared_get_item}, \
    {Py_mp_ass_subscript, atoll_pyshared_set_item}, {Py_tp_iter, iterate}, {Py_sq_length, atoll_pyshared_length}, \
    {Py_sq_item, atoll_pyshared_sequence_item}
/* clang-format on */

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, (void *)buffer_doc},
    COMMON_SLOTS,
    {Py_tp_new, atoll_pyshared_buffer_new},
    {Py_tp_repr, buffer_repr},
    {Py_tp_methods, buffer_methods},
    {Py_tp_getset, buffer_getset},
    {0, NULL},
};

static PyType_Slot array_slots[] = {
    {Py_tp_doc, (void *)array_doc},
    COMMON_SLOTS,
    {Py_tp_new, atoll_pyshared_array_new},
    {Py_tp_repr, array_repr},
    {Py_tp_methods, array_methods},
    {Py_tp_getset, array_getset},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "atoll.SharedBuffer",
    .basicsize = sizeof(atoll_pyshared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

static PyType_Spec array_spec = {
    .name = "atoll.SharedArray",
    .basicsize = sizeof(atoll_pyshared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = array_slots,
};

int atoll_pyshared_add(atoll_state *state, PyObject *module) {
    state->shared_buffer_type = (PyTypeObject *)PyType_FromSpec(&buffer_spec);
    state->shared_array_type = (PyTypeObject *)PyType_FromSpec(&array_spec);
    if (state->shared_buffer_type == NULL || state->shared_array_type == NULL ||
        PyModule_AddType(module, state->shared_buffer_type) < 0 ||
        PyModule_AddType(module, state->shared_array_type) < 0 || atoll_pyshared_add_hooks(state) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, atoll_pyshared_functions) < 0
               ? -1
               : PyModule_AddFunctions(module, atoll_pyshared_pickle_functions);
}
