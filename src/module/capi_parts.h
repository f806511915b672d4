/* The functions of the C API, for its table: see atoll.h. */
#ifndef ATOLL_MODULE_CAPI_PARTS_H
#define ATOLL_MODULE_CAPI_PARTS_H

#include "module/capi.h"

/* capi_interp.c */
int atoll_capi_create(const atoll_options *options, atoll_interp **interp);
int atoll_capi_find(int64_t id, atoll_interp **interp);
int atoll_capi_adopt(atoll_interp **interp);
void atoll_capi_retain(atoll_interp *interp);
void atoll_capi_release(atoll_interp *interp);
int64_t atoll_capi_id(const atoll_interp *interp);
int64_t atoll_capi_current_id(void);
int atoll_capi_enter(atoll_interp *interp, atoll_visit **visit);
int atoll_capi_leave(atoll_visit *visit);
int atoll_capi_close(atoll_interp *interp, double timeout, int force);
PyObject *atoll_capi_object(atoll_interp *interp);
int atoll_capi_from_object(PyObject *object, atoll_interp **interp);

#endif
