/* list.append() when there is no memory, in 3.15.
 *
 * There, code that calls list.append() often is specialised to do it without a call, and when the list cannot grow it drops the item twice: once
 * itself, once with the stack, as MemoryError is raised.  The item is used after it was freed, which ends the process; plain Python does so as
 * well.  In an interpreter with a memory_limit that is the most usual way to have no memory.
 *
 * Code is specialised when what it calls is the function that the interpreter remembers as list.append, and it looks again each time.  So the
 * interpreter is made to remember none.  Where it does so is found by the four functions that lie there in a row, isinstance, len, list.append and
 * object.__getattribute__, within the size of its state that CPython publishes; exactly one place must be like that.  A call costs a few
 * nanoseconds more then.
 *
 * Failure: without such a place nothing is changed.
 */
#include "py/interp/appending.h"

#include "py/compat.h"

#include <stdbool.h>
#include <stddef.h>

#if ATOLL_APPENDING_DROPS_TWICE
enum { IN_A_ROW = 4, APPEND = 2 };

/* Borrowed. */
static PyObject *of_type(PyTypeObject *type, const char *name) {
    PyObject *dict = PyType_GetDict(type);
    PyObject *found = dict != NULL ? PyDict_GetItemString(dict, name) : NULL;
    Py_XDECREF(dict);
    return found;
}

static bool is_there(PyObject *const *words, PyObject *const *functions) {
    return memcmp((const void *)words, (const void *)functions, IN_A_ROW * sizeof *words) == 0;
}

void atoll_appending_make_safe(void) {
    PyObject *builtins = PyEval_GetBuiltins(); /* borrowed */
    if (builtins == NULL || !PyDict_Check(builtins)) {
        return;
    }
    PyObject *functions[IN_A_ROW] = {PyDict_GetItemString(builtins, "isinstance"),
                                     PyDict_GetItemString(builtins, "len"), of_type(&PyList_Type, "append"),
                                     of_type(&PyBaseObject_Type, "__getattribute__")};
    PyErr_Clear();
    size_t size = atoll_compat_published_interp_size();
    PyObject **state = (PyObject **)PyInterpreterState_Get();
    PyObject **place = NULL;
    for (size_t i = 0; functions[APPEND] != NULL && i + IN_A_ROW <= size / sizeof *state; i++) {
        if (is_there(&state[i], functions)) {
            if (place != NULL) {
                return;
            }
            place = &state[i];
        }
    }
    if (place != NULL) {
        place[APPEND] = NULL;
    }
}
#else
void atoll_appending_make_safe(void) {}
#endif
