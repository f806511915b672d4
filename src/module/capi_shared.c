/* Shared memory, for C: atoll.h says what these promise, core/shared/shared.h what it is. */
#include "module/capi_parts.h"
#include "module/pyshared.h"

int atoll_capi_shared_create(size_t size, atoll_shared **shared) {
    *shared = size <= PY_SSIZE_T_MAX ? atoll_shared_new(size) : NULL;
    return *shared != NULL
               ? ATOLL_OK
               : atoll_capi_fail(ATOLL_NO_MEMORY, "%zu bytes of shared memory are not to be had", size);
}

void atoll_capi_shared_release(atoll_shared *shared) {
    if (shared != NULL) {
        atoll_shared_release(shared);
    }
}

void *atoll_capi_shared_data(const atoll_shared *shared) { return shared->data; }

size_t atoll_capi_shared_size(const atoll_shared *shared) { return shared->size; }

PyObject *atoll_capi_shared_object(atoll_shared *shared) {
    atoll_state *state;
    if (atoll_capi_attached(&state) != ATOLL_OK) {
        return NULL;
    }
    atoll_shared_retain(shared);
    PyObject *object = atoll_pyshared_buffer_of(state->shared_buffer_type, shared, shared->size);
    if (object == NULL) {
        (void)atoll_capi_fail_raised();
    } else {
        ((atoll_pyshared *)object)->g.readonly = shared->fixed;
    }
    return object;
}

int atoll_capi_shared_from_object(PyObject *object, atoll_shared **shared, void **data, size_t *size,
                                  int *readonly) {
    *shared = NULL;
    atoll_state *state;
    int code = atoll_capi_attached(&state);
    if (code != ATOLL_OK) {
        return code;
    }
    if (!Py_IS_TYPE(object, state->shared_buffer_type) && !Py_IS_TYPE(object, state->shared_array_type)) {
        PyErr_Format(PyExc_TypeError, "a SharedBuffer or SharedArray is needed, not %.200s",
                     Py_TYPE(object)->tp_name);
        return atoll_capi_fail_raised();
    }
    const atoll_pyshared *self = (atoll_pyshared *)object;
    const Py_buffer b = atoll_geometry_buffer(&self->g);
    if (!PyBuffer_IsContiguous(&b, 'C')) {
        return atoll_capi_fail(ATOLL_INVALID,
                               "the elements do not lie one after the other; those of copy() do");
    }
    atoll_shared_retain(self->block);
    *shared = self->block;
    *data = self->g.data;
    *size = (size_t)self->g.len;
    if (readonly != NULL) {
        *readonly = self->g.readonly;
    }
    return ATOLL_OK;
}
