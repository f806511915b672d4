/* Tasks of a pool as they are sent.
 *
 * A function that has a number (py/codec/number.c) is encoded in full once and shared by all tasks that call it.  So is whatever a map
 * calls, which is prepared when the map is made: its chunks, some of which are sent much later, see it, and all that it
 * reaches, as it was then.  A prepared callable without a number is made anew by each chunk, and nobody keeps it.
 *
 * A prepared callable is a capsule, which owns a reference to the full form; its number is 0 where it has none.
 */
#include "module/pool.h"

#include "core/base/base.h"
#include "py/interp/interp.h"

#include <stdlib.h>

enum { LARGE = 1 << 18 }; /* bytes */

static const char capsule_name[] = "atoll prepared callable";

static atoll_function *new_function(atoll_state *state, uint64_t number, PyObject *callable) {
    atoll_function *function = calloc(1, sizeof *function);
    if (function == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&function->refs, 1);
    function->number = number;
    if (!atoll_function_take_full(state->codec, number, &function->full) &&
        atoll_encode_whole(state->codec, &function->full, callable, "callable") < 0) {
        atoll_pool_function_release(function);
        return NULL;
    }
    return function;
}

/* Of large ones only the latest is kept: they are likely to be one function's, whose globals change. */
static void release_large(atoll_pypool *self) {
    for (int i = 0; i < ATOLL_FUNCTIONS_KEPT; i++) {
        atoll_function *function = self->functions[i];
        if (function != NULL && function->full.body.len >= LARGE) {
            self->functions[i] = NULL;
            atoll_pool_function_release(function);
        }
    }
}

/* The shared full form of a numbered function: a borrowed reference, or NULL with an exception. */
static atoll_function *full_function(atoll_pypool *self, atoll_state *state, uint64_t number,
                                     PyObject *callable) {
    atoll_function **slot = &self->functions[number % ATOLL_FUNCTIONS_KEPT];
    if (*slot != NULL && (*slot)->number == number) {
        return *slot;
    }
    atoll_function *function = new_function(state, number, callable);
    if (function == NULL) {
        return NULL;
    }
    if (function->full.body.len >= LARGE) {
        release_large(self);
    }
    if (*slot != NULL) {
        atoll_pool_function_release(*slot);
    }
    *slot = function;
    return function;
}

static void release_prepared(PyObject *capsule) {
    atoll_pool_function_release(PyCapsule_GetPointer(capsule, capsule_name));
}

PyObject *atoll_pypool_prepare(atoll_pypool *self, atoll_state *state, PyObject *callable) {
    uint64_t number;
    if (atoll_function_number(state->codec, callable, &number) < 0) {
        return NULL;
    }
    atoll_function *function =
        number != 0 ? full_function(self, state, number, callable) : new_function(state, 0, callable);
    if (function == NULL) {
        if (atoll_error_is_urgent()) {
            return NULL;
        }
        PyErr_Clear(); /* sending it says why it cannot be */
        return Py_NewRef(callable);
    }
    if (number != 0) {
        atoll_pool_function_retain(function);
    }
    PyObject *capsule = PyCapsule_New(function, capsule_name, release_prepared);
    if (capsule == NULL) {
        atoll_pool_function_release(function);
    }
    return capsule;
}

/* The full form of callable, where there is one: *function is NULL where it goes with the call.  0, or -1 with an exception. */
static int find_function(atoll_pypool *self, atoll_state *state, PyObject *callable,
                         atoll_function **function) {
    uint64_t number;
    if (PyCapsule_IsValid(callable, capsule_name)) {
        *function = PyCapsule_GetPointer(callable, capsule_name);
    } else if (atoll_function_number(state->codec, callable, &number) < 0) {
        return -1;
    } else if (number != 0 && (*function = full_function(self, state, number, callable)) == NULL) {
        return -1;
    }
    if (*function != NULL) {
        atoll_pool_function_retain(*function);
    }
    return 0;
}

atoll_task *atoll_pypool_encode(atoll_pypool *self, atoll_state *state, PyObject *callable,
                                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    atoll_task *task = atoll_task_new(self->pool);
    if (task == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (find_function(self, state, callable, &task->function) < 0 ||
        atoll_encode_call(state->codec, &task->call, task->function != NULL ? NULL : callable, args, nargs,
                          kwnames) < 0) {
        atoll_task_release(task);
        return NULL;
    }
    return task;
}

size_t atoll_pypool_weight(const atoll_message *message) {
    size_t sum = message->body.len;
    for (uint32_t i = 0; i < message->nhandles; i++) {
        const atoll_handle *handle = &message->handles[i];
        if (handle->cls == &atoll_export_class) {
            sum += (size_t)((const atoll_export *)handle->ptr)->buffer.len;
        } else if (handle->cls == &atoll_block_class) {
            sum += ((const atoll_block *)handle->ptr)->size;
        }
    }
    return sum;
}
