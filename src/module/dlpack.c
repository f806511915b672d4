/* What the arguments of __dlpack__() mean, and the capsules that it returns. */
#include "module/dlpack.h"

/* ---- arguments ---- */

static int read_version(PyObject *max_version, bool *versioned) {
    *versioned = false;
    if (max_version != Py_None) {
        int major;
        int minor;
        if (!PyTuple_Check(max_version) || !PyArg_ParseTuple(max_version, "ii", &major, &minor)) {
            PyErr_Format(PyExc_TypeError, "max_version must be a tuple of two ints, not %R", max_version);
            return -1;
        }
        *versioned = major >= 1;
    }
    return 0;
}

static int check_device(PyObject *device, atoll_dlpack_device own) {
    if (device != Py_None) {
        int type;
        int id;
        if (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ii", &type, &id)) {
            PyErr_Format(PyExc_TypeError, "dl_device must be a tuple of two ints, not %R", device);
            return -1;
        }
        if (type != own.type || id != own.id) {
            PyErr_Format(PyExc_BufferError, "the memory is on device (%d, %d), not (%d, %d)", own.type,
                         own.id, type, id);
            return -1;
        }
    }
    return 0;
}

int atoll_dlpack_parse(PyObject *args, PyObject *kwargs, atoll_dlpack_device own, atoll_dlpack_wish *wish) {
    static char *keywords[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *max_version = Py_None;
    PyObject *device = Py_None;
    PyObject *copy = Py_None;
    wish->stream = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", keywords, &wish->stream, &max_version,
                                     &device, &copy) ||
        read_version(max_version, &wish->versioned) < 0 || check_device(device, own) < 0) {
        return -1;
    }
    int copies = copy != Py_None ? PyObject_IsTrue(copy) : 0;
    wish->copy = copies > 0;
    return copies < 0 ? -1 : 0;
}

int atoll_dlpack_no_stream(void) {
    PyErr_SetString(PyExc_BufferError, "stream must be None: the memory is not on an accelerator");
    return -1;
}

/* ---- giving ---- */

static void end(atoll_dlpack_given *given) { given->end(given); }

static void delete_plain(atoll_dlpack_managed *dl) { end((atoll_dlpack_given *)dl); }
static void delete_versioned(atoll_dlpack_versioned *dl) { end((atoll_dlpack_given *)dl); }

static void end_plain(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, ATOLL_DLPACK_NAME)) {
        end(PyCapsule_GetPointer(capsule, ATOLL_DLPACK_NAME));
    }
}

static void end_versioned(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, ATOLL_DLPACK_VERSIONED_NAME)) {
        end(PyCapsule_GetPointer(capsule, ATOLL_DLPACK_VERSIONED_NAME));
    }
}

PyObject *atoll_dlpack_capsule(atoll_dlpack_given *given, const atoll_dlpack_tensor *tensor, uint64_t flags,
                               bool versioned) {
    PyObject *capsule = NULL;
    if (versioned) {
        given->dl.versioned = (atoll_dlpack_versioned){
            .version = {ATOLL_DLPACK_MAJOR, ATOLL_DLPACK_MINOR},
            .manager = given,
            .deleter = delete_versioned,
            .flags = flags,
            .tensor = *tensor,
        };
        capsule = PyCapsule_New(given, ATOLL_DLPACK_VERSIONED_NAME, end_versioned);
    } else if ((flags & ATOLL_DLPACK_READ_ONLY) != 0) {
        PyErr_SetString(PyExc_BufferError, "read-only memory takes DLPack 1.0 (max_version)");
    } else {
        given->dl.plain =
            (atoll_dlpack_managed){.tensor = *tensor, .manager = given, .deleter = delete_plain};
        capsule = PyCapsule_New(given, ATOLL_DLPACK_NAME, end_plain);
    }
    if (capsule == NULL) {
        end(given);
    }
    return capsule;
}
