/* Arrays in what freeze() makes (py/frozen/own.c): read-only copies in memory that is fixed.
 *
 * Frozen is an array whose block is: so are all slices and views of it, in every interpreter, and nobody can make one that is not.  Copied are arrays of
 * numpy and of the module array, and SharedArray and SharedBuffer that show memory which may change.  Of numpy's arrays those that have a buffer
 * without pointers are taken; others are refused with what would be right.
 */
#include "module/pyshared.h"
#include "py/frozen/frozen.h"

bool atoll_pyshared_is_frozen(PyObject *obj) {
    /* Both types have this slot, no other has, and there are none below them. */
    return Py_TYPE(obj)->tp_dealloc == atoll_pyshared_dealloc && ((atoll_pyshared *)obj)->block->fixed;
}

static bool is_taken(const atoll_state *state, PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    return type == state->shared_array_type || type == state->shared_buffer_type ||
           (PyObject_CheckBuffer(obj) &&
            (strcmp(type->tp_name, "numpy.ndarray") == 0 || strcmp(type->tp_name, "array.array") == 0));
}

static int freeze(PyObject *obj, PyObject **frozen) {
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    if (state == NULL) {
        return -1;
    }
    if (!is_taken(state, obj)) {
        return 0;
    }
    PyObject *copy = atoll_pyshared_copy(state, obj);
    if (copy == NULL) {
        return PyErr_ExceptionMatches(PyExc_MemoryError) ? -1 : atoll_dtype_explain(obj, "frozen", "freeze");
    }
    atoll_pyshared *self = (atoll_pyshared *)copy;
    self->g.readonly = true;
    atoll_shared_fix(self->block, atoll_frozen_is_guarded());
    *frozen = copy;
    return 1;
}

void atoll_pyshared_init_frozen(void) {
    static const atoll_frozen_arrays functions = {freeze, atoll_pyshared_is_frozen};
    atoll_frozen_init_arrays(&functions);
}
