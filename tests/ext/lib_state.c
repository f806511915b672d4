/* A helper library, no extension: it has Python state, which the extensions that are linked with it share.  Two
 * extensions of one interpreter must share one copy of it, those of two interpreters must not. */
#include "libs.h"

static PyObject *list;
static long count;
static int64_t built_in = -1;

/* Before the extension's own constructors, and before Python may be used. */
__attribute__((constructor)) static void construct(void) { count = 1000; }

long lib_state_bump(void) { return ++count; }

PyObject *lib_state_append(PyObject *item) {
    if (list == NULL) {
        list = PyList_New(0);
        built_in = PyInterpreterState_GetID(PyInterpreterState_Get());
    }
    if (list == NULL || PyList_Append(list, item) < 0) {
        return NULL;
    }
    return Py_NewRef(list);
}

int64_t lib_state_built_in(void) { return built_in; }

void *lib_state_address(void) { return &count; }
