/* Refuses to be initialised anywhere but in the main interpreter, for which it takes what PyInterpreterState_Main()
 * says: to a private copy its own interpreter is the only one. */
#include "ext.h"

static int exec_module(PyObject *Py_UNUSED(made)) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "only the main interpreter may import this");
        return -1;
    }
    return 0;
}

/* state(): the id of the main interpreter, whether Python is initialised, whether it is being finalised. */
static PyObject *get_state(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
#if PY_VERSION_HEX >= 0x030d0000
    int finalizing = Py_IsFinalizing();
#else
    int finalizing = 0;
#endif
    return Py_BuildValue("LNN", (long long)PyInterpreterState_GetID(PyInterpreterState_Main()),
                         PyBool_FromLong(Py_IsInitialized()), PyBool_FromLong(finalizing));
}

static PyMethodDef methods[] = {EXT_METHODS, {"state", get_state, METH_NOARGS, NULL}, EXT_METHODS_END};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_main_only", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_main_only(void) { return PyModuleDef_Init(&module); }
