/* The C API (include/atoll/atoll.h): what its files share. */
#ifndef ATOLL_MODULE_CAPI_H
#define ATOLL_MODULE_CAPI_H

#include "module/module.h"

#define ATOLL_TYPES_ONLY
#include "atoll/atoll.h"

int atoll_capi_add(PyObject *module);

/* ---- errors: each returns the code ---- */

/* A thread that is attached gets the exception for the code, unless one is set. */
int atoll_capi_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* For the exception that is set, and stays so. */
int atoll_capi_fail_raised(void);
const char *atoll_capi_message(void);

/* ---- where a function stands that needs a thread state, and may be called anywhere ---- */

typedef struct {
    atoll_state *state; /* of the interpreter that is attached now */
    bool ensured;       /* for the time of the function only */
    PyGILState_STATE before;
} atoll_capi_footing;

/* 0, or a code, and the thread is where it was. */
int atoll_capi_stand(atoll_capi_footing *footing);
/* Back.  What is set there is an exception only where the thread was attached. */
void atoll_capi_step_back(atoll_capi_footing *footing);
/* 0 with the state of the attached interpreter; or a code, with an exception unless nothing is attached. */
int atoll_capi_attached(atoll_state **state);
/* For what needs none: the same, or NULL without an exception, also where the interpreter ends. */
atoll_state *atoll_capi_state(void);

#endif
