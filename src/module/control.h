/* Interrupting what runs in an interpreter, and time limits: control.c. */
#ifndef ATOLL_MODULE_CONTROL_H
#define ATOLL_MODULE_CONTROL_H

#include "module/module.h"

/* Interpreter.interrupt() */
PyObject *atoll_pycontrol_interrupt(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);
extern const char atoll_pycontrol_interrupt_doc[];
/* Adds timeout. */
int atoll_pycontrol_add(PyObject *module);

#endif
