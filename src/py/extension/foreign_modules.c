/* Modules that clones make, as PyInit functions and by themselves: named and declared as their interpreter needs them.
 *
 * The interpreter is attached, and what is changed of a definition is in the clone's own memory.  Failure is CPython's.
 */
#include "py/extension/foreign.h"

#include <string.h>

static _Thread_local const char *package;

const char *atoll_foreign_set_package(const char *name) {
    const char *before = package;
    package = name;
    return before;
}

/* PyModule_Create2(): a module in a package is called by its full name, which CPython keeps where only its own loader
 * can put it.  The definition is in the clone's own memory, so the name can be in there meanwhile. */
static void *module_create(void *Py_UNUSED(owner), void *raw, int version) {
    PyModuleDef *definition = raw;
    const char *name = definition->m_name;
    const char *last = package != NULL ? strrchr(package, '.') : NULL;
    if (last == NULL || name == NULL || strcmp(last + 1, name) != 0) {
        return PyModule_Create2(definition, version);
    }
    definition->m_name = package;
    package = NULL;
    PyObject *module = PyModule_Create2(definition, version);
    definition->m_name = name;
    return module;
}

PyObject *atoll_foreign_module_from(atoll_foreign *f, PyModuleDef *definition, PyObject *spec, int version) {
    /* CPython looks at the size before it looks at the slots, and takes no definition with a wrong one. */
    if (definition->m_size >= 0 && atoll_definition_make(&f->declared, definition) < 0) {
        return NULL;
    }
    return PyModule_FromDefAndSpec2(definition, spec, version);
}

/* A clone may make submodules itself. */
static void *module_from(void *owner, void *definition, void *spec, int version) {
    return atoll_foreign_module_from(owner, definition, spec, version);
}

static void *module_from_slots(void *owner, const void *slots, void *spec) {
#if ATOLL_HAS_MODULE_EXPORT
    return atoll_extension_from_slots(&((atoll_foreign *)owner)->declared, slots, spec);
#else
    (void)owner;
    (void)slots;
    (void)spec;
    return NULL; /* no clone has this function's name */
#endif
}

void atoll_foreign_makes_modules(atoll_shim *shim) {
    shim->module_create = module_create;
    shim->module_from = module_from;
    shim->module_from_slots = module_from_slots;
}
