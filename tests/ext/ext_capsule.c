/* Offers its functions to other extensions through a capsule, as numpy does: a table of pointers. */
#include "ext.h"

static PyObject *made_by_api(long number) {
    ext_count++;
    return Py_BuildValue("lL", number, (long long)PyInterpreterState_GetID(PyInterpreterState_Get()));
}

static void *table[] = {(void *)&ext_count, (void *)made_by_api, NULL};

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_capsule", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_capsule(void) {
    PyObject *made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    table[2] = (void *)PyExc_ValueError;
    PyObject *capsule = PyCapsule_New((void *)table, "ext_capsule.api", NULL);
    if (capsule == NULL || PyModule_AddObjectRef(made, "api", capsule) < 0) {
        Py_XDECREF(capsule);
        Py_DECREF(made);
        return NULL;
    }
    Py_DECREF(capsule);
    return made;
}
