/* The table of the C API, in a capsule: see capi.c. */
#include "module/capi_parts.h"

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
};

int atoll_capi_add(PyObject *module) {
    PyObject *capsule = PyCapsule_New((void *)(uintptr_t)&api, ATOLL_CAPSULE_NAME, NULL);
    int rc = capsule != NULL ? PyModule_AddObjectRef(module, "_C_API", capsule) : -1;
    Py_XDECREF(capsule);
    return rc;
}
