/* Arrow: what an object of a library has given, and what a consumer gets of it.
 *
 * A consumer's struct is a copy of the producer's, with children of its own, as a consumer may move these out of it; its buffers, names
 * and metadata are the producer's.  Each has a reference.
 *
 * A stream is read without a thread state: what it gives may come from threads of its producer's that need the GIL, for a file or a function of
 * Python's.  So no reference counts change meanwhile, and no exception is set while anything of the producer's is called.
 */
#include "module/lent.h"

#include "py/interp/interp.h"

#include <errno.h>
#include <stdlib.h>

static const char schema_name[] = "arrow_schema";
static const char array_name[] = "arrow_array";
static const char stream_name[] = "arrow_array_stream";

/* ---- taking ---- */

static void *pointer_of(PyObject *capsule, const char *name, const char *method) {
    if (!PyCapsule_IsValid(capsule, name)) {
        PyErr_Format(PyExc_TypeError, "its %s() gives no capsule \"%s\" but %R", method, name, capsule);
        return NULL;
    }
    return PyCapsule_GetPointer(capsule, name);
}

/* Takes it over; false without memory. */
static bool add_array(atoll_lent *lent, atoll_arrow_array *array) {
    int64_t n = lent->arrow.count;
    if ((n & (n - 1)) == 0) { /* a power of two, or none yet */
        atoll_arrow_array *more = realloc(lent->arrow.arrays, (size_t)(n == 0 ? 1 : 2 * n) * sizeof *more);
        if (more == NULL) {
            return false;
        }
        lent->arrow.arrays = more;
    }
    lent->arrow.arrays[n] = *array;
    array->release = NULL; /* it was moved */
    lent->arrow.count++;
    return true;
}

static int take_array(PyObject *method, atoll_lent *lent) {
    PyObject *pair = PyObject_CallNoArgs(method);
    if (pair == NULL) {
        return -1;
    }
    int rc = -1;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError, "its __arrow_c_array__() gives no pair of capsules but %R", pair);
    } else {
        atoll_arrow_schema *schema = pointer_of(PyTuple_GET_ITEM(pair, 0), schema_name, "__arrow_c_array__");
        atoll_arrow_array *array =
            schema != NULL ? pointer_of(PyTuple_GET_ITEM(pair, 1), array_name, "__arrow_c_array__") : NULL;
        if (array != NULL && (schema->release == NULL || array->release == NULL)) {
            PyErr_SetString(PyExc_ValueError, "its __arrow_c_array__() gives what is released already");
        } else if (array != NULL && !add_array(lent, array)) {
            PyErr_NoMemory();
        } else if (array != NULL) {
            lent->arrow.schema = *schema;
            schema->release = NULL;
            rc = 0;
        }
    }
    Py_DECREF(pair);
    return rc;
}

static int stream_failed(atoll_arrow_stream *stream, int error) {
    const char *why = stream->get_last_error(stream);
    PyErr_Format(PyExc_OSError, "its Arrow stream has failed: %s", why != NULL ? why : strerror(error));
    return -1;
}

static int get_schema(atoll_arrow_stream *stream, atoll_arrow_schema *out) {
    int error;
    Py_BEGIN_ALLOW_THREADS error = stream->get_schema(stream, out);
    Py_END_ALLOW_THREADS return error;
}

static int get_next(atoll_arrow_stream *stream, atoll_arrow_array *out) {
    int error;
    Py_BEGIN_ALLOW_THREADS error = stream->get_next(stream, out);
    Py_END_ALLOW_THREADS return error;
}

/* Reads a stream to its end, unless what would interrupt a wait comes in between: it may be long, or have no end. */
static int drain(atoll_arrow_stream *stream, atoll_lent *lent, atoll_entry *entry) {
    int error = get_schema(stream, &lent->arrow.schema);
    if (error != 0) {
        lent->arrow.schema.release = NULL;
        return stream_failed(stream, error);
    }
    for (;;) {
        atoll_arrow_array array = {0};
        error = get_next(stream, &array);
        if (error != 0) {
            return stream_failed(stream, error);
        }
        if (array.release == NULL) {
            return 0;
        }
        if (!add_array(lent, &array)) {
            array.release(&array);
            PyErr_NoMemory();
            return -1;
        }
        if (atoll_blocking_check(entry) < 0) {
            return -1;
        }
    }
}

static int take_stream(PyObject *method, atoll_lent *lent, atoll_entry *entry) {
    PyObject *capsule = PyObject_CallNoArgs(method);
    atoll_arrow_stream *stream =
        capsule != NULL ? pointer_of(capsule, stream_name, "__arrow_c_stream__") : NULL;
    int rc = -1;
    if (stream != NULL && stream->release == NULL) {
        PyErr_SetString(PyExc_ValueError, "its __arrow_c_stream__() gives what is released already");
    } else if (stream != NULL) {
        rc = drain(stream, lent, entry);
        PyObject *exc = PyErr_GetRaisedException();
        Py_BEGIN_ALLOW_THREADS stream->release(stream);
        Py_END_ALLOW_THREADS PyErr_SetRaisedException(exc);
    }
    Py_XDECREF(capsule);
    return rc;
}

int atoll_lent_take_arrow(atoll_state *state, PyObject *obj, atoll_lent **out) {
    PyObject *method;
    atoll_lent_kind kind = ATOLL_LENT_ARRAY;
    int found = atoll_lent_method(obj, "__arrow_c_array__", &method);
    if (found == 0) {
        kind = ATOLL_LENT_STREAM;
        found = atoll_lent_method(obj, "__arrow_c_stream__", &method);
    }
    if (found <= 0) {
        return found;
    }
    atoll_lent *lent = atoll_lent_new(kind);
    int rc = lent == NULL               ? -1
             : kind == ATOLL_LENT_ARRAY ? take_array(method, lent)
                                        : take_stream(method, lent, state->entry);
    Py_DECREF(method);
    if (rc < 0) {
        if (lent != NULL) {
            atoll_lent_drop(lent, true);
        }
        return -1;
    }
    *out = lent;
    return 1;
}

/* ---- giving: structs for consumers ---- */

typedef struct {
    atoll_lent_ref ref;
    atoll_arrow_schema dictionary;
    atoll_arrow_schema **pointers;
    atoll_arrow_schema children[];
} schema_node;

typedef struct {
    atoll_lent_ref ref;
    atoll_arrow_array dictionary;
    atoll_arrow_array **pointers;
    atoll_arrow_array children[];
} array_node;

static void schema_release(atoll_arrow_schema *schema) {
    schema_node *node = schema->private_data;
    for (int64_t i = 0; i < schema->n_children; i++) {
        if (node->pointers[i]->release != NULL) {
            node->pointers[i]->release(node->pointers[i]);
        }
    }
    if (node->dictionary.release != NULL) {
        node->dictionary.release(&node->dictionary);
    }
    schema->release = NULL;
    atoll_lent_ref_drop(&node->ref);
    free(node->pointers);
    free(node);
}

static void array_release(atoll_arrow_array *array) {
    array_node *node = array->private_data;
    for (int64_t i = 0; i < array->n_children; i++) {
        if (node->pointers[i]->release != NULL) {
            node->pointers[i]->release(node->pointers[i]);
        }
    }
    if (node->dictionary.release != NULL) {
        node->dictionary.release(&node->dictionary);
    }
    array->release = NULL;
    atoll_lent_ref_drop(&node->ref);
    free(node->pointers);
    free(node);
}

/* 0, or ENOMEM and nothing in *out. */
static int give_schema(const atoll_arrow_schema *from, const atoll_lent_ref *ref, atoll_arrow_schema *out) {
    size_t n = (size_t)from->n_children;
    schema_node *node = calloc(1, sizeof *node + n * sizeof *node->children);
    atoll_arrow_schema **pointers = calloc(n + 1, sizeof *pointers);
    if (node == NULL || pointers == NULL) {
        free(node);
        free(pointers);
        out->release = NULL;
        return ENOMEM;
    }
    node->ref = atoll_lent_ref_copy(ref);
    node->pointers = pointers;
    *out = *from;
    out->children = n != 0 ? pointers : NULL;
    out->dictionary = from->dictionary != NULL ? &node->dictionary : NULL;
    out->release = schema_release;
    out->private_data = node;
    int error = from->dictionary != NULL ? give_schema(from->dictionary, ref, &node->dictionary) : 0;
    for (size_t i = 0; i < n; i++) {
        pointers[i] = &node->children[i];
        error = error == 0 ? give_schema(from->children[i], ref, pointers[i]) : error;
    }
    if (error != 0) {
        schema_release(out);
    }
    return error;
}

static int give_array(const atoll_arrow_array *from, const atoll_lent_ref *ref, atoll_arrow_array *out) {
    size_t n = (size_t)from->n_children;
    array_node *node = calloc(1, sizeof *node + n * sizeof *node->children);
    atoll_arrow_array **pointers = calloc(n + 1, sizeof *pointers);
    if (node == NULL || pointers == NULL) {
        free(node);
        free(pointers);
        out->release = NULL;
        return ENOMEM;
    }
    node->ref = atoll_lent_ref_copy(ref);
    node->pointers = pointers;
    *out = *from;
    out->children = n != 0 ? pointers : NULL;
    out->dictionary = from->dictionary != NULL ? &node->dictionary : NULL;
    out->release = array_release;
    out->private_data = node;
    int error = from->dictionary != NULL ? give_array(from->dictionary, ref, &node->dictionary) : 0;
    for (size_t i = 0; i < n; i++) {
        pointers[i] = &node->children[i];
        error = error == 0 ? give_array(from->children[i], ref, pointers[i]) : error;
    }
    if (error != 0) {
        array_release(out);
    }
    return error;
}

/* ---- streams ---- */

typedef struct {
    atoll_lent_ref ref;
    int64_t next;
} stream_node;

static int stream_schema(atoll_arrow_stream *stream, atoll_arrow_schema *out) {
    const stream_node *node = stream->private_data;
    return give_schema(&atoll_lent_of(&node->ref)->arrow.schema, &node->ref, out);
}

static int stream_next(atoll_arrow_stream *stream, atoll_arrow_array *out) {
    stream_node *node = stream->private_data;
    const atoll_lent *lent = atoll_lent_of(&node->ref);
    if (node->next == lent->arrow.count) {
        out->release = NULL;
        return 0;
    }
    int error = give_array(&lent->arrow.arrays[node->next], &node->ref, out);
    node->next += error == 0;
    return error;
}

static const char *stream_error(atoll_arrow_stream *Py_UNUSED(stream)) { return "out of memory"; }

static void stream_release(atoll_arrow_stream *stream) {
    stream_node *node = stream->private_data;
    stream->release = NULL;
    atoll_lent_ref_drop(&node->ref);
    free(node);
}

/* ---- capsules ---- */

static void schema_capsule_end(PyObject *capsule) {
    atoll_arrow_schema *schema = PyCapsule_GetPointer(capsule, schema_name);
    if (schema->release != NULL) {
        schema->release(schema);
    }
    free(schema);
}

static void array_capsule_end(PyObject *capsule) {
    atoll_arrow_array *array = PyCapsule_GetPointer(capsule, array_name);
    if (array->release != NULL) {
        array->release(array);
    }
    free(array);
}

static void stream_capsule_end(PyObject *capsule) {
    atoll_arrow_stream *stream = PyCapsule_GetPointer(capsule, stream_name);
    if (stream->release != NULL) {
        stream->release(stream);
    }
    free(stream);
}

PyObject *atoll_lent_schema_capsule(const atoll_lent_ref *ref) {
    atoll_arrow_schema *schema = calloc(1, sizeof *schema);
    if (schema == NULL || give_schema(&atoll_lent_of(ref)->arrow.schema, ref, schema) != 0) {
        free(schema);
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(schema, schema_name, schema_capsule_end);
    if (capsule == NULL) {
        schema->release(schema);
        free(schema);
    }
    return capsule;
}

PyObject *atoll_lent_array_capsule(const atoll_lent_ref *ref) {
    atoll_arrow_array *array = calloc(1, sizeof *array);
    if (array == NULL || give_array(&atoll_lent_of(ref)->arrow.arrays[0], ref, array) != 0) {
        free(array);
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(array, array_name, array_capsule_end);
    if (capsule == NULL) {
        array->release(array);
        free(array);
    }
    return capsule;
}

PyObject *atoll_lent_stream_capsule(const atoll_lent_ref *ref) {
    atoll_arrow_stream *stream = calloc(1, sizeof *stream);
    stream_node *node = calloc(1, sizeof *node);
    if (stream == NULL || node == NULL) {
        free(stream);
        free(node);
        return PyErr_NoMemory();
    }
    node->ref = atoll_lent_ref_copy(ref);
    *stream = (atoll_arrow_stream){stream_schema, stream_next, stream_error, stream_release, node};
    PyObject *capsule = PyCapsule_New(stream, stream_name, stream_capsule_end);
    if (capsule == NULL) {
        stream->release(stream);
        free(stream);
    }
    return capsule;
}
