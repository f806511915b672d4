/* Uses a function that nobody defines. */
#include "ext.h"

void ext_undefined_function(void);
int (*ext_undefined_pointer)(void) = (int (*)(void))ext_undefined_function; /* resolved when it is loaded */

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_undefined", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_undefined(void) { return PyModule_Create(&module); }
