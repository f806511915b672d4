/* sys.intern() of a frozen str.
 *
 * A frozen str says that it is interned, so that CPython leaves it alone when it becomes the name of an attribute; but it is in no interpreter's table,
 * where another one of equal text may be.  Who calls sys.intern() compares by identity.  So in interpreters that have frozen objects that function gives
 * for a frozen str what it gives for an ordinary copy of it.
 */
#include "py/frozen/frozen.h"

#include "py/facade.h"

/* Bound to the function in whose place it is. */
static PyObject *intern(PyObject *original, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 1 || !PyUnicode_CheckExact(args[0]) || !atoll_frozen_has(args[0])) {
        return PyObject_Vectorcall(original, args, (size_t)nargs, NULL);
    }
    PyObject *copy = PyUnicode_FromKindAndData((int)PyUnicode_KIND(args[0]), PyUnicode_DATA(args[0]),
                                               PyUnicode_GET_LENGTH(args[0]));
    PyObject *interned = copy != NULL ? PyObject_CallOneArg(original, copy) : NULL;
    Py_XDECREF(copy);
    return interned;
}

int atoll_frozen_intern(void) {
    static PyMethodDef def = {"intern", (PyCFunction)(void (*)(void))intern, METH_FASTCALL, NULL};
    PyObject *sys = PyImport_ImportModule("sys");
    int rc = sys != NULL ? atoll_facade_put_around(sys, &def) : -1;
    Py_XDECREF(sys);
    return rc;
}
