/* Interrupting what runs in an interpreter, and time limits: control.c. */
#ifndef ATOLL_MODULE_CONTROL_H
#define ATOLL_MODULE_CONTROL_H

#include "module/module.h"

/* An Interpreter's entry, if Atoll may do `what` in it; NULL with an exception.  Borrowed. */
atoll_entry *atoll_pycontrol_entry(atoll_state *state, PyObject *self, const char *what);
/* The same, or that of one that was adopted, or main's, which need not know Atoll yet: for calls and what concerns them. */
atoll_entry *atoll_pycontrol_called(atoll_state *state, PyObject *self, const char *what);
/* Interpreter.interrupt() */
PyObject *atoll_pycontrol_interrupt(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);
extern const char atoll_pycontrol_interrupt_doc[];
/* Reads memory_limit and cpu_limit, each NULL or None when there is none.  0, or -1 with an exception. */
int atoll_pycontrol_limits(PyObject *memory, PyObject *cpu, atoll_limits *limits);
/* Reads soft_memory_limit into limits, after the others: bytes, or bytes and what is to be called (borrowed, else NULL).  0, or -1 with an
 * exception. */
int atoll_pycontrol_soft_limit(PyObject *soft, atoll_limits *limits, PyObject **callback);
/* Sets it in a new interpreter.  0, or -1 with an exception. */
int atoll_pycontrol_set_soft(atoll_state *state, atoll_entry *entry, const atoll_limits *limits,
                             PyObject *callback);
/* Adds timeout. */
int atoll_pycontrol_add(PyObject *module);

#endif
