/* Definitions of modules in clones that are made to declare support for a GIL per interpreter. */
#ifndef ATOLL_PY_EXTENSION_DECLARE_H
#define ATOLL_PY_EXTENSION_DECLARE_H

#include "py/compat.h"

#include <stdbool.h>

/* What an interpreter's definitions got; a list, changed with its GIL held. */
typedef struct atoll_declared atoll_declared;

/* Whether the definition declares support, by itself or because it was made to. */
bool atoll_definition_declares(const PyModuleDef *definition);
/* Makes it declare support, unless it does.  0, or -1 with MemoryError. */
int atoll_definition_make(atoll_declared **list, PyModuleDef *definition);
/* The definitions are gone, or nobody will look at them any more. */
void atoll_declared_free(atoll_declared *list);

#if ATOLL_HAS_MODULE_EXPORT
bool atoll_slots_declare(const PySlot *slots);
/* PyModule_FromSlotsAndSpec() with slots that declare support, whether they did before or not. */
PyObject *atoll_extension_from_slots(atoll_declared **list, const PySlot *slots, PyObject *spec);
#endif

#endif
