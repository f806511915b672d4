/* Initialising an extension module in the attached interpreter, from a library that is loaded (loader.c).
 *
 * What CPython does with a module once its library is loaded is done here by hand, for two reasons.  CPython runs PyInit
 * of a module with single-phase initialisation in the main interpreter and copies the result; and it refuses a
 * definition that does not declare support for a GIL per interpreter.  From a clone PyInit can run here, and the
 * definition is the interpreter's own, so it gets a copy of its slots in which the declaration is made.
 *
 * Modules with single-phase initialisation are remembered as CPython does it, by name and file: one without module
 * state (m_size -1) is made once more from a copy of its dict, any other by its init function.  The memory is a dict of
 * the interpreter's, which goes with it.
 *
 * Errors are those of CPython, text and type.  The interpreter's thread state is attached everywhere.
 */
#include "py/extension/loader_internal.h"

#include <stdlib.h>
#include <string.h>

typedef PyObject *(*init_function)(void);

bool atoll_extension_declared(PyObject *module) {
    const PyModuleDef *definition = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    return definition != NULL && atoll_definition_declares(definition);
}

char *atoll_extension_import_root(const atoll_module_info *info) {
    char *root = strdup(info->file);
    const char *dot = info->full;
    for (char *slash; root != NULL && dot != NULL && (slash = strrchr(root, '/')) != NULL;) {
        *slash = '\0';
        dot = strchr(dot, '.');
        dot = dot != NULL ? dot + 1 : NULL;
    }
    if (dot != NULL) {
        free(root);
        root = NULL;
    }
    return root;
}

int atoll_extension_info_encode(atoll_module_info *info) {
    Py_ssize_t length = PyUnicode_GetLength(info->name);
    Py_ssize_t dot = PyUnicode_FindChar(info->name, '.', 0, length, -1);
    PyObject *last = dot >= -1 ? PyUnicode_Substring(info->name, dot + 1, length) : NULL;
    info->ascii = last != NULL && PyUnicode_IS_ASCII(last);
    info->bytes =
        last != NULL ? PyUnicode_AsEncodedString(last, info->ascii ? "ascii" : "punycode", NULL) : NULL;
    info->full = PyUnicode_AsUTF8(info->name);
    Py_XDECREF(last);
    if (info->bytes == NULL || info->full == NULL) {
        return -1;
    }
    for (char *at = PyBytes_AS_STRING(info->bytes); *at != '\0'; at++) {
        *at = *at == '-' ? '_' : *at; /* nobody else has this bytes object yet */
    }
    info->encoded = PyBytes_AS_STRING(info->bytes);
    return 0;
}

/* The name of a module's function with this prefix, a bytes object, or NULL with an exception. */
static PyObject *function_name(const atoll_module_info *info, const char *prefix) {
    return PyBytes_FromFormat("%s%s_%s", prefix, info->ascii ? "" : "U", info->encoded);
}

/* By the directory that is theirs alone; sys.stdlib_module_names lacks some of them. */
bool atoll_extension_is_standard(const atoll_module_info *info) {
    static const char home[] = "/lib-dynload";
    const size_t length = sizeof home - 1;
    const char *end = strrchr(info->file, '/');
    return end != NULL && (size_t)(end - info->file) >= length && memcmp(end - length, home, length) == 0 &&
           strchr(info->full, '.') == NULL;
}

bool atoll_verdict_file_must_clone(const atoll_elf *elf) {
    return atoll_elf_imports(elf, "PyGILState_Ensure") || atoll_elf_imports(elf, "Py_AddPendingCall") ||
           (ATOLL_DATETIME_IS_PRIVATE && atoll_elf_mentions(elf, "datetime.datetime_CAPI"));
}

bool atoll_verdict_file_may_declare(const atoll_elf *elf, const atoll_module_info *info) {
    const uint64_t supported = (uint64_t)(uintptr_t)Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
    bool multi = atoll_elf_imports(elf, "PyModuleDef_Init");
    bool found = multi && (atoll_elf_has_pair(elf, ATOLL_OLD_MULTIPLE_INTERPRETERS, UINT64_MAX, supported) ||
                           atoll_elf_has_pair(elf, ATOLL_NEW_MULTIPLE_INTERPRETERS, UINT64_MAX, supported));
#if ATOLL_HAS_MODULE_EXPORT
    PyObject *exc = PyErr_GetRaisedException(); /* why it could not be cloned */
    PyObject *name = function_name(info, "PyModExport");
    if (name != NULL && atoll_elf_defines(elf, PyBytes_AS_STRING(name))) {
        /* A slot's number has 16 bits, and flags behind them. */
        found |=
            atoll_elf_has_pair(elf, Py_mod_multiple_interpreters, UINT64_C(0xffffffff0000ffff), supported);
    }
    Py_XDECREF(name);
    PyErr_SetRaisedException(exc); /* instead of one of the name's */
#else
    (void)info;
#endif
    return found;
}

/* ---- multi-phase initialisation ---- */

static atoll_init_result init_definition(atoll_loader *loader, PyModuleDef *definition, PyObject *spec,
                                         atoll_init_source source, PyObject **module) {
    if (source == ATOLL_FROM_ORIGINAL) {
        if (!atoll_definition_declares(definition)) {
            return ATOLL_INIT_OTHER;
        }
        *module = PyModule_FromDefAndSpec(definition, spec);
    } else {
        *module = atoll_foreign_module_from(&loader->foreign, definition, spec, PYTHON_API_VERSION);
    }
    return *module != NULL ? ATOLL_INIT_DONE : ATOLL_INIT_FAILED;
}

/* ---- single-phase initialisation ---- */

/* (file, name) -> (address of the definition, of the init function, a copy of the dict or None) */
static PyObject *single_key(const atoll_module_info *info) {
    return PyTuple_Pack(2, info->origin, info->name);
}

static int remember_single(const atoll_module_info *info, PyObject *singles, PyObject *module,
                           PyModuleDef *definition, init_function init) {
    PyObject *copy = definition->m_size == -1 ? PyDict_Copy(PyModule_GetDict(module)) : Py_NewRef(Py_None);
    PyObject *address = PyLong_FromVoidPtr(definition);
    PyObject *function = PyLong_FromVoidPtr((void *)(uintptr_t)init);
    PyObject *key = single_key(info);
    PyObject *value =
        copy != NULL && address != NULL && function != NULL ? PyTuple_Pack(3, address, function, copy) : NULL;
    int rc = key != NULL && value != NULL ? PyDict_SetItem(singles, key, value) : -1;
    Py_XDECREF(value);
    Py_XDECREF(key);
    Py_XDECREF(function);
    Py_XDECREF(address);
    Py_XDECREF(copy);
    return rc;
}

/* What CPython does with a module that PyInit returned: PyState_FindModule() and sys.modules know it. */
static int add_single(const atoll_module_info *info, PyObject *module, PyModuleDef *definition) {
    if (PyState_FindModule(definition) != module && PyState_AddModule(module, definition) < 0) {
        return -1;
    }
    return PyObject_SetItem(PyImport_GetModuleDict(), info->name, module);
}

/* Calls PyInit with CPython's checks of what it returns; a new reference or NULL with an exception. */
static PyObject *call_init(const atoll_module_info *info, init_function init) {
    const char *name = info->encoded;
    const char *outer = atoll_foreign_set_package(info->full);
    PyObject *made = init();
    (void)atoll_foreign_set_package(outer);
    if (made == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_SystemError, "initialization of %s failed without raising an exception", name);
        }
        return NULL;
    }
    if (PyErr_Occurred()) {
        PyObject *cause = PyErr_GetRaisedException();
        PyErr_Format(PyExc_SystemError, "initialization of %s raised unreported exception", name);
        PyObject *raised = PyErr_GetRaisedException();
        PyException_SetCause(raised, Py_NewRef(cause));
        PyException_SetContext(raised, cause);
        PyErr_SetRaisedException(raised);
        return NULL; /* as CPython does, without releasing it: it may be a definition that counts no references */
    }
    if (Py_TYPE(made) == NULL) {
        PyErr_Format(PyExc_SystemError, "init function of %s returned uninitialized object", name);
        return NULL;
    }
    return made;
}

static PyObject *finish_single(const atoll_module_info *info, PyObject *made, PyObject *singles,
                               init_function init) {
    if (!info->ascii) {
        PyErr_Format(PyExc_SystemError, "initialization of %s did not return PyModuleDef", info->encoded);
        return NULL;
    }
    PyModuleDef *definition = PyModule_Check(made) ? PyModule_GetDef(made) : NULL;
    if (definition == NULL) {
        PyErr_Format(PyExc_SystemError, "initialization of %s did not return an extension module",
                     info->encoded);
        return NULL;
    }
    definition->m_base.m_init = init;
    if (PyModule_AddObjectRef(made, "__file__", info->origin) < 0) {
        PyErr_Clear();
    }
    if (remember_single(info, singles, made, definition, init) < 0 ||
        add_single(info, made, definition) < 0) {
        return NULL;
    }
    return Py_NewRef(made);
}

static PyObject *again_from_copy(const atoll_module_info *info, PyModuleDef *definition, PyObject *copy) {
    PyObject *module = Py_XNewRef(PyImport_AddModuleObject(info->name));
    if (module != NULL &&
        (PyDict_Update(PyModule_GetDict(module), copy) < 0 || add_single(info, module, definition) < 0)) {
        Py_CLEAR(module);
    }
    return module;
}

static PyObject *again_by_init(const atoll_module_info *info, PyModuleDef *definition, init_function init) {
    PyObject *module = call_init(info, init);
    if (module != NULL && add_single(info, module, definition) < 0) {
        Py_CLEAR(module);
    }
    return module;
}

int atoll_extension_again(const atoll_module_info *info, PyObject *singles, PyObject **module) {
    PyObject *key = single_key(info);
    PyObject *known = key != NULL ? Py_XNewRef(PyDict_GetItemWithError(singles, key)) : NULL;
    Py_XDECREF(key);
    if (known == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyModuleDef *definition = PyLong_AsVoidPtr(PyTuple_GET_ITEM(known, 0));
    PyObject *copy = PyTuple_GET_ITEM(known, 2);
    if (copy != Py_None) {
        *module = again_from_copy(info, definition, copy);
    } else {
        *module = again_by_init(info, definition,
                                (init_function)(uintptr_t)PyLong_AsVoidPtr(PyTuple_GET_ITEM(known, 1)));
    }
    Py_DECREF(known);
    return *module != NULL ? 1 : -1;
}

/* ---- PyModExport ---- */

#if ATOLL_HAS_MODULE_EXPORT
typedef PySlot *(*export_function)(void);

static atoll_init_result init_export(atoll_loader *loader, const atoll_module_info *info, PyObject *spec,
                                     export_function export_slots, atoll_init_source source,
                                     PyObject **module) {
    const PySlot *slots = export_slots();
    if (slots == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_SystemError,
                         "module export hook for module %R failed without setting an exception", info->name);
        }
        return ATOLL_INIT_FAILED;
    }
    if (PyErr_Occurred()) {
        PyErr_Format(PyExc_SystemError, "module export hook for module %R raised unreported exception",
                     info->name);
        return ATOLL_INIT_FAILED;
    }
    if (source == ATOLL_FROM_ORIGINAL && !atoll_slots_declare(slots)) {
        return ATOLL_INIT_OTHER;
    }
    *module = atoll_extension_from_slots(&loader->foreign.declared, slots, spec);
    return *module != NULL ? ATOLL_INIT_DONE : ATOLL_INIT_FAILED;
}
#endif

/* ---- */

/* The function of this name prefix in the clone; NULL without an exception when there is none, or with one. */
static void *find_function(const atoll_module_info *info, void *library, const char *prefix) {
    PyObject *name = function_name(info, prefix);
    void *found = name != NULL ? atoll_dl_symbol(library, PyBytes_AS_STRING(name)) : NULL;
    Py_XDECREF(name);
    return found;
}

static void no_function(const atoll_module_info *info) {
    PyObject *init = function_name(info, "PyInit");
#if ATOLL_HAS_MODULE_EXPORT
    PyObject *export_name = function_name(info, "PyModExport");
    PyObject *text =
        init != NULL && export_name != NULL
            ? PyUnicode_FromFormat("dynamic module does not define module export function (%s or %s)",
                                   PyBytes_AS_STRING(export_name), PyBytes_AS_STRING(init))
            : NULL;
    Py_XDECREF(export_name);
#else
    PyObject *text = init != NULL
                         ? PyUnicode_FromFormat("dynamic module does not define module export function (%s)",
                                                PyBytes_AS_STRING(init))
                         : NULL;
#endif
    if (text != NULL) {
        PyErr_SetImportError(text, info->name, info->origin);
    }
    Py_XDECREF(text);
    Py_XDECREF(init);
}

atoll_init_result atoll_extension_init(atoll_loader *loader, const atoll_module_info *info, PyObject *spec,
                                       void *library, atoll_init_source source, PyObject *singles,
                                       PyObject **module) {
    void *found;
    *module = NULL;
#if ATOLL_HAS_MODULE_EXPORT
    found = find_function(info, library, "PyModExport");
    if (found != NULL) {
        export_function export_slots;
        memcpy(&export_slots, &found, sizeof export_slots);
        return init_export(loader, info, spec, export_slots, source, module);
    }
    if (PyErr_Occurred()) {
        return ATOLL_INIT_FAILED;
    }
#endif
    found = find_function(info, library, "PyInit");
    if (found == NULL) {
        if (!PyErr_Occurred()) {
            no_function(info);
        }
        return ATOLL_INIT_FAILED;
    }
    init_function init;
    memcpy(&init, &found, sizeof init);
    PyObject *made = call_init(info, init);
    if (made == NULL) {
        return ATOLL_INIT_FAILED;
    }
    if (PyObject_TypeCheck(made, &PyModuleDef_Type)) {
        return init_definition(loader, (PyModuleDef *)made, spec, source,
                               module); /* borrowed, as it is a static object */
    }
    if (source == ATOLL_FROM_ORIGINAL) { /* its file only looked as if it declared something */
        Py_DECREF(made);
        return ATOLL_INIT_OTHER;
    }
    *module = finish_single(info, made, singles, init);
    Py_DECREF(made);
    return *module != NULL ? ATOLL_INIT_DONE : ATOLL_INIT_FAILED;
}
