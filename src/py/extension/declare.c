/* CPython refuses to make a module from a definition that does not declare support for a GIL per interpreter.  A clone's
 * definition is private to its interpreter, which is what the declaration would say; so it gets a copy of its slots with
 * the declaration in it.  CPython itself is asked nothing and told nothing, and no other module of the interpreter is
 * affected.
 *
 * Since 3.15 a slot may lead to more slots, of both kinds that there are: what they say counts as if it stood there, and may stand nowhere
 * else.  So they are copied with it, and a declaration is changed where it is.
 *
 * A definition keeps a pointer to its slots, so the copies live as long as the loader.
 */
#include "py/extension/declare.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST 16 /* slots in slots: CPython takes fewer, and says so */

struct atoll_declared {
    struct atoll_declared *next;
    PyModuleDef_Slot slots[]; /* of either kind, which are aligned alike */
};

/* ---- slots of either kind ---- */

typedef enum { OF_DEFINITION, OF_EXPORT } slot_kind;

typedef struct {
    int id; /* 0: the last, which is none */
    void **value;
} slot;

#if ATOLL_HAS_MODULE_EXPORT
static size_t size_of(slot_kind kind) {
    return kind == OF_EXPORT ? sizeof(PySlot) : sizeof(PyModuleDef_Slot);
}

static slot slot_at(void *array, slot_kind kind, size_t i) {
    if (kind == OF_EXPORT) {
        PySlot *one = (PySlot *)array + i;
        return (slot){one->sl_id, &one->sl_ptr};
    }
    PyModuleDef_Slot *one = (PyModuleDef_Slot *)array + i;
    return (slot){one->slot, &one->value};
}

/* Whether it leads to more slots, of which kind. */
static bool is_list(int id, slot_kind *kind) {
    *kind = id == Py_slot_subslots ? OF_EXPORT : OF_DEFINITION;
    return id == Py_slot_subslots || id == Py_mod_slots;
}
#else
static size_t size_of(slot_kind Py_UNUSED(kind)) { return sizeof(PyModuleDef_Slot); }

static slot slot_at(void *array, slot_kind Py_UNUSED(kind), size_t i) {
    PyModuleDef_Slot *one = (PyModuleDef_Slot *)array + i;
    return (slot){one->slot, &one->value};
}

static bool is_list(int Py_UNUSED(id), slot_kind *Py_UNUSED(kind)) { return false; }
#endif

static size_t count_slots(void *array, slot_kind kind) {
    size_t n = 0;
    while (array != NULL && slot_at(array, kind, n).id != 0) {
        n++;
    }
    return n;
}

static bool is_declaration(int id) {
    return id == ATOLL_NEW_MULTIPLE_INTERPRETERS || id == ATOLL_OLD_MULTIPLE_INTERPRETERS;
}

static bool declares(void *array, slot_kind kind, unsigned depth) {
    size_t n = count_slots(array, kind);
    for (size_t i = 0; i < n; i++) {
        slot one = slot_at(array, kind, i);
        slot_kind inner;
        if ((is_declaration(one.id) && *one.value == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED) ||
            (depth < DEEPEST && is_list(one.id, &inner) && declares(*one.value, inner, depth + 1))) {
            return true;
        }
    }
    return false;
}

/* A copy, with room for one more, in which every declaration is that of support; *count: how many there are.  NULL with
 * MemoryError. */
static void *copy_with(atoll_declared **list, void *array, slot_kind kind, unsigned depth, size_t *count) {
    size_t n = count_slots(array, kind);
    atoll_declared *made = calloc(1, sizeof *made + (n + 2) * size_of(kind));
    if (made == NULL) {
        return PyErr_NoMemory();
    }
    made->next = *list;
    *list = made;
    if (n != 0) {
        memcpy(made->slots, array, n * size_of(kind));
    }
    for (size_t i = 0; i < n; i++) {
        slot one = slot_at(made->slots, kind, i);
        slot_kind inner;
        if (is_declaration(one.id)) {
            *one.value = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
            ++*count;
        } else if (depth < DEEPEST && is_list(one.id, &inner) && *one.value != NULL &&
                   (*one.value = copy_with(list, *one.value, inner, depth + 1, count)) == NULL) {
            return NULL;
        }
    }
    return made->slots;
}

/* ---- definitions ---- */

bool atoll_definition_declares(const PyModuleDef *definition) {
    return declares(definition->m_slots, OF_DEFINITION, 0);
}

int atoll_definition_make(atoll_declared **list, PyModuleDef *definition) {
    if (atoll_definition_declares(definition)) {
        return 0;
    }
    size_t count = 0;
    PyModuleDef_Slot *slots = copy_with(list, definition->m_slots, OF_DEFINITION, 0, &count);
    if (slots == NULL) {
        return -1;
    }
    if (count == 0) {
        slots[count_slots(slots, OF_DEFINITION)] = (PyModuleDef_Slot){
            .slot = Py_mod_multiple_interpreters, .value = Py_MOD_PER_INTERPRETER_GIL_SUPPORTED};
    }
    definition->m_slots = slots;
    return 0;
}

void atoll_declared_free(atoll_declared *list) {
    while (list != NULL) {
        atoll_declared *next = list->next;
        free(list);
        list = next;
    }
}

/* ---- exported slots ---- */

#if ATOLL_HAS_MODULE_EXPORT
bool atoll_slots_declare(const PySlot *slots) { return declares((void *)slots, OF_EXPORT, 0); }

PyObject *atoll_extension_from_slots(atoll_declared **list, const PySlot *slots, PyObject *spec) {
    if (atoll_slots_declare(slots)) {
        return PyModule_FromSlotsAndSpec(slots, spec);
    }
    size_t count = 0;
    PySlot *copy = copy_with(list, (void *)slots, OF_EXPORT, 0, &count);
    if (copy == NULL) {
        return NULL;
    }
    if (count == 0) {
        copy[count_slots(copy, OF_EXPORT)] =
            (PySlot)PySlot_DATA(Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED);
    }
    return PyModule_FromSlotsAndSpec(copy, spec);
}
#endif
