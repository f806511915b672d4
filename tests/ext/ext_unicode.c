/* A module whose name is not ASCII ("ext_\u00e9\u6771", that is, an e with an acute accent and the sign for east): the name of
 * its function is PyInitU_ and the name in punycode.  The build passes that as INIT_NAME.  CPython wants multi-phase
 * initialisation for such a name. */
#include "ext.h"

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_unicode", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT_NAME(void);
PyMODINIT_FUNC INIT_NAME(void) { return PyModuleDef_Init(&module); }
