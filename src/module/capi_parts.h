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

/* capi_queue.c */
int atoll_capi_queue_create(int64_t maxsize, atoll_queue **queue);
int atoll_capi_queue_find(int64_t id, atoll_queue **queue);
void atoll_capi_queue_release(atoll_queue *queue);
int atoll_capi_queue_put(atoll_queue *queue, void *data, size_t size, atoll_release_function release,
                         void *context, double timeout);
int atoll_capi_queue_put_shared(atoll_queue *queue, atoll_shared *shared, double timeout);
int atoll_capi_queue_get(atoll_queue *queue, atoll_item *item, double timeout);
void atoll_capi_queue_shutdown(atoll_queue *queue, int drop);
PyObject *atoll_capi_queue_object(atoll_queue *queue);
int atoll_capi_queue_from_object(PyObject *object, atoll_queue **queue);
void atoll_capi_item_release(atoll_item *item);
PyObject *atoll_capi_item_object(const atoll_item *item);

/* capi_shared.c */
int atoll_capi_shared_create(size_t size, atoll_shared **shared);
void atoll_capi_shared_release(atoll_shared *shared);
void *atoll_capi_shared_data(const atoll_shared *shared);
size_t atoll_capi_shared_size(const atoll_shared *shared);
PyObject *atoll_capi_shared_object(atoll_shared *shared);
int atoll_capi_shared_from_object(PyObject *object, atoll_shared **shared, void **data, size_t *size,
                                  int *readonly);

/* capi_register.c */
int atoll_capi_register(PyObject *type, atoll_encode_function encode, atoll_decode_function decode);

#endif
