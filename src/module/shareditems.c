/* Indices, slices, assignment and lists of SharedBuffer and SharedArray.
 *
 * An index is what numpy calls a basic one: ints, slices, Ellipsis and None.  It leads to an element, or to another object that
 * shows the same memory.  What is assigned is an element (which all that the index shows becomes), a buffer of the same shape, or
 * nested sequences of it.  A buffer of the same format is copied as memory, through a copy where the two overlap; anything else element by
 * element, of which each has to fit before any is written.
 */
#include "module/pyshared.h"

/* ---- copying ---- */

static bool overlaps(const Py_buffer *one, const Py_buffer *other) {
    int64_t low[2];
    int64_t high[2];
    atoll_geometry_extent(one, &low[0], &high[0]);
    atoll_geometry_extent(other, &low[1], &high[1]);
    const char *first = one->buf;
    const char *second = other->buf;
    return first + low[0] < second + high[1] && second + low[1] < first + high[0];
}

/* Same shape and format. */
static int copy_buffer(const atoll_geometry *g, const Py_buffer *from) {
    Py_buffer to = atoll_geometry_buffer(g);
    bool direct = PyBuffer_IsContiguous(from, 'C') && !overlaps(&to, from);
    if (direct && PyBuffer_IsContiguous(&to, 'C')) {
        return atoll_geometry_copy(g->data, from);
    }
    char *packed = from->buf;
    if (!direct) {
        packed = PyMem_RawMalloc((size_t)from->len + 1);
        if (packed == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    int rc = direct ? 0 : atoll_geometry_copy(packed, from);
    if (rc == 0) {
        rc = PyBuffer_FromContiguous(&to, packed, to.len, 'C');
    }
    if (!direct) {
        PyMem_RawFree(packed);
    }
    return rc;
}

/* Every element below this dimension becomes the one at `element`. */
static void spread(const atoll_geometry *g, int dimension, char *at, const char *element) {
    if (dimension == g->ndim) {
        memcpy(at, element, (size_t)g->itemsize);
        return;
    }
    Py_ssize_t n = g->shape[dimension];
    Py_ssize_t stride = g->strides[dimension];
    if (dimension == g->ndim - 1 &&
        stride == g->itemsize) { /* one after the other: what is done is copied, twice as much each time */
        memcpy(at, element, (size_t)stride);
        for (Py_ssize_t done = 1; done < n; done *= 2) {
            memcpy(at + done * stride, at, (size_t)((done < n - done ? done : n - done) * stride));
        }
        return;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        spread(g, dimension + 1, at + i * stride, element);
    }
}

static PyObject *list_of(const atoll_geometry *g, int dimension, const char *at);

/* The elements of a buffer that a memoryview has, as tolist() of an array has them: a list of lists, or of 0 dimensions one element. */
PyObject *atoll_pyshared_list(const Py_buffer *from) {
    const char *format = atoll_dtype_usual(from->format, from->itemsize);
    if (!atoll_dtype_is_true(format, from->itemsize)) {
        PyErr_Format(PyExc_ValueError, "a buffer says that elements of format '%s' have %zd bytes", format,
                     from->itemsize);
        return NULL;
    }
    const atoll_geometry g = {
        .data = from->buf,
        .itemsize = from->itemsize,
        .ndim = from->ndim,
        .format = (char *)(uintptr_t)format,
        .shape = from->shape,
        .strides = from->strides,
    };
    return list_of(&g, 0, g.data);
}

/* The element of what has 0 dimensions: a new reference, or NULL, without an exception where it is something else. */
static PyObject *only_element(PyObject *value) {
    PyObject *view = PyObject_CheckBuffer(value) ? PyMemoryView_FromObject(value) : NULL;
    bool is_one = view != NULL && PyMemoryView_GET_BUFFER(view)->ndim == 0;
    PyObject *element = is_one ? atoll_pyshared_list(PyMemoryView_GET_BUFFER(view)) : NULL;
    Py_XDECREF(view);
    if (element == NULL && PyErr_Occurred() && !atoll_error_is_urgent()) {
        PyErr_Clear();
    }
    return element;
}

/* One element, or what has 0 dimensions: an array, a number of ctypes. */
static int set_element(const atoll_geometry *g, char *at, PyObject *value) {
    int rc = atoll_element_set(g->format, g->itemsize, at, value);
    if (rc == 0 || !PyErr_ExceptionMatches(PyExc_TypeError)) {
        return rc;
    }
    PyObject *refusal = PyErr_GetRaisedException();
    PyObject *element = only_element(value);
    if (element == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetRaisedException(refusal);
            return -1;
        }
    } else {
        rc = atoll_element_set(g->format, g->itemsize, at, element);
    }
    Py_XDECREF(element);
    Py_DECREF(refusal);
    return rc;
}

static int set_all(const atoll_geometry *g, PyObject *value) {
    if (g->len == 0) {
        return 0;
    }
    char near[64];
    char *element = g->itemsize <= (Py_ssize_t)sizeof near ? near : PyMem_Malloc((size_t)g->itemsize);
    if (element == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = set_element(g, element, value);
    if (rc == 0) {
        spread(g, 0, g->data, element);
    }
    if (element != near) {
        PyMem_Free(element);
    }
    return rc;
}

static int wrong_length(int dimension, Py_ssize_t has, Py_ssize_t wants) {
    PyErr_Format(PyExc_ValueError, "the value has %zd items where dimension %d has %zd", has, dimension,
                 wants);
    return -1;
}

/* Nested sequences. */
static int set_nested(const atoll_geometry *g, int dimension, char *at, PyObject *value) {
    if (dimension == g->ndim) {
        return set_element(g, at, value);
    }
    PyObject *items = PySequence_Tuple(value); /* which code that runs meanwhile cannot change */
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    int rc = n == g->shape[dimension] ? 0 : wrong_length(dimension, n, g->shape[dimension]);
    for (Py_ssize_t i = 0; rc == 0 && i < n; i++) {
        rc = set_nested(g, dimension + 1, at + i * g->strides[dimension], PyTuple_GET_ITEM(items, i));
    }
    Py_DECREF(items);
    return rc;
}

/* All of them, or none when one of them does not fit: elements are made apart first. */
static int set_sequence(const atoll_geometry *g, PyObject *value) {
    Py_ssize_t strides[PyBUF_MAX_NDIM];
    atoll_geometry apart = *g;
    apart.strides = strides;
    apart.data = atoll_geometry_pack(&apart) == 0 ? PyMem_Malloc((size_t)apart.len + 1) : NULL;
    if (apart.data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = set_nested(&apart, 0, apart.data, value);
    if (rc == 0) {
        Py_buffer to = atoll_geometry_buffer(g);
        rc = PyBuffer_FromContiguous(&to, apart.data, to.len, 'C');
    }
    PyMem_Free(apart.data);
    return rc;
}

static bool same_format(const char *one, const char *other) {
    PyObject *a = atoll_dtype_name(one);
    PyObject *b = atoll_dtype_name(other);
    bool same = a != NULL && b != NULL && PyUnicode_Compare(a, b) == 0;
    Py_XDECREF(a);
    Py_XDECREF(b);
    PyErr_Clear();
    return same;
}

static int set_buffer(const atoll_geometry *g, PyObject *value, const Py_buffer *from) {
    if (from->ndim != g->ndim) {
        PyErr_Format(PyExc_ValueError, "the value has %d dimensions, not %d", from->ndim, g->ndim);
        return -1;
    }
    for (int i = 0; i < g->ndim; i++) {
        if (from->shape[i] != g->shape[i]) {
            return wrong_length(i, from->shape[i], g->shape[i]);
        }
    }
    if (from->itemsize == g->itemsize && from->suboffsets == NULL &&
        same_format(g->format,
                    from->format != NULL ? atoll_dtype_usual(from->format, from->itemsize) : "B")) {
        return copy_buffer(g, from);
    }
    PyObject *list =
        from->suboffsets == NULL ? atoll_pyshared_list(from) : PyObject_CallMethod(value, "tolist", NULL);
    int rc = list != NULL ? set_sequence(g, list) : -1;
    Py_XDECREF(list);
    return rc;
}

/* Whether value is one element, whatever else it is: bytes are where elements are bytes. */
static bool is_element(const atoll_geometry *g, PyObject *value) {
    size_t length = strlen(g->format);
    if (PyTuple_Check(value)) {
        return length > 1 && g->format[0] != 'Z' && strpbrk(g->format, "sc") == NULL && g->ndim == 0;
    }
    return PyBytes_Check(value) && (g->format[0] == 'c' || g->format[length - 1] == 's');
}

static int assign(const atoll_geometry *g, PyObject *value) {
    if (g->ndim == 0 || is_element(g, value)) {
        return set_all(g, value);
    }
    if (PyObject_CheckBuffer(value)) {
        PyObject *view = PyMemoryView_FromObject(value);
        if (view == NULL) {
            return -1;
        }
        const Py_buffer *from = PyMemoryView_GET_BUFFER(view);
        int rc = from->ndim == 0 ? set_all(g, value) : set_buffer(g, view, from);
        Py_DECREF(view);
        return rc;
    }
    if (PySequence_Check(value) && !PyUnicode_Check(value)) {
        return set_sequence(g, value);
    }
    return set_all(g, value);
}

/* ---- indices ---- */

static Py_ssize_t index_in(Py_ssize_t index, Py_ssize_t size, int dimension) {
    Py_ssize_t at = index < 0 ? index + size : index;
    if (at < 0 || at >= size) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of range for dimension %d, which has %zd", index,
                     dimension, size);
        return -1;
    }
    return at;
}

/* How many dimensions the parts of an index stand for; -1 with IndexError. */
static Py_ssize_t dimensions_of(PyObject *const *parts, Py_ssize_t n, int ndim, bool *has_ellipsis) {
    Py_ssize_t used = 0;
    *has_ellipsis = false;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (parts[i] == Py_Ellipsis) {
            if (*has_ellipsis) {
                PyErr_SetString(PyExc_IndexError, "an index has at most one Ellipsis ('...')");
                return -1;
            }
            *has_ellipsis = true;
        } else if (parts[i] != Py_None) {
            used++;
        }
    }
    if (used > ndim) {
        PyErr_Format(PyExc_IndexError, "the index is for %zd dimensions, and there %s %d", used,
                     ndim == 1 ? "is" : "are", ndim);
        return -1;
    }
    return used;
}

typedef struct {
    char *data;
    int ndim;
    bool is_element;
    Py_ssize_t shape[PyBUF_MAX_NDIM];
    Py_ssize_t strides[PyBUF_MAX_NDIM];
} selection;

static int add_dimension(selection *s, Py_ssize_t size, Py_ssize_t stride) {
    if (s->ndim == PyBUF_MAX_NDIM) {
        PyErr_Format(PyExc_IndexError, "an array has at most %d dimensions", PyBUF_MAX_NDIM);
        return -1;
    }
    s->shape[s->ndim] = size;
    s->strides[s->ndim++] = stride;
    return 0;
}

/* One part of the index, for this dimension. */
static int select_part(const atoll_geometry *g, PyObject *part, int dimension, selection *s) {
    Py_ssize_t size = g->shape[dimension];
    Py_ssize_t stride = g->strides[dimension];
    if (PySlice_Check(part)) {
        Py_ssize_t start;
        Py_ssize_t stop;
        Py_ssize_t step;
        if (PySlice_Unpack(part, &start, &stop, &step) < 0) {
            return -1;
        }
        Py_ssize_t count = PySlice_AdjustIndices(size, &start, &stop, step);
        Py_ssize_t wide;
        if (__builtin_mul_overflow(stride, step, &wide)) {
            wide = stride; /* one element at most */
        }
        s->data += count > 0 ? start * stride : 0;
        return add_dimension(s, count, wide);
    }
    if (!PyIndex_Check(part) || PyBool_Check(part)) {
        PyErr_Format(
            PyExc_TypeError,
            "an index is of ints, slices, Ellipsis and None, not %.200s (numpy.asarray() gives an array "
            "that takes others)",
            Py_TYPE(part)->tp_name);
        return -1;
    }
    Py_ssize_t index = PyNumber_AsSsize_t(part, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred()) {
        return -1;
    }
    index = index_in(index, size, dimension);
    if (index < 0) {
        return -1;
    }
    s->data += index * stride;
    return 0;
}

/* What key shows of g. 0, or -1 with an exception. */
static int select_key(const atoll_geometry *g, PyObject *key, selection *s) {
    PyObject *const *parts = PyTuple_Check(key) ? &PyTuple_GET_ITEM(key, 0) : &key;
    Py_ssize_t n = PyTuple_Check(key) ? PyTuple_GET_SIZE(key) : 1;
    bool has_ellipsis;
    Py_ssize_t used = dimensions_of(parts, n, g->ndim, &has_ellipsis);
    if (used < 0) {
        return -1;
    }
    s->data = g->data;
    s->ndim = 0;
    int dimension = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (parts[i] == Py_None) {
            if (add_dimension(s, 1, 0) < 0) {
                return -1;
            }
        } else if (parts[i] == Py_Ellipsis) {
            for (Py_ssize_t left = g->ndim - used; left > 0; left--, dimension++) {
                if (add_dimension(s, g->shape[dimension], g->strides[dimension]) < 0) {
                    return -1;
                }
            }
        } else if (select_part(g, parts[i], dimension++, s) < 0) {
            return -1;
        }
    }
    for (; dimension < g->ndim; dimension++) {
        if (add_dimension(s, g->shape[dimension], g->strides[dimension]) < 0) {
            return -1;
        }
    }
    s->is_element = s->ndim == 0 && !has_ellipsis;
    return 0;
}

/* What it shows as an object of the same type. */
static PyObject *show(const atoll_pyshared *self, const selection *s) {
    atoll_pyshared *part = atoll_pyshared_derive(self, s->ndim);
    if (part == NULL) {
        return NULL;
    }
    part->g.data = s->data;
    part->g.len = part->g.itemsize;
    for (int i = 0; i < s->ndim; i++) {
        part->g.shape[i] = s->shape[i];
        part->g.strides[i] = s->strides[i];
        part->g.len *= s->shape[i];
    }
    return (PyObject *)part;
}

static PyObject *item_at(PyObject *self, Py_ssize_t index) {
    const atoll_geometry *g = &((atoll_pyshared *)self)->g;
    if (g->ndim == 0) {
        PyErr_SetString(PyExc_IndexError, "an array without dimensions has no items; its element is a[()]");
        return NULL;
    }
    index = index_in(index, g->shape[0], 0);
    if (index < 0) {
        return NULL;
    }
    char *at = g->data + index * g->strides[0];
    if (g->ndim == 1) {
        return atoll_element_get(g->format, g->itemsize, at);
    }
    selection s;
    s.data = at;
    s.ndim = g->ndim - 1;
    memcpy(s.shape, g->shape + 1, (size_t)s.ndim * sizeof *s.shape);
    memcpy(s.strides, g->strides + 1, (size_t)s.ndim * sizeof *s.strides);
    return show((atoll_pyshared *)self, &s);
}

/* For C code, which has added the length to what was negative. */
PyObject *atoll_pyshared_sequence_item(PyObject *self, Py_ssize_t index) {
    if (index < 0) {
        PyErr_SetString(PyExc_IndexError, "the index is out of range");
        return NULL;
    }
    return item_at(self, index);
}

PyObject *atoll_pyshared_get_item(PyObject *self, PyObject *key) {
    const atoll_geometry *g = &((atoll_pyshared *)self)->g;
    if (PyLong_CheckExact(key) && g->ndim > 0) {
        Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
        return index == -1 && PyErr_Occurred() ? NULL : item_at(self, index);
    }
    selection s;
    if (select_key(g, key, &s) < 0) {
        return NULL;
    }
    return s.is_element ? atoll_element_get(g->format, g->itemsize, s.data)
                        : show((atoll_pyshared *)self, &s);
}

int atoll_pyshared_set_item(PyObject *self, PyObject *key, PyObject *value) {
    const atoll_geometry *g = &((atoll_pyshared *)self)->g;
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "parts of a %s cannot be deleted", Py_TYPE(self)->tp_name);
        return -1;
    }
    if (g->readonly) {
        PyErr_SetString(PyExc_TypeError, "the shared memory is read-only");
        return -1;
    }
    if (PyLong_CheckExact(key) && g->ndim == 1) {
        Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if ((index == -1 && PyErr_Occurred()) || (index = index_in(index, g->shape[0], 0)) < 0) {
            return -1;
        }
        return set_element(g, g->data + index * g->strides[0], value);
    }
    selection s;
    if (select_key(g, key, &s) < 0) {
        return -1;
    }
    if (s.is_element) {
        return set_element(g, s.data, value);
    }
    atoll_geometry part = *g; /* its arrays are those of `s` and, for the format, of g */
    part.data = s.data;
    part.ndim = s.ndim;
    part.shape = s.shape;
    part.strides = s.strides;
    part.len = g->itemsize;
    for (int i = 0; i < s.ndim; i++) {
        part.len *= s.shape[i];
    }
    return assign(&part, value);
}

/* ---- lists, length ---- */

static PyObject *list_of(const atoll_geometry *g, int dimension, const char *at) {
    if (dimension == g->ndim) {
        return atoll_element_get(g->format, g->itemsize, at);
    }
    PyObject *list = PyList_New(g->shape[dimension]);
    if (list != NULL) {
        PyObject_GC_UnTrack(list); /* elements may run code, which is not to find one with holes */
    }
    for (Py_ssize_t i = 0; list != NULL && i < g->shape[dimension]; i++) {
        PyObject *item = list_of(g, dimension + 1, at + i * g->strides[dimension]);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    if (list != NULL) {
        PyObject_GC_Track(list);
    }
    return list;
}

PyObject *atoll_pyshared_tolist(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const atoll_geometry *g = &((atoll_pyshared *)self)->g;
    return list_of(g, 0, g->data);
}

Py_ssize_t atoll_pyshared_length(PyObject *self) {
    const atoll_geometry *g = &((atoll_pyshared *)self)->g;
    if (g->ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "an array without dimensions has no length");
        return -1;
    }
    return g->shape[0];
}
