/* How instances of a type cross, said in C: py/codec/registered.c has the essay.
 *
 * The codec knows objects that can be called, so each of the two functions is one here: a builtin function, whose self is a capsule that leads to it.
 * Neither is ever sent.  They live as long as the registration, which is the interpreter's, and so is the clone that has them.
 */
#include "module/capi_parts.h"

static const char capsule_name[] = "atoll: a function of C";

static PyObject *call_encode(PyObject *self, PyObject *object) {
    const void *pointer = PyCapsule_GetPointer(self, capsule_name);
    return pointer != NULL ? ((atoll_encode_function)(uintptr_t)pointer)(object) : NULL;
}

static PyObject *call_decode(PyObject *self, PyObject *value) {
    const void *pointer = PyCapsule_GetPointer(self, capsule_name);
    return pointer != NULL ? ((atoll_decode_function)(uintptr_t)pointer)(value) : NULL;
}

static PyMethodDef encode_def = {"encode", call_encode, METH_O, NULL};
static PyMethodDef decode_def = {"decode", call_decode, METH_O, NULL};

static PyObject *callable(PyMethodDef *def, uintptr_t function) {
    PyObject *capsule = PyCapsule_New((void *)function, capsule_name, NULL);
    PyObject *result = capsule != NULL ? PyCFunction_New(def, capsule) : NULL;
    Py_XDECREF(capsule);
    return result;
}

int atoll_capi_register(PyObject *type, atoll_encode_function encode, atoll_decode_function decode) {
    atoll_state *state;
    int code = atoll_capi_attached(&state);
    if (code != ATOLL_OK) {
        return code;
    }
    if (type == NULL || encode == NULL || decode == NULL) {
        return atoll_capi_fail(ATOLL_INVALID, "a type, encode and decode are needed, not NULL");
    }
    if (!PyType_Check(type)) {
        PyErr_Format(PyExc_TypeError, "type must be a class, not %R", type);
        return atoll_capi_fail_raised();
    }
    PyObject *to = callable(&encode_def, (uintptr_t)encode);
    PyObject *from = to != NULL ? callable(&decode_def, (uintptr_t)decode) : NULL;
    int rc = from != NULL ? atoll_codec_register_native(state->codec, type, to, from) : -1;
    Py_XDECREF(from);
    Py_XDECREF(to);
    return rc == 0 ? ATOLL_OK : atoll_capi_fail_raised();
}
