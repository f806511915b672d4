/* CPython 3.15's way: PyModExport_ returns slots, there is no module definition and no PyInit_. */
#include "ext.h"

#if PY_VERSION_HEX >= 0x030f0000
static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};
PyABIInfo_VAR(abi);

typedef struct {
    long number;
} state;

static int exec_module(PyObject *made) {
    state *at = (state *)PyModule_GetState(made);
    at->number = 7;
    return PyModule_AddIntConstant(made, "number", at->number);
}

static PySlot slots[] = {PySlot_STATIC_DATA(Py_mod_name, "ext_export"),
                         PySlot_STATIC_DATA(Py_mod_methods, methods),
                         PySlot_DATA(Py_mod_abi, &abi),
                         PySlot_SIZE(Py_mod_state_size, sizeof(state)),
                         PySlot_FUNC(Py_mod_exec, exec_module),
                         PySlot_END};

PyMODEXPORT_FUNC PyModExport_ext_export(void) { return slots; }
#else
EXT_SINGLE_PHASE(ext_export)
#endif
