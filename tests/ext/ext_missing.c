/* Needs a library that is not there. */
#include "ext.h"
#include "libs.h"

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_missing", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_missing(void) {
    lib_missing();
    return PyModule_Create(&module);
}
