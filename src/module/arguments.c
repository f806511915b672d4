/* Arguments of methods that are called often: without a tuple, a dict or a format to read. */
#include "module/module.h"

void atoll_argument_not_int(PyObject *value, const char *name) {
    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %.200s", name, Py_TYPE(value)->tp_name);
    }
}

int atoll_argument_int(PyObject *value, const char *name, int64_t *number) {
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) {
        PyErr_Format(PyExc_OverflowError, "%s must fit into 64 bits, got %R", name, value);
        return -1;
    }
    if (n == -1 && PyErr_Occurred()) {
        atoll_argument_not_int(value, name);
        return -1;
    }
    *number = n;
    return 0;
}

int atoll_argument_iterable(PyObject *value, const char *name) {
    if (Py_TYPE(value)->tp_iter == NULL && !PySequence_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be iterable, not %.200s", name, Py_TYPE(value)->tp_name);
        return -1;
    }
    return 0;
}

int atoll_parse(const char *name, const char *const *keywords, Py_ssize_t n, Py_ssize_t positional,
                Py_ssize_t required, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                PyObject **values) {
    if (nargs > positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional arguments (%zd given)", name,
                     positional, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        Py_ssize_t at = 0;
        while (at < n && PyUnicode_CompareWithASCIIString(keyword, keywords[at]) != 0) {
            at++;
        }
        if (at == n) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", name, keyword);
            return -1;
        }
        if (values[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R", name, keyword);
            return -1;
        }
        values[at] = args[nargs + i];
    }
    for (Py_ssize_t i = 0; i < required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() needs the argument '%s'", name, keywords[i]);
            return -1;
        }
    }
    return 0;
}
