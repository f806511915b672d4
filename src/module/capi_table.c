/* The table of the C API, in a capsule: see capi.c. */
#include "module/capi_parts.h"
#include "module/pyshared.h"

static const atoll_api api = {
    .major = ATOLL_API_MAJOR,
    .minor = ATOLL_API_MINOR,
    .size = sizeof api,
    .message = atoll_capi_message,
    .create = atoll_capi_create,
    .find = atoll_capi_find,
    .adopt = atoll_capi_adopt,
    .retain = atoll_capi_retain,
    .release = atoll_capi_release,
    .id = atoll_capi_id,
    .current_id = atoll_capi_current_id,
    .enter = atoll_capi_enter,
    .leave = atoll_capi_leave,
    .close = atoll_capi_close,
    .object = atoll_capi_object,
    .from_object = atoll_capi_from_object,
    .queue_create = atoll_capi_queue_create,
    .queue_find = atoll_capi_queue_find,
    .queue_retain = atoll_queue_retain,
    .queue_release = atoll_capi_queue_release,
    .queue_id = atoll_queue_id,
    .queue_count = atoll_queue_count,
    .queue_put = atoll_capi_queue_put,
    .queue_put_shared = atoll_capi_queue_put_shared,
    .queue_get = atoll_capi_queue_get,
    .queue_shutdown = atoll_capi_queue_shutdown,
    .queue_object = atoll_capi_queue_object,
    .queue_from_object = atoll_capi_queue_from_object,
    .item_release = atoll_capi_item_release,
    .item_object = atoll_capi_item_object,
    .shared_create = atoll_capi_shared_create,
    .shared_retain = atoll_shared_retain,
    .shared_release = atoll_capi_shared_release,
    .shared_data = atoll_capi_shared_data,
    .shared_size = atoll_capi_shared_size,
    .shared_object = atoll_capi_shared_object,
    .shared_from_object = atoll_capi_shared_from_object,
    .register_type = atoll_capi_register,
};

int atoll_capi_add(PyObject *module) {
    PyObject *capsule = PyCapsule_New((void *)(uintptr_t)&api, ATOLL_CAPSULE_NAME, NULL);
    int rc = capsule != NULL ? PyModule_AddObjectRef(module, "_C_API", capsule) : -1;
    Py_XDECREF(capsule);
    return rc;
}
