/* Objects that CPython has once for the process, which are as good as frozen: None and its like, small ints, the empty tuple, short strings.
 *
 * They lie in the runtime's state, of which the name and the size are to be had, or are variables of their own.
 *
 * The strings among them have to be known by their text: CPython compares names that it knows with these by identity (a type's slots when
 * an attribute of it is set), so a frozen copy of "__add__" that says it is interned would not be taken for that name.  They are looked for
 * once (memory/interned.c) and kept in a table of their own, which then is only read.
 */
#include "py/frozen/shared.h"

#include "py/memory/memory.h"

#include <stdlib.h>
#include <string.h>

enum { TABLE = 8192 }; /* for some 1,500 strings */

static PyObject *strings[TABLE];
static const char *runtime_end;

static bool is_in_runtime(const void *obj) {
    const char *at = obj;
    return at >= atoll_runtime && at < runtime_end;
}

/* Where a str of this text is, or would be. */
static PyObject **slot_of(PyObject *str) {
    size_t i = (size_t)PyObject_Hash(str) % TABLE;
    while (strings[i] != NULL && (PyUnicode_GET_LENGTH(strings[i]) != PyUnicode_GET_LENGTH(str) ||
                                  memcmp(PyUnicode_1BYTE_DATA(strings[i]), PyUnicode_1BYTE_DATA(str),
                                         (size_t)PyUnicode_GET_LENGTH(str)) != 0)) {
        i = (i + 1) % TABLE;
    }
    return &strings[i];
}

static size_t count;

static void keep(PyObject *str) {
    if (count < TABLE / 2) {
        PyObject **slot = slot_of(str);
        count += *slot == NULL;
        *slot = str;
    }
}

static void find_all(void) {
    runtime_end = atoll_runtime + atoll_dl_symbol_size(atoll_runtime);
    atoll_interned_each(keep);
}

static void prepare(void) {
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, find_all);
}

bool atoll_frozen_shared(PyObject *obj) {
    prepare();
    return obj == Py_None || obj == Py_True || obj == Py_False || obj == Py_Ellipsis ||
           obj == Py_NotImplemented || (is_in_runtime(obj) && atoll_is_immortal(obj));
}

PyObject *atoll_frozen_shared_str(PyObject *obj) {
    prepare();
    return PyUnicode_KIND(obj) == PyUnicode_1BYTE_KIND ? *slot_of(obj) : NULL;
}

bool atoll_frozen_is(PyObject *obj) {
    if (atoll_frozen_has(obj)) {
        return true;
    }
    PyTypeObject *type = Py_TYPE(obj);
    bool data = type == &PyUnicode_Type || type == &PyLong_Type || type == &PyBytes_Type ||
                type == &PyTuple_Type || type == &PyBool_Type || obj == Py_None || obj == Py_Ellipsis ||
                obj == Py_NotImplemented;
    return data && atoll_frozen_shared(obj);
}
