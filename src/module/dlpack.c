/* What the arguments of __dlpack__() mean. */
#include "module/dlpack.h"

int atoll_dlpack_arguments(PyObject *max_version, PyObject *device, int type, int id, bool *versioned) {
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
    if (device != Py_None) {
        int their_type;
        int their_id;
        if (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ii", &their_type, &their_id)) {
            PyErr_Format(PyExc_TypeError, "dl_device must be a tuple of two ints, not %R", device);
            return -1;
        }
        if (their_type != type || their_id != id) {
            PyErr_Format(PyExc_BufferError, "the memory is on device (%d, %d), not (%d, %d)", type, id,
                         their_type, their_id);
            return -1;
        }
    }
    return 0;
}
