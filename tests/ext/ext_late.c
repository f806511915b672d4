/* Declares support for a GIL per interpreter, with slots that it writes while it runs: no file of it shows them. */
#include "ext.h"

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};
static PyModuleDef_Slot slots[2];
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_late", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_late(void) {
    slots[0].slot = Py_mod_multiple_interpreters;
    slots[0].value = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
    return PyModuleDef_Init(&module);
}
