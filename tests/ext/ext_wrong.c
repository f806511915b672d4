/* Initialisation that goes wrong, in every way for which CPython has an error; one function for each way, to be loaded
 * under its name from this one file. */
#include "ext.h"

#define DEFINITION(name, slots)                                                                              \
    static struct PyModuleDef name = {PyModuleDef_HEAD_INIT, #name, NULL, 0, NULL, slots, NULL, NULL, NULL}

/* PyInit_ itself */

PyMODINIT_FUNC PyInit_init_raises(void) {
    PyErr_SetString(PyExc_KeyError, "raised by PyInit");
    return NULL;
}

PyMODINIT_FUNC PyInit_init_raises_import_error(void) {
    PyErr_SetString(PyExc_ImportError, "raised by PyInit");
    return NULL;
}

PyMODINIT_FUNC PyInit_init_returns_null(void) { return NULL; }

PyMODINIT_FUNC PyInit_init_leaves_exception(void) {
    static struct PyModuleDef init_leaves_exception = {
        PyModuleDef_HEAD_INIT, "init_leaves_exception", NULL, -1, NULL, NULL, NULL, NULL, NULL};
    PyObject *made = PyModule_Create(&init_leaves_exception);
    PyErr_SetString(PyExc_KeyError, "left by PyInit");
    return made;
}

PyMODINIT_FUNC PyInit_init_leaves_exception_multi(void) {
    DEFINITION(init_leaves_exception_multi, NULL);
    PyErr_SetString(PyExc_KeyError, "left by PyInit");
    return PyModuleDef_Init(&init_leaves_exception_multi);
}

PyMODINIT_FUNC PyInit_init_returns_raw_definition(void) {
    DEFINITION(init_returns_raw_definition, NULL);
    return (PyObject *)&init_returns_raw_definition; /* PyModuleDef_Init() forgotten */
}

PyMODINIT_FUNC PyInit_init_returns_number(void) { return PyLong_FromLong(5); }

/* Slots */

static int exec_raises(PyObject *Py_UNUSED(made)) {
    PyErr_SetString(PyExc_KeyError, "raised by the exec slot");
    return -1;
}
static int exec_fails_silently(PyObject *Py_UNUSED(made)) { return -1; }
static int exec_leaves_exception(PyObject *Py_UNUSED(made)) {
    PyErr_SetString(PyExc_KeyError, "left by the exec slot");
    return 0;
}
static PyObject *create_raises(PyObject *Py_UNUSED(spec), PyModuleDef *Py_UNUSED(definition)) {
    PyErr_SetString(PyExc_KeyError, "raised by the create slot");
    return NULL;
}
static PyObject *create_returns_null(PyObject *Py_UNUSED(spec), PyModuleDef *Py_UNUSED(definition)) {
    return NULL;
}
static PyObject *create_leaves_exception(PyObject *Py_UNUSED(spec), PyModuleDef *Py_UNUSED(definition)) {
    PyErr_SetString(PyExc_KeyError, "left by the create slot");
    return PyModule_New("create_leaves_exception");
}
static PyObject *create_returns_number(PyObject *Py_UNUSED(spec), PyModuleDef *Py_UNUSED(definition)) {
    return PyLong_FromLong(5);
}

#define WITH_SLOTS(name, ...)                                                                                \
    PyMODINIT_FUNC PyInit_##name(void) {                                                                     \
        static PyModuleDef_Slot slots[] = {__VA_ARGS__, {0, NULL}};                                          \
        DEFINITION(name, slots);                                                                             \
        return PyModuleDef_Init(&name);                                                                      \
    }

WITH_SLOTS(exec_raises, {Py_mod_exec, exec_raises})
WITH_SLOTS(exec_fails_silently, {Py_mod_exec, exec_fails_silently})
WITH_SLOTS(exec_leaves_exception, {Py_mod_exec, exec_leaves_exception})
WITH_SLOTS(create_raises, {Py_mod_create, create_raises})
WITH_SLOTS(create_returns_null, {Py_mod_create, create_returns_null})
WITH_SLOTS(create_leaves_exception, {Py_mod_create, create_leaves_exception})
WITH_SLOTS(create_with_exec, {Py_mod_create, create_returns_number}, {Py_mod_exec, exec_raises})
WITH_SLOTS(unknown_slot, {9999, NULL})
WITH_SLOTS(two_create_slots, {Py_mod_create, create_raises}, {Py_mod_create, create_raises})

PyMODINIT_FUNC PyInit_negative_size(void) {
    static struct PyModuleDef negative_size = {
        PyModuleDef_HEAD_INIT, "negative_size", NULL, -1, NULL, NULL, NULL, NULL, NULL};
    return PyModuleDef_Init(&negative_size);
}

/* A name that is not ASCII ("\u00e9") and single-phase initialisation, which CPython does not allow for one */
PyMODINIT_FUNC PyInitU_9ca(void) {
    static struct PyModuleDef not_ascii = {
        PyModuleDef_HEAD_INIT, "not_ascii", NULL, -1, NULL, NULL, NULL, NULL, NULL};
    return PyModule_Create(&not_ascii);
}

#if PY_VERSION_HEX >= 0x030f0000
/* PyModExport_ */

PyMODEXPORT_FUNC PyModExport_export_raises(void) {
    PyErr_SetString(PyExc_KeyError, "raised by PyModExport");
    return NULL;
}

PyMODEXPORT_FUNC PyModExport_export_returns_null(void) { return NULL; }

PyABIInfo_VAR(abi);

PyMODEXPORT_FUNC PyModExport_export_leaves_exception(void) {
    static PySlot slots[] = {PySlot_DATA(Py_mod_abi, &abi), PySlot_END};
    PyErr_SetString(PyExc_KeyError, "left by PyModExport");
    return slots;
}

PyMODEXPORT_FUNC PyModExport_export_exec_raises(void) {
    static PySlot slots[] = {PySlot_DATA(Py_mod_abi, &abi), PySlot_FUNC(Py_mod_exec, exec_raises),
                             PySlot_END};
    return slots;
}

PyMODEXPORT_FUNC PyModExport_export_unknown_slot(void) {
    static PySlot slots[] = {PySlot_DATA(Py_mod_abi, &abi), PySlot_DATA(9999, &abi), PySlot_END};
    return slots;
}

PyMODEXPORT_FUNC PyModExport_export_without_abi(void) {
    static PySlot slots[] = {PySlot_END};
    return slots;
}
#endif

/* And two that are right, from the same file. */
EXT_SINGLE_PHASE(good_single)
EXT_MULTI_PHASE(good_multi, NULL)
