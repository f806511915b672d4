/* Functions that take the place of a module's own: see facade.c. */
#ifndef ATOLL_PY_FACADE_H
#define ATOLL_PY_FACADE_H

#include "py/compat.h"

/* All of them attached. */

/* A function that looks like `original`, a module's function of C, and calls `implementation`, which the interpreter keeps; what it
 * had for this name before is given up.  NULL with an exception: SystemError for a function that is not on the list in
 * facade.c.  One that is such a function already is returned as it is.  What is not a module's own function of C (somebody else has
 * replaced it before) is not imitated: then `implementation`. */
PyObject *atoll_facade_new(PyObject *original, PyObject *implementation);
/* Puts that in the place of the module's attribute.  0, or -1 with an exception. */
int atoll_facade_put(PyObject *module, const char *name, PyObject *implementation);
/* Puts a function of C in the place of the module's attribute of its name, which it is bound to.  0, or -1 with an exception. */
int atoll_facade_put_around(PyObject *module, PyMethodDef *definition);
#endif
