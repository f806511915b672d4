/* Needs a library that is one for the process by its name, and another one that needs it, too: each finds a file of its own under that
 * name.  With LIBRARY it is that other one. */
#include "libs.h"

#ifdef LIBRARY

LIB_EXPORT long lib_runtime_bump_too(void);
long lib_runtime_bump_too(void) { return lib_runtime_bump(); }

#else

#include "ext.h"

LIB_EXPORT long lib_runtime_bump_too(void);

/* bumps(): how often the library that this one has was called, and that which the other one has. */
static PyObject *bumps(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    long own = lib_runtime_bump();
    return Py_BuildValue("(ll)", own, lib_runtime_bump_too());
}

static PyMethodDef methods[] = {EXT_METHODS, {"bumps", bumps, METH_NOARGS, NULL}, EXT_METHODS_END};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME, NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT_NAME(void) { return PyModule_Create(&module); }

#endif
