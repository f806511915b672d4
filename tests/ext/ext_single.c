/* Single-phase initialisation without module state (m_size -1): the oldest and still a frequent way.
 *
 * CPython would run PyInit in the main interpreter and copy the module's dict from there, so objects of the main
 * interpreter would be seen here.  The constants made in PyInit show whose they are. */
#include "ext.h"

static long inits;
static PyObject *registry; /* a dict that the module and C both hold, as caches are */

static PyObject *get_inits(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(inits);
}

static PyObject *same_registry(PyObject *self, PyObject *Py_UNUSED(unused)) {
    PyObject *seen = PyObject_GetAttrString(self, "registry");
    Py_XDECREF(seen);
    return seen == NULL ? NULL : PyBool_FromLong(seen == registry);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"inits", get_inits, METH_NOARGS, NULL},
                                {"same_registry", same_registry, METH_NOARGS, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_single", "single-phase", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_single(void) {
    inits++;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    registry = PyDict_New();
    PyObject *owner = ext_owner(NULL, NULL);
    if (registry == NULL || owner == NULL || PyModule_AddObjectRef(made, "registry", registry) < 0 ||
        PyModule_AddObjectRef(made, "made_in", owner) < 0 ||
        PyModule_AddIntConstant(made, "inits_then", inits) < 0) {
        Py_XDECREF(owner);
        Py_DECREF(made);
        return NULL;
    }
    Py_DECREF(owner);
    return made;
}
