/* CPython 3.15's slots that lead to more slots, of both kinds and in both; what they declare about interpreters, if anything. */
#include "ext.h"

#define JOINED(prefix, name) prefix##name
#define JOIN(prefix, name) JOINED(prefix, name)

#if PY_VERSION_HEX >= 0x030f0000
#define SUPPORTED Py_MOD_PER_INTERPRETER_GIL_SUPPORTED
#define NOT_SUPPORTED Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};

#if KIND <= 3
PyABIInfo_VAR(abi);

#if KIND == 1
static PySlot inner[] = {PySlot_DATA(Py_mod_multiple_interpreters, NOT_SUPPORTED), PySlot_END};
#define INNER PySlot_STATIC_DATA(Py_slot_subslots, inner)
#elif KIND == 2
static PyModuleDef_Slot inner[] = {{Py_mod_multiple_interpreters, SUPPORTED}, {0, NULL}};
#define INNER PySlot_STATIC_DATA(Py_mod_slots, inner)
#else
static PySlot innermost[] = {PySlot_STATIC_DATA(Py_mod_doc, "nothing about interpreters"), PySlot_END};
static PySlot inner[] = {PySlot_STATIC_DATA(Py_slot_subslots, innermost), PySlot_END};
#define INNER PySlot_STATIC_DATA(Py_slot_subslots, inner)
#endif

static PySlot slots[] = {PySlot_STATIC_DATA(Py_mod_methods, methods), INNER, PySlot_DATA(Py_mod_abi, &abi),
                         PySlot_END};

PyMODEXPORT_FUNC JOIN(PyModExport_, NAME)(void) { return slots; }

#else

#if KIND == 4
static PySlot inner[] = {PySlot_DATA(Py_mod_multiple_interpreters, SUPPORTED), PySlot_END};
static PyModuleDef_Slot slots[] = {{Py_slot_subslots, inner}, {0, NULL}};
#else
static PyModuleDef_Slot inner[] = {{Py_mod_multiple_interpreters, NOT_SUPPORTED}, {0, NULL}};
static PyModuleDef_Slot slots[] = {{Py_mod_slots, inner}, {0, NULL}};
#endif

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_nested", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC JOIN(PyInit_, NAME)(void) { return PyModuleDef_Init(&module); }

#endif
#else
#define SINGLE(name) EXT_SINGLE_PHASE(name)
SINGLE(NAME)
#endif
