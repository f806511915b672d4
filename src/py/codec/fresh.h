/* Numbers and short texts, made by copying one that CPython has made (codec/fresh.c).
 *
 * What CPython's own functions do beside allocating is the same for all: what lies before the value, and a look at who traces references.
 * Here the first is copied, and the second is looked at once for a message.  Not used where every reference is counted (a debug build),
 * or traced, or where a copy is not what CPython makes, byte for byte.
 */
#ifndef ATOLL_PY_CODEC_FRESH_H
#define ATOLL_PY_CODEC_FRESH_H

#include "py/compat.h" /* first: Python.h wants to be */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct {
    bool usable;
    PyLongObject number;
    PyFloatObject real;
    PyASCIIObject text;
} atoll_fresh;

/* Attached.  Where it cannot be made, it is not used; no exception. */
void atoll_fresh_init(atoll_fresh *fresh);

/* Ints that are there already, or take more than one digit, are CPython's to make. */
static inline bool atoll_fresh_fits(int64_t v) {
    return (v > 1024 && v < (int64_t)1 << PyLong_SHIFT) || (v < -1024 && -v < (int64_t)1 << PyLong_SHIFT);
}

static inline PyObject *atoll_fresh_int(const atoll_fresh *fresh, int64_t v) {
    PyLongObject *op = PyObject_Malloc(sizeof *op);
    if (op == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(op, &fresh->number, sizeof *op);
    op->long_value.lv_tag = (uintptr_t)1 << 3 | (v < 0 ? 2 : 0);
    op->long_value.ob_digit[0] = (digit)(v < 0 ? -v : v);
    return (PyObject *)op;
}

static inline PyObject *atoll_fresh_float(const atoll_fresh *fresh, double v) {
    PyFloatObject *op = PyObject_Malloc(sizeof *op);
    if (op == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(op, &fresh->real, sizeof *op);
    op->ob_fval = v;
    return (PyObject *)op;
}

/* Of at least two ASCII characters, which are to be written to PyUnicode_1BYTE_DATA() of what is returned. */
static inline PyObject *atoll_fresh_text(const atoll_fresh *fresh, size_t len) {
    PyASCIIObject *op = PyObject_Malloc(sizeof *op + len + 1);
    if (op == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(op, &fresh->text, sizeof *op);
    op->length = (Py_ssize_t)len;
    ((char *)(op + 1))[len] = 0;
    return (PyObject *)op;
}

#endif
