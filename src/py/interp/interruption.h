/* What is to be raised in a run. */
#ifndef ATOLL_PY_INTERP_INTERRUPTION_H
#define ATOLL_PY_INTERP_INTERRUPTION_H

#include "py/codec/codec.h"
#include "py/state.h"

/* What is to be raised in a run.  Read by many; the kinds that need no message are static. */
typedef struct {
    _Atomic(uint32_t) refs; /* 0: static */
    PyObject **type;        /* raised as it is, or NULL: */
    atoll_message exc;      /* an exception class, or an exception */
} atoll_interruption;

extern atoll_interruption atoll_keyboard_interrupt;
extern atoll_interruption atoll_system_exit;

/* Attached: one for an exception class or an exception.  NULL with an exception: TypeError, NotShareableError, what the class
 * raises when it is called without arguments. */
atoll_interruption *atoll_interruption_new(atoll_state *state, PyObject *exc);
void atoll_interruption_retain(atoll_interruption *interruption);
void atoll_interruption_release(atoll_interruption *interruption);
/* Attached: sets the exception.  False, with another exception, when it cannot be had here. */
bool atoll_interruption_set(const atoll_interruption *interruption);
/* The same, with the next best, which says why. */
void atoll_interruption_set_anyhow(const atoll_interruption *interruption);

#endif
