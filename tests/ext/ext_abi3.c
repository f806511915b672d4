/* The limited API, in a file whose name says so (.abi3.so): one binary for every version. */
#define Py_LIMITED_API 0x030c0000
#include "ext.h"

static PyObject *make_type(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    static PyType_Slot slots[] = {{Py_tp_doc, (void *)"a type of the limited API"}, {0, NULL}};
    static PyType_Spec spec = {"ext_abi3.Made", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
    return PyType_FromSpec(&spec);
}

static PyMethodDef methods[] = {EXT_METHODS, {"make_type", make_type, METH_NOARGS, NULL}, EXT_METHODS_END};
static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_abi3", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_abi3(void) { return PyModuleDef_Init(&module); }
