/* Whether CPython finds in objects that build.c has made what is in them.
 *
 * What headers say of an object's fields was so when Atoll was compiled, and a wheel runs with other patch releases.  So before the first object
 * is frozen, sizes of types are compared, then the table of a dict that CPython has made is read, and at last dicts and sets of several sizes
 * are made here, where CPython has to find each of their keys.  It takes some hundred microseconds, once in a process.
 *
 * Threads: two that come at the same time both look.
 */
#include "py/frozen/proof.h"

#include "py/frozen/build.h"

static int other(const char *what) {
    PyErr_Format(PyExc_RuntimeError, "this build of Python has %s that atoll.freeze() does not know", what);
    return -1;
}

/* What lies before a dict, as sys.getsizeof() adds it. */
static int look_at_head(void) {
    PyObject *dict = PyDict_New();
    PyObject *function = PySys_GetObject("getsizeof"); /* borrowed */
    PyObject *with = dict != NULL && function != NULL ? PyObject_CallOneArg(function, dict) : NULL;
    PyObject *without = with != NULL ? PyObject_CallMethod(dict, "__sizeof__", NULL) : NULL;
    Py_ssize_t head = without != NULL ? PyLong_AsSsize_t(with) - PyLong_AsSsize_t(without) : 0;
    Py_XDECREF(dict);
    Py_XDECREF(with);
    Py_XDECREF(without);
    if (PyErr_Occurred()) {
        return -1;
    }
    return head == (Py_ssize_t)ATOLL_GC_HEAD ? 0 : other("dicts");
}

static int look_at_types(void) {
    const struct {
        PyTypeObject *type;
        size_t size;
    } types[] = {
        {&PyUnicode_Type, sizeof(PyUnicodeObject)},
        {&PyFloat_Type, sizeof(PyFloatObject)},
        {&PyComplex_Type, sizeof(PyComplexObject)},
        {&PyLong_Type, offsetof(PyLongObject, long_value.ob_digit)},
        {&PyBytes_Type, offsetof(PyBytesObject, ob_sval) + 1},
        {&PyTuple_Type, offsetof(PyTupleObject, ob_item)},
        {&PyFrozenSet_Type, sizeof(PySetObject)},
        {&PyRange_Type, sizeof(atoll_range)},
        {&PyDict_Type, sizeof(PyDictObject)},
        {&PyDictProxy_Type, sizeof(atoll_mapping_proxy)},
#if ATOLL_HAS_FROZENDICT
        {&PyFrozenDict_Type, sizeof(atoll_frozen_dict)},
#endif
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if ((size_t)types[i].type->tp_basicsize != types[i].size) {
            return other(types[i].type->tp_name);
        }
    }
    return 0;
}

/* The table of a dict that CPython has made. */
static int look_at_keys(PyObject *const *parts) {
    PyObject *dict = PyDict_New();
    if (dict == NULL || PyDict_SetItem(dict, parts[0], parts[1]) < 0 ||
        PyDict_SetItem(dict, parts[2], parts[3]) < 0) {
        Py_XDECREF(dict);
        return -1;
    }
    const atoll_dict_keys *keys = (const atoll_dict_keys *)((PyDictObject *)dict)->ma_keys;
    const atoll_dict_unicode_entry *entries =
        (const atoll_dict_unicode_entry *)(keys->dk_indices + ((size_t)1 << ATOLL_DICT_LEAST_LOG2));
    bool known = keys->dk_refcnt == 1 && keys->dk_log2_size == ATOLL_DICT_LEAST_LOG2 &&
                 keys->dk_log2_index_bytes == ATOLL_DICT_LEAST_LOG2 && keys->dk_kind == ATOLL_KEYS_UNICODE &&
                 keys->dk_nentries == 2 &&
                 keys->dk_usable == (Py_ssize_t)ATOLL_DICT_USABLE(ATOLL_DICT_LEAST_LOG2) - 2 &&
                 entries[0].key == parts[0] && entries[0].value == parts[1] && entries[1].key == parts[2] &&
                 entries[1].value == parts[3];
    Py_DECREF(dict);
    return known ? 0 : other("dicts");
}

/* Whether CPython finds each of so many keys, and no other. */
static int look_for_keys(const atoll_builder *to, PyObject *const *parts, size_t n, PyObject *absent) {
    PyObject *mapping = atoll_build_mapping(to, parts, n);
    if (mapping == NULL) {
        return -1;
    }
    bool right = (size_t)PyObject_Size(mapping) == n;
    for (size_t i = 0; right && i < n; i++) {
        PyObject *value = PyObject_GetItem(mapping, parts[2 * i]);
        right = value == parts[2 * i + 1];
        Py_XDECREF(value);
    }
    right = right && PySequence_Contains(mapping, absent) == 0;
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
    }
    return PyErr_Occurred() ? -1 : right ? 0 : other("dicts");
}

static int look_for_members(const atoll_builder *to, PyObject *const *members, size_t n, PyObject *absent) {
    PyObject *set = atoll_build_frozenset(to, members, n);
    if (set == NULL) {
        return -1;
    }
    bool right = (size_t)PySet_GET_SIZE(set) == n;
    for (size_t i = 0; right && i < n; i++) {
        right = PySequence_Contains(set, members[i]) == 1;
    }
    right = right && PySequence_Contains(set, absent) == 0;
    return PyErr_Occurred() ? -1 : right ? 0 : other("sets");
}

enum { KEYS = 400 };

static PyObject *build_name(const atoll_builder *to, size_t i) {
    PyObject *name = PyUnicode_FromFormat("a key, %zu", i);
    PyObject *frozen = name != NULL ? atoll_build_str(to, name) : NULL;
    Py_XDECREF(name);
    return frozen;
}

static PyObject *build_number(const atoll_builder *to, size_t i) {
    PyObject *number = PyLong_FromSize_t(1000000 + 7919 * i);
    PyObject *frozen = number != NULL ? atoll_build_int(to, number) : NULL;
    Py_XDECREF(number);
    return frozen;
}

static int look(const atoll_builder *to, PyObject **parts) {
    static const size_t sizes[] = {0, 1, 2, 4, 5, 6, 20, 84, 85, 170, 171, KEYS - 1};
    for (size_t i = 0; i < KEYS; i++) {
        parts[2 * i] = build_name(to, i);
        parts[2 * i + 1] = build_number(to, i);
        if (parts[2 * i] == NULL || parts[2 * i + 1] == NULL) {
            return -1;
        }
    }
    if (look_at_keys(parts) < 0) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(sizes); i++) {
        /* With names as keys; with names and, from the second on, numbers; a set of both. */
        if (look_for_keys(to, parts, sizes[i], parts[2 * KEYS - 2]) < 0 ||
            (sizes[i] != 0 && look_for_keys(to, parts + 1, sizes[i], parts[2 * KEYS - 1]) < 0) ||
            look_for_members(to, parts, sizes[i], parts[2 * KEYS - 1]) < 0) {
            return -1;
        }
    }
    return 0;
}

int atoll_frozen_prove(void) {
    static _Atomic(bool) is_proven;
    if (atomic_load(&is_proven)) {
        return 0;
    }
    if (look_at_types() < 0 || look_at_head() < 0) {
        return -1;
    }
    PyObject **parts = PyMem_Malloc(2 * KEYS * sizeof *parts);
    atoll_builder to = {atoll_area_new(), atoll_frozen_table_new()};
    int rc = -1;
    if (parts == NULL || to.area == NULL || to.table == NULL) {
        PyErr_NoMemory();
    } else {
        rc = look(&to, parts);
    }
    PyMem_Free(parts);
    atoll_frozen_table_free(to.table);
    if (to.area != NULL) {
        atoll_area_release(to.area);
    }
    atomic_store(&is_proven, rc == 0);
    return rc;
}
