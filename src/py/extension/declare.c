/* CPython refuses to make a module from a definition that does not declare support for a GIL per interpreter.  A clone's
 * definition is private to its interpreter, which is what the declaration would say; so it gets a copy of its slots with
 * the declaration in it.  CPython itself is asked nothing and told nothing, and no other module of the interpreter is
 * affected.
 *
 * A definition keeps a pointer to its slots, so the copy lives as long as the loader.
 */
#include "py/extension/declare.h"

#include <stdlib.h>

struct atoll_declared {
    struct atoll_declared *next;
    PyModuleDef_Slot slots[];
};

bool atoll_slot_is_multiple_interpreters(int slot) {
    return slot == ATOLL_NEW_MULTIPLE_INTERPRETERS || slot == ATOLL_OLD_MULTIPLE_INTERPRETERS;
}

bool atoll_definition_declares(const PyModuleDef *definition) {
    const PyModuleDef_Slot *slot = definition->m_slots;
    for (; slot != NULL && slot->slot != 0; slot++) {
        if (atoll_slot_is_multiple_interpreters(slot->slot) &&
            slot->value == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED) {
            return true;
        }
    }
    return false;
}

int atoll_definition_make(atoll_declared **list, PyModuleDef *definition) {
    if (atoll_definition_declares(definition)) {
        return 0;
    }
    size_t n = 0;
    while (definition->m_slots != NULL && definition->m_slots[n].slot != 0) {
        n++;
    }
    atoll_declared *made = calloc(1, sizeof *made + (n + 2) * sizeof *made->slots);
    if (made == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!atoll_slot_is_multiple_interpreters(definition->m_slots[i].slot)) {
            made->slots[kept++] = definition->m_slots[i];
        }
    }
    made->slots[kept] = (PyModuleDef_Slot){.slot = Py_mod_multiple_interpreters,
                                           .value = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED};
    made->next = *list;
    *list = made;
    definition->m_slots = made->slots;
    return 0;
}

void atoll_declared_free(atoll_declared *list) {
    while (list != NULL) {
        atoll_declared *next = list->next;
        free(list);
        list = next;
    }
}

#if ATOLL_HAS_MODULE_EXPORT
bool atoll_slots_declare(const PySlot *slots) {
    for (; slots->sl_id != Py_slot_end; slots++) {
        if (atoll_slot_is_multiple_interpreters(slots->sl_id) &&
            slots->sl_ptr == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED) {
            return true;
        }
    }
    return false;
}

PyObject *atoll_extension_from_slots(const PySlot *slots, PyObject *spec) {
    if (atoll_slots_declare(slots)) {
        return PyModule_FromSlotsAndSpec(slots, spec);
    }
    size_t n = 0;
    while (slots[n].sl_id != Py_slot_end) {
        n++;
    }
    PySlot *copy = calloc(n + 2, sizeof *copy);
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!atoll_slot_is_multiple_interpreters(slots[i].sl_id)) {
            copy[kept++] = slots[i];
        }
    }
    copy[kept] = (PySlot)PySlot_DATA(Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED);
    PyObject *module = PyModule_FromSlotsAndSpec(copy, spec); /* which keeps no pointer to the array */
    free(copy);
    return module;
}
#endif
