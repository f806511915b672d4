/* What numbers and short texts are copied from, and whether the copies are as CPython makes them.  See fresh.h. */
#include "py/codec/fresh.h"

/* Whether both are the same but for how often they are referred to, which is once. */
static bool is_same(const PyObject *made, const PyObject *known, size_t size) {
    return made != NULL && known != NULL && Py_REFCNT((PyObject *)known) == 1 &&
           memcmp(made, known, size) == 0;
}

static bool drop(PyObject *made, PyObject *known, size_t size) {
    bool same = is_same(made, known, size);
    Py_XDECREF(made);
    Py_XDECREF(known);
    return same;
}

/* Between what a text says of itself and its characters there may be a gap, in which is what was there before. */
static bool is_text_proven(const atoll_fresh *fresh) {
    size_t head = offsetof(PyASCIIObject, state) + sizeof(((PyASCIIObject *)0)->state);
    PyObject *made = atoll_fresh_text(fresh, 5);
    PyObject *known = PyUnicode_FromString("atoll");
    bool same = made != NULL && known != NULL;
    if (same) {
        memcpy(PyUnicode_1BYTE_DATA(made), "atoll", 5);
        same = memcmp(PyUnicode_1BYTE_DATA(made), PyUnicode_1BYTE_DATA(known), 6) == 0;
    }
    return drop(made, known, head) && same;
}

static bool is_proven(const atoll_fresh *fresh) {
    static const long numbers[] = {1025, -1025, 99999, (1L << PyLong_SHIFT) - 1, 1 - (1L << PyLong_SHIFT)};
    size_t size = offsetof(PyLongObject, long_value.ob_digit) + sizeof(digit);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(numbers); i++) {
        if (!atoll_fresh_fits(numbers[i]) ||
            !drop(atoll_fresh_int(fresh, numbers[i]), PyLong_FromLong(numbers[i]), size)) {
            return false;
        }
    }
    return is_text_proven(fresh) &&
           drop(atoll_fresh_float(fresh, -2.5), PyFloat_FromDouble(-2.5), sizeof(PyFloatObject));
}

void atoll_fresh_init(atoll_fresh *fresh) {
    fresh->usable = false;
#if !ATOLL_COUNTS_ALL_REFERENCES
    PyObject *number = PyLong_FromLong(123456);
    PyObject *real = PyFloat_FromDouble(0.5);
    PyObject *text = PyUnicode_New(8, 127);
    if (number != NULL && real != NULL && text != NULL) {
        memcpy(&fresh->number, number, offsetof(PyLongObject, long_value.ob_digit) + sizeof(digit));
        memcpy(&fresh->real, real, sizeof fresh->real);
        memcpy(&fresh->text, text, sizeof fresh->text);
        fresh->usable = Py_REFCNT(number) == 1 && is_proven(fresh);
    }
    Py_XDECREF(number);
    Py_XDECREF(real);
    Py_XDECREF(text);
    PyErr_Clear();
#endif
}
