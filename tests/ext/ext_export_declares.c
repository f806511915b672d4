/* CPython 3.15's PyModExport_, with support for a GIL per interpreter declared in its slots. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX >= 0x030f0000
static int place;

static PyObject *address(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromVoidPtr(&place);
}

static PyMethodDef methods[] = {{"address", address, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
PyABIInfo_VAR(abi);
static PySlot slots[] = {PySlot_STATIC_DATA(Py_mod_methods, methods), PySlot_DATA(Py_mod_abi, &abi),
                         PySlot_DATA(Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED),
                         PySlot_END};

PyMODEXPORT_FUNC PyModExport_ext_export_declares(void) { return slots; }
#endif
