/* _datetime that is built into Python: see builtin_datetime.c. */
#ifndef ATOLL_PY_EXTENSION_BUILTIN_DATETIME_H
#define ATOLL_PY_EXTENSION_BUILTIN_DATETIME_H

#include "py/compat.h"

#include <stdbool.h>

/* Main is attached, before Atoll makes the first interpreter: main gets the module, where others need that.  Takes the
 * lifecycle lock.  Does nothing the second time.  0, or -1 with an exception that says nothing of the module: Ctrl-C, no memory. */
int atoll_datetime_hold(void (*lock)(void), void (*unlock)(void));
/* Whether that has been done. */
bool atoll_datetime_is_settled(void);
/* Main is attached, about to be finalized, and no interpreter of Atoll's is left. */
void atoll_datetime_let_go(void);
/* Python has ended: what was held of it is gone. */
void atoll_datetime_forget(void);
/* Whether the built-in module can be used in other interpreters. */
bool atoll_datetime_is_held(void);
/* The module in the attached interpreter, not main, where it is held: a new reference, or NULL with an exception, or NULL
 * without one: CPython makes it. */
PyObject *atoll_datetime_create(void);

#endif
