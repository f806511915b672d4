/* Several modules in one file: one that declares support for a GIL per interpreter, one that does not, and one with
 * single-phase initialisation. */
#include "ext.h"

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};

static PyModuleDef_Slot declaring[] = {{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
                                       {0, NULL}};
static struct PyModuleDef declares = {
    PyModuleDef_HEAD_INIT, "ext_several_declares", NULL, 0, methods, declaring, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_ext_several_declares(void) { return PyModuleDef_Init(&declares); }

static struct PyModuleDef multi = {
    PyModuleDef_HEAD_INIT, "ext_several_multi", NULL, 0, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_ext_several_multi(void) { return PyModuleDef_Init(&multi); }

static struct PyModuleDef single = {
    PyModuleDef_HEAD_INIT, "ext_several_single", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_ext_several_single(void) { return PyModule_Create(&single); }
