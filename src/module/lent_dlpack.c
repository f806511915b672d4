/* DLPack: the tensor that an object of a library has given, and what a consumer gets of it: a struct of its own, of the version that
 * it asks for, with the producer's memory, shape and strides.
 *
 * Accelerators.  share() asks the producer to have its work done in the order of the device's default stream, and consumers may
 * take the tensor on that stream, or say that they synchronise by themselves (-1).  Others are refused, as nothing here can make a stream
 * wait.
 */
#include "module/lent.h"

#include <stdlib.h>

enum { CUDA = 2, ROCM = 10, CUDA_MANAGED = 13 };

static const atoll_dlpack_tensor *tensor_of(const atoll_lent *lent) {
    return lent->dl.versioned != NULL ? &lent->dl.versioned->tensor : &lent->dl.plain->tensor;
}

/* The number of a device's default stream in DLPack's words; -1: there are no streams. */
static long default_stream(int device) {
    return device == CUDA || device == CUDA_MANAGED ? 1 : device == ROCM ? 0 : -1;
}

/* ---- taking ---- */

/* What obj.__dlpack__() gives, of version 1 where it knows that: new reference, or NULL with an exception. */
static PyObject *ask(PyObject *method, int device) {
    PyObject *version = Py_BuildValue("{s(ii)}", "max_version", ATOLL_DLPACK_MAJOR, ATOLL_DLPACK_MINOR);
    PyObject *plain = version != NULL ? PyDict_New() : NULL;
    PyObject *none = plain != NULL ? PyTuple_New(0) : NULL;
    PyObject *stream = none != NULL ? PyLong_FromLong(default_stream(device)) : NULL;
    PyObject *capsule = NULL;
    if (stream != NULL &&
        (default_stream(device) < 0 || (PyDict_SetItemString(version, "stream", stream) == 0 &&
                                        PyDict_SetItemString(plain, "stream", stream) == 0))) {
        capsule = PyObject_Call(method, none, version);
        if (capsule == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) { /* it is older */
            PyErr_Clear();
            capsule = PyObject_Call(method, none, plain);
        }
    }
    Py_XDECREF(stream);
    Py_XDECREF(none);
    Py_XDECREF(plain);
    Py_XDECREF(version);
    return capsule;
}

static int consume(PyObject *capsule, atoll_lent *lent) {
    if (PyCapsule_IsValid(capsule, ATOLL_DLPACK_VERSIONED_NAME)) {
        atoll_dlpack_versioned *versioned = PyCapsule_GetPointer(capsule, ATOLL_DLPACK_VERSIONED_NAME);
        if (versioned->version.major != ATOLL_DLPACK_MAJOR) {
            PyErr_Format(PyExc_BufferError, "its __dlpack__() gives version %u, and %d is known",
                         versioned->version.major, ATOLL_DLPACK_MAJOR);
            return -1;
        }
        lent->dl.versioned = versioned;
        return PyCapsule_SetName(capsule, "used_dltensor_versioned");
    }
    if (PyCapsule_IsValid(capsule, ATOLL_DLPACK_NAME)) {
        lent->dl.plain = PyCapsule_GetPointer(capsule, ATOLL_DLPACK_NAME);
        return PyCapsule_SetName(capsule, "used_dltensor");
    }
    PyErr_Format(PyExc_TypeError, "its __dlpack__() gives no capsule of DLPack but %R", capsule);
    return -1;
}

static int device_of(PyObject *obj, int *device) {
    PyObject *pair = PyObject_CallMethod(obj, "__dlpack_device__", NULL);
    int number;
    int rc = -1;
    if (pair != NULL && (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)) {
        PyErr_Format(PyExc_TypeError, "its __dlpack_device__() gives no pair of ints but %R", pair);
    } else if (pair != NULL) { /* the first may be a member of an enum */
        rc = PyArg_ParseTuple(pair, "ii", device, &number) ? 0 : -1;
    }
    Py_XDECREF(pair);
    return rc;
}

int atoll_lent_take_tensor(PyObject *obj, atoll_lent **out) {
    PyObject *method;
    int found = atoll_lent_method(obj, "__dlpack__", &method);
    if (found <= 0) {
        return found;
    }
    int device;
    PyObject *capsule = device_of(obj, &device) == 0 ? ask(method, device) : NULL;
    Py_DECREF(method);
    atoll_lent *lent = capsule != NULL ? atoll_lent_new(ATOLL_LENT_TENSOR) : NULL;
    if (lent != NULL && consume(capsule, lent) < 0) {
        free(lent); /* it has nothing */
        lent = NULL;
    }
    Py_XDECREF(capsule);
    *out = lent;
    return lent != NULL ? 1 : -1;
}

/* ---- giving ---- */

typedef struct {
    atoll_dlpack_given given; /* first */
    atoll_lent_ref ref;
} given_on;

static void end(atoll_dlpack_given *given) {
    atoll_lent_ref_drop(&((given_on *)given)->ref);
    free(given);
}

static int check_stream(PyObject *stream, int device) {
    if (stream == Py_None) {
        return 0;
    }
    long number = PyLong_AsLong(stream);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (default_stream(device) < 0) {
        return atoll_dlpack_no_stream();
    }
    if (number != -1 && number != default_stream(device)) {
        PyErr_Format(
            PyExc_BufferError,
            "shared tensors are taken on the device's default stream (%ld), or on one that the consumer "
            "synchronises itself (-1), not on %ld",
            default_stream(device), number);
        return -1;
    }
    return 0;
}

PyObject *atoll_lent_tensor_capsule(const atoll_lent_ref *ref, PyObject *args, PyObject *kwargs) {
    const atoll_lent *lent = atoll_lent_of(ref);
    const atoll_dlpack_tensor *tensor = tensor_of(lent);
    atoll_dlpack_wish wish;
    if (atoll_dlpack_parse(args, kwargs, tensor->device, &wish) < 0 ||
        check_stream(wish.stream, tensor->device.type) < 0) {
        return NULL;
    }
    if (wish.copy) {
        PyErr_SetString(PyExc_BufferError, "a shared tensor is not copied: copy what is made of it");
        return NULL;
    }
    given_on *it = calloc(1, sizeof *it);
    if (it == NULL) {
        return PyErr_NoMemory();
    }
    it->ref = atoll_lent_ref_copy(ref);
    it->given.end = end;
    uint64_t flags = lent->dl.versioned != NULL ? lent->dl.versioned->flags & ATOLL_DLPACK_READ_ONLY : 0;
    return atoll_dlpack_capsule(&it->given, tensor, flags, wish.versioned);
}

PyObject *atoll_lent_tensor_device(const atoll_lent_ref *ref) {
    atoll_dlpack_device device = tensor_of(atoll_lent_of(ref))->device;
    return Py_BuildValue("ii", device.type, device.id);
}
