/* The methods of CPython's own types in interpreters: see builtin_types.c. */
#ifndef ATOLL_PY_EXTENSION_BUILTIN_TYPES_H
#define ATOLL_PY_EXTENSION_BUILTIN_TYPES_H

#include "py/compat.h"

#include <stdbool.h>

/* Attached to main, before the first interpreter is made: notes what main's types have, once.  0, or -1 with MemoryError. */
int atoll_builtin_types_note(void);
bool atoll_builtin_types_noted(void);
/* Attached to a new interpreter in which nothing has run, with the lifecycle lock held: finds out what to change, once.  0, or
 * -1 with MemoryError. */
int atoll_builtin_types_compare(void);
/* Attached to a new interpreter after that, before code of anybody else's runs there: its types have what main's have.  0, or
 * -1 with an exception. */
int atoll_builtin_types_settle(void);

/* Does the same for the static types of a module that CPython readies only when it is imported, and has executed.  0, or -1
 * with an exception. */
int atoll_builtin_types_added(PyObject *module);

#endif
