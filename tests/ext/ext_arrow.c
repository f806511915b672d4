/* Produces and consumes the structs of the Arrow C data interface and of DLPack, as pyarrow and torch do.
 *
 *   array(n)                capsules of a record batch with a column of numbers 0 to n - 1, and one of a dictionary's
 *   stream(n, batches, helped)  a capsule of a stream of such; -1: it fails after the first.  helped: each is made while a thread of its own
 *                           has the GIL
 *   tensor(n, version)      a capsule of a tensor of int64, 0 to n - 1; version 0, 1, or 2: read-only
 *   read(schema, array)     the sum of both columns: moves the struct and then a child out of it, as a consumer may
 *   read_stream(stream)     a list of the sums
 *   read_tensor(capsule, x) the sum, after x was added to its first element
 *   hold(array), drop()     a consumer that keeps it for a while, and releases it on a thread of its own
 *   counts()                how many structs of this copy's are not released, and how many were released by a thread
 *                           that was attached to another interpreter, or to none
 */
#include "ext.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct schema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct schema **children, *dictionary;
    void (*release)(struct schema *);
    void *private_data;
};

struct array {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct array **children, *dictionary;
    void (*release)(struct array *);
    void *private_data;
};

struct stream {
    int (*get_schema)(struct stream *, struct schema *);
    int (*get_next)(struct stream *, struct array *);
    const char *(*get_last_error)(struct stream *);
    void (*release)(struct stream *);
    void *private_data;
};

struct tensor {
    void *data;
    int32_t device[2], ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t offset;
};

struct managed {
    struct tensor tensor;
    void *manager;
    void (*deleter)(struct managed *);
};

struct versioned {
    uint32_t version[2];
    void *manager;
    void (*deleter)(struct versioned *);
    uint64_t flags;
    struct tensor tensor;
};

static _Atomic(long) live;
static _Atomic(long) elsewhere;
static int64_t home = -1;
static struct array held;

/* Attached: what is made from now on belongs to that interpreter. */
static void at_home(void) { home = PyInterpreterState_GetID(PyInterpreterState_Get()); }

static void made(void) { live++; }

static void ended(void) {
#if PY_VERSION_HEX >= 0x030d0000
    PyThreadState *tstate = PyThreadState_GetUnchecked();
#else
    PyThreadState *tstate = _PyThreadState_UncheckedGet();
#endif
    if (tstate == NULL || PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)) != home) {
        elsewhere++;
    }
    live--;
}

/* ---- a record batch ---- */

struct batch_schema {
    struct schema children[2], dictionary, *pointers[2];
};

static void release_part_schema(struct schema *schema) { schema->release = NULL; }

static void release_schema(struct schema *schema) {
    struct batch_schema *all = schema->private_data;
    for (int i = 0; i < 2; i++) {
        if (all->children[i].release != NULL) {
            all->children[i].release(&all->children[i]);
        }
    }
    free(all);
    schema->release = NULL;
    ended();
}

static void fill_schema(struct schema *out) {
    struct batch_schema *all = calloc(1, sizeof *all);
    all->children[0] = (struct schema){.format = "l", .name = "numbers", .release = release_part_schema};
    all->dictionary = (struct schema){.format = "l", .name = "", .release = release_part_schema};
    all->children[1] = (struct schema){
        .format = "i", .name = "words", .dictionary = &all->dictionary, .release = release_part_schema};
    all->pointers[0] = &all->children[0];
    all->pointers[1] = &all->children[1];
    *out = (struct schema){.format = "+s",
                           .name = "batch",
                           .n_children = 2,
                           .children = all->pointers,
                           .release = release_schema,
                           .private_data = all};
    made();
}

struct batch {
    struct array children[2], dictionary, *pointers[2];
    const void *none[1], *numbers_buffers[2], *indices_buffers[2], *dictionary_buffers[2];
    int64_t dictionary_values[2];
    int32_t *indices;
    int64_t *numbers;
};

static void release_part(struct array *array) { array->release = NULL; }

static void release_array(struct array *array) {
    struct batch *all = array->private_data;
    memset(all->numbers, 0xff, (size_t)array->length * sizeof *all->numbers); /* who still reads sees it */
    free(all->numbers);
    free(all->indices);
    free(all);
    array->release = NULL;
    ended();
}

static void fill_array(struct array *out, int64_t n) {
    struct batch *all = calloc(1, sizeof *all);
    all->numbers = calloc((size_t)n + 1, sizeof *all->numbers);
    all->indices = calloc((size_t)n + 1, sizeof *all->indices);
    for (int64_t i = 0; i < n; i++) {
        all->numbers[i] = i;
        all->indices[i] = (int32_t)(i % 2);
    }
    all->dictionary_values[0] = 1000;
    all->dictionary_values[1] = 2000;
    all->numbers_buffers[1] = all->numbers;
    all->indices_buffers[1] = all->indices;
    all->dictionary_buffers[1] = all->dictionary_values;
    all->children[0] =
        (struct array){.length = n, .n_buffers = 2, .buffers = all->numbers_buffers, .release = release_part};
    all->dictionary = (struct array){
        .length = 2, .n_buffers = 2, .buffers = all->dictionary_buffers, .release = release_part};
    all->children[1] = (struct array){.length = n,
                                      .n_buffers = 2,
                                      .buffers = all->indices_buffers,
                                      .dictionary = &all->dictionary,
                                      .release = release_part};
    all->pointers[0] = &all->children[0];
    all->pointers[1] = &all->children[1];
    *out = (struct array){.length = n,
                          .n_buffers = 1,
                          .buffers = all->none,
                          .n_children = 2,
                          .children = all->pointers,
                          .release = release_array,
                          .private_data = all};
    made();
}

static void end_schema(PyObject *capsule) {
    struct schema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release != NULL) {
        schema->release(schema);
    }
    free(schema);
}

static void end_array(PyObject *capsule) {
    struct array *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release != NULL) {
        array->release(array);
    }
    free(array);
}

static PyObject *make_array(PyObject *Py_UNUSED(self), PyObject *arg) {
    struct schema *schema = calloc(1, sizeof *schema);
    struct array *array = calloc(1, sizeof *array);
    at_home();
    fill_schema(schema);
    fill_array(array, PyLong_AsLongLong(arg));
    return Py_BuildValue("NN", PyCapsule_New(schema, "arrow_schema", end_schema),
                         PyCapsule_New(array, "arrow_array", end_array));
}

/* ---- a stream ---- */

enum { TORN = -2 }; /* that is what is left of -1 after the first */

struct batches {
    int64_t n, left;
    int helped;
};

static void *take_gil(void *Py_UNUSED(nothing)) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyGILState_Release(state);
    return NULL;
}

static int stream_schema(struct stream *Py_UNUSED(stream), struct schema *out) {
    fill_schema(out);
    return 0;
}

static int stream_next(struct stream *stream, struct array *out) {
    struct batches *batches = stream->private_data;
    if (batches->left == TORN) {
        return 5;
    }
    if (batches->left == 0) {
        out->release = NULL;
        return 0;
    }
    pthread_t thread;
    if (batches->helped && pthread_create(&thread, NULL, take_gil, NULL) == 0) {
        pthread_join(thread, NULL);
    }
    fill_array(out, batches->n);
    batches->left--;
    return 0;
}

static const char *stream_error(struct stream *Py_UNUSED(stream)) { return "it is torn"; }

static void release_stream(struct stream *stream) {
    free(stream->private_data);
    stream->release = NULL;
    live--; /* on whichever thread has read it */
}

static void end_stream(PyObject *capsule) {
    struct stream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    if (stream->release != NULL) {
        stream->release(stream);
    }
    free(stream);
}

static PyObject *make_stream(PyObject *Py_UNUSED(self), PyObject *args) {
    long long n, count;
    int helped;
    if (!PyArg_ParseTuple(args, "LLp", &n, &count, &helped)) {
        return NULL;
    }
    struct batches *batches = calloc(1, sizeof *batches);
    struct stream *stream = calloc(1, sizeof *stream);
    *batches = (struct batches){n, count, helped};
    *stream = (struct stream){stream_schema, stream_next, stream_error, release_stream, batches};
    at_home();
    made();
    return PyCapsule_New(stream, "arrow_array_stream", end_stream);
}

/* ---- consumers ---- */

static int64_t sum_and_release(struct array *array) {
    struct array child = *array->children[0]; /* moved out of its parent */
    array->children[0]->release = NULL;
    struct array *words = array->children[1];
    const int32_t *indices = words->buffers[1];
    const int64_t *values = words->dictionary->buffers[1];
    int64_t sum = 0;
    for (int64_t i = 0; i < words->length; i++) {
        sum += values[indices[i]];
    }
    array->release(array);
    for (int64_t i = 0; i < child.length; i++) {
        sum += ((const int64_t *)child.buffers[1])[i];
    }
    child.release(&child);
    return sum;
}

static int schema_is_right(struct schema *schema) {
    int right = strcmp(schema->format, "+s") == 0 && schema->n_children == 2 &&
                strcmp(schema->children[0]->name, "numbers") == 0 &&
                schema->children[0]->dictionary == NULL &&
                strcmp(schema->children[1]->dictionary->format, "l") == 0;
    struct schema child = *schema->children[1];
    schema->children[1]->release = NULL;
    schema->release(schema);
    right = right && strcmp(child.format, "i") == 0;
    child.release(&child);
    return right;
}

static PyObject *read_array(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *one, *two;
    if (!PyArg_ParseTuple(args, "OO", &one, &two)) {
        return NULL;
    }
    struct schema *schema = PyCapsule_GetPointer(one, "arrow_schema");
    struct array *array = schema != NULL ? PyCapsule_GetPointer(two, "arrow_array") : NULL;
    if (array == NULL) {
        return NULL;
    }
    struct schema moved_schema = *schema;
    struct array moved = *array;
    schema->release = NULL;
    array->release = NULL;
    if (!schema_is_right(&moved_schema)) {
        PyErr_SetString(PyExc_AssertionError, "another schema");
        return NULL;
    }
    return PyLong_FromLongLong(sum_and_release(&moved));
}

static PyObject *read_stream(PyObject *Py_UNUSED(self), PyObject *capsule) {
    struct stream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    struct schema schema;
    if (stream == NULL) {
        return NULL;
    }
    if (stream->get_schema(stream, &schema) != 0 || !schema_is_right(&schema)) {
        PyErr_SetString(PyExc_AssertionError, "another schema");
        return NULL;
    }
    PyObject *sums = PyList_New(0);
    for (;;) {
        struct array array;
        if (stream->get_next(stream, &array) != 0) {
            Py_DECREF(sums);
            PyErr_SetString(PyExc_OSError, stream->get_last_error(stream));
            return NULL;
        }
        if (array.release == NULL) {
            break;
        }
        PyObject *sum = PyLong_FromLongLong(sum_and_release(&array));
        PyList_Append(sums, sum);
        Py_DECREF(sum);
    }
    stream->release(stream);
    return sums;
}

static PyObject *hold(PyObject *Py_UNUSED(self), PyObject *capsule) {
    struct array *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array == NULL) {
        return NULL;
    }
    held = *array;
    array->release = NULL;
    Py_RETURN_NONE;
}

static void *drop_there(void *Py_UNUSED(unused)) {
    held.release(&held);
    return NULL;
}

static PyObject *drop(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, drop_there, NULL) != 0) {
        return PyErr_NoMemory();
    }
    pthread_join(thread, NULL);
    Py_RETURN_NONE;
}

/* ---- tensors ---- */

static void delete_managed(struct managed *managed) {
    free(managed->tensor.data);
    free(managed);
    ended();
}

static void delete_versioned(struct versioned *versioned) {
    free(versioned->tensor.data);
    free(versioned);
    ended();
}

static PyObject *make_tensor(PyObject *Py_UNUSED(self), PyObject *args) {
    long long n;
    int version;
    static int64_t shapes[64];
    if (!PyArg_ParseTuple(args, "Li", &n, &version)) {
        return NULL;
    }
    int64_t *numbers = calloc((size_t)n + 1, sizeof *numbers);
    for (int64_t i = 0; i < n; i++) {
        numbers[i] = i;
    }
    shapes[n % 64] = n;
    struct tensor tensor = {
        .data = numbers, .device = {1, 0}, .ndim = 1, .bits = 64, .lanes = 1, .shape = &shapes[n % 64]};
    at_home();
    made();
    if (version > 0) {
        struct versioned *versioned = calloc(1, sizeof *versioned);
        *versioned = (struct versioned){
            .version = {1, 1}, .deleter = delete_versioned, .flags = version == 2, .tensor = tensor};
        return PyCapsule_New(versioned, "dltensor_versioned", NULL);
    }
    struct managed *managed = calloc(1, sizeof *managed);
    *managed = (struct managed){.tensor = tensor, .deleter = delete_managed};
    return PyCapsule_New(managed, "dltensor", NULL);
}

static PyObject *read_tensor(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *capsule;
    long long more;
    if (!PyArg_ParseTuple(args, "OL", &capsule, &more)) {
        return NULL;
    }
    struct versioned *versioned = NULL;
    struct managed *managed = NULL;
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        versioned = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        PyCapsule_SetName(capsule, "used_dltensor_versioned");
    } else {
        managed = PyCapsule_GetPointer(capsule, "dltensor");
        if (managed == NULL) {
            return NULL;
        }
        PyCapsule_SetName(capsule, "used_dltensor");
    }
    struct tensor *tensor = versioned != NULL ? &versioned->tensor : &managed->tensor;
    int64_t *numbers = tensor->data;
    numbers[0] += more;
    int64_t sum = 0;
    for (int64_t i = 0; i < tensor->shape[0]; i++) {
        sum += numbers[i];
    }
    if (versioned != NULL) {
        versioned->deleter(versioned);
    } else {
        managed->deleter(managed);
    }
    return PyLong_FromLongLong(sum);
}

static PyObject *counts(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return Py_BuildValue("ll", (long)live, (long)elsewhere);
}

static PyMethodDef methods[] = {
    EXT_METHODS,
    {"array", make_array, METH_O, NULL},
    {"stream", make_stream, METH_VARARGS, NULL},
    {"tensor", make_tensor, METH_VARARGS, NULL},
    {"read", read_array, METH_VARARGS, NULL},
    {"read_stream", read_stream, METH_O, NULL},
    {"read_tensor", read_tensor, METH_VARARGS, NULL},
    {"hold", hold, METH_O, NULL},
    {"drop", drop, METH_NOARGS, NULL},
    {"counts", counts, METH_NOARGS, NULL},
    EXT_METHODS_END,
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext_arrow", .m_size = -1,
                                        .m_methods = methods};

PyMODINIT_FUNC PyInit_ext_arrow(void) { return PyModule_Create(&definition); }
