/* Which globals a function uses, and whose they are, read from its bytecode.
 *
 * co_names mixes globals with attributes and imports; only the instructions tell them apart.  opcode.h is
 * CPython's public list of instruction numbers for exactly the version being compiled for.  Code is
 * read through PyCode_GetCode, which undoes what the specializing interpreter and monitoring
 * have written into it; inline cache entries read as instruction 0.
 */
#include "py/codec/internal.h"

#include <opcode.h>
#include <stdatomic.h>
#include <time.h>

static bool is_known_to_marshal(PyObject *constant, int levels);

static bool are_known_to_marshal(PyObject *const *items, Py_ssize_t n, int levels) {
    bool known = true;
    for (Py_ssize_t i = 0; known && i < n; i++) {
        known = is_known_to_marshal(items[i], levels);
    }
    return known;
}

/* A set, which is written without the table of references. */
static bool is_set_known_to_marshal(PyObject *set) {
    enum { WITHOUT_REFERENCES = 2 }; /* a version of the format */
    PyObject *bytes = PyMarshal_WriteObjectToString(set, WITHOUT_REFERENCES);
    bool known = bytes != NULL || !PyErr_ExceptionMatches(PyExc_ValueError);
    PyErr_Clear();
    Py_XDECREF(bytes);
    return known;
}

/* Whether marshal writes a constant, if it has the memory. */
static bool is_known_to_marshal(PyObject *constant, int levels) {
    if (levels == 0) {
        return false;
    }
    if (PyCode_Check(constant)) {
        return is_known_to_marshal(((PyCodeObject *)constant)->co_consts, levels - 1);
    }
    if (PyTuple_CheckExact(constant)) {
        return are_known_to_marshal(&PyTuple_GET_ITEM(constant, 0), PyTuple_GET_SIZE(constant), levels - 1);
    }
    if (PySlice_Check(constant)) {
        const PySliceObject *slice = (PySliceObject *)constant;
        PyObject *const parts[] = {slice->start, slice->stop, slice->step};
        return are_known_to_marshal(parts, 3, levels - 1);
    }
    return PyFrozenSet_CheckExact(constant)
               ? is_set_known_to_marshal(constant)
               : atoll_is_plain_value(constant) || PyComplex_CheckExact(constant);
}

PyObject *atoll_code_bytes(PyObject *code) {
    enum { LEVELS = 1000 }; /* marshal's own limit is twice that */
    PyObject *bytes = PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION);
    if (bytes != NULL || !PyErr_ExceptionMatches(PyExc_ValueError)) {
        return bytes;
    }
    /* It says the same when it has no memory for its table of references. */
    PyObject *refused = PyErr_GetRaisedException();
    if (is_known_to_marshal(code, LEVELS)) {
        Py_DECREF(refused);
        return PyErr_NoMemory();
    }
    PyErr_SetRaisedException(refused);
    return NULL;
}

uint64_t atoll_code_seal(const uint8_t *data, size_t size) {
    /* Where the loader and the allocator put things differs from process to process. */
    static _Atomic(uint64_t) secret;
    uint64_t hash = atomic_load_explicit(&secret, memory_order_relaxed);
    if (hash == 0) {
        uint64_t fresh = 0;
        void *somewhere = PyMem_RawMalloc(1);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        fresh = (uint64_t)(uintptr_t)&secret * UINT64_C(0x9E3779B97F4A7C15) ^
                (uint64_t)(uintptr_t)somewhere << 20 ^ (uint64_t)now.tv_nsec << 34 ^ (uint64_t)now.tv_sec;
        PyMem_RawFree(somewhere);
        fresh |= 1;
        hash = atomic_compare_exchange_strong(&secret, &hash, fresh) ? fresh : hash;
    }
    hash ^= size;
    for (size_t i = 0; i < size;) {
        uint64_t word = 0;
        size_t n = size - i < 8 ? size - i : 8;
        memcpy(&word, data + i, n);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
        i += n;
    }
    return hash;
}

/* How code uses a global name. */
enum {
    NESTED = 1, /* in code that is in it: a class body, an inner function */
    STORED = 2, /* it binds the name, or deletes it */
};

/* Calls use(name, how, arg) for each global name of code and of the code in it; stops at the first nonzero. */
typedef int (*use_name)(PyObject *name, unsigned how, void *arg);

/* Whether an instruction loads a number other than 0: before a list of names and IMPORT_NAME, how many packages up. */
static bool loads_a_level(PyCodeObject *code, uint8_t opcode, uint64_t oparg) {
    if (opcode == LOAD_CONST && oparg < (uint64_t)PyTuple_GET_SIZE(code->co_consts)) {
        PyObject *constant = PyTuple_GET_ITEM(code->co_consts, (Py_ssize_t)oparg);
        return PyLong_CheckExact(constant) && PyObject_IsTrue(constant);
    }
#ifdef LOAD_SMALL_INT
    return opcode == LOAD_SMALL_INT && oparg != 0;
#else
    return false;
#endif
}

/* An import that begins with dots reads the package of the globals. */
static int use_package(unsigned how, use_name use, void *arg) {
    PyObject *name = PyUnicode_FromString("__package__");
    int rc = name != NULL ? use(name, how, arg) : -1;
    Py_XDECREF(name);
    return rc;
}

static int walk_own(PyCodeObject *code, unsigned how, use_name use, void *arg) {
    Py_ssize_t nnames = PyTuple_GET_SIZE(code->co_names);
    if (nnames == 0) {
        return 0;
    }
    PyObject *bytes = PyCode_GetCode(code);
    if (bytes == NULL) {
        return -1;
    }
    const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(bytes);
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);
    uint64_t oparg = 0;
    bool levels[2] = {false, false}; /* of the instruction before, and of that before it */
    int rc = 0;
    for (Py_ssize_t i = 0; i + 1 < size && rc == 0; i += 2) {
        oparg = oparg << 8 | at[i + 1];
        uint64_t index = UINT64_MAX;
        unsigned stored = 0;
        switch (at[i]) {
        case EXTENDED_ARG:
            continue;
        case LOAD_GLOBAL:
            index = oparg >> 1; /* the low bit asks for a NULL on the stack */
            break;
        case STORE_GLOBAL:
        case DELETE_GLOBAL:
            stored = STORED;
            index = oparg;
            break;
        case LOAD_NAME:
        case LOAD_FROM_DICT_OR_GLOBALS:
            index = oparg;
            break;
        case IMPORT_NAME:
            rc = levels[1] ? use_package(how, use, arg) : 0;
            break;
        default:
            break;
        }
        levels[1] = levels[0];
        levels[0] = loads_a_level(code, at[i], oparg);
        oparg = 0;
        if (rc == 0 && index < (uint64_t)nnames) {
            rc = use(PyTuple_GET_ITEM(code->co_names, (Py_ssize_t)index), how | stored, arg);
        }
    }
    Py_DECREF(bytes);
    return rc;
}

static int walk(PyCodeObject *code, unsigned how, use_name use, void *arg) {
    if (Py_EnterRecursiveCall(" while looking for globals")) {
        return -1;
    }
    int rc = walk_own(code, how, use, arg);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts) && rc == 0; i++) {
        PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
        if (PyCode_Check(constant)) {
            rc = walk((PyCodeObject *)constant, how | NESTED, use, arg);
        }
    }
    Py_LeaveRecursiveCall();
    return rc;
}

static int collect(PyObject *name, unsigned how, void *arg) {
    (void)how;
    return PySet_Add(arg, name);
}

PyObject *atoll_global_names(PyCodeObject *code) {
    PyObject *names = PySet_New(NULL);
    if (names != NULL && walk(code, 0, collect, names) < 0) {
        Py_CLEAR(names);
    }
    return names;
}

static int add_all(PyCodeObject *code, PyObject *names) {
    if (Py_EnterRecursiveCall(" while looking for names")) {
        return -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_names) && rc == 0; i++) {
        rc = PySet_Add(names, PyTuple_GET_ITEM(code->co_names, i));
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts) && rc == 0; i++) {
        PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
        rc = PyCode_Check(constant) ? add_all((PyCodeObject *)constant, names) : 0;
    }
    Py_LeaveRecursiveCall();
    return rc;
}

PyObject *atoll_all_names(PyCodeObject *code) {
    PyObject *names = PySet_New(NULL);
    if (names != NULL && add_all(code, names) < 0) {
        Py_CLEAR(names);
    }
    return names;
}

int atoll_odd_globals(PyCodeObject *code, PyObject *globals, PyObject **found) {
    if (Py_EnterRecursiveCall(" while looking for names")) {
        return -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_names) && rc == 0; i++) {
        PyObject *name = PyTuple_GET_ITEM(code->co_names, i);
        if (PyUnicode_GET_LENGTH(name) == 0 || PyUnicode_READ_CHAR(name, 0) != '@') {
            continue;
        }
        PyObject *value = PyDict_GetItemWithError(globals, name);
        rc = PyErr_Occurred() || (*found == NULL && (*found = PyDict_New()) == NULL) ? -1 : 0;
        if (rc == 0 && value != NULL && PyModule_Check(value)) {
            rc = PyDict_SetItem(*found, name, value);
        }
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts) && rc == 0; i++) {
        PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
        rc = PyCode_Check(constant) ? atoll_odd_globals((PyCodeObject *)constant, globals, found) : 0;
    }
    Py_LeaveRecursiveCall();
    return rc;
}

/* ---- whose names they are ---- */

/* Whether it is arg that is stored. */
static int is_stored(PyObject *name, unsigned how, void *arg) {
    return (how & STORED) != 0 && (name == arg || PyUnicode_Compare(name, arg) == 0);
}

/* Whether a function of these globals, or what is put around one, stores name. */
static int stores(PyObject *obj, PyObject *globals, PyObject *name) {
    PyObject *func = Py_IS_TYPE(obj, &PyStaticMethod_Type) || Py_IS_TYPE(obj, &PyClassMethod_Type)
                         ? PyObject_GetAttrString(obj, "__func__")
                         : Py_NewRef(obj);
    int rc = func == NULL ? -1 : 0;
    /* What functools.wraps() was used for. */
    for (int i = 0; rc == 0 && func != NULL && PyFunction_Check(func) && i < 16; i++) {
        if (PyFunction_GET_GLOBALS(func) == globals) {
            rc = walk((PyCodeObject *)PyFunction_GET_CODE(func), 0, is_stored, name);
        }
        PyObject *attributes = ((PyFunctionObject *)func)->func_dict;
        PyObject *wrapped = attributes != NULL ? PyDict_GetItemString(attributes, "__wrapped__") : NULL;
        Py_SETREF(func, Py_XNewRef(wrapped));
    }
    Py_XDECREF(func);
    return rc;
}

/* Whether one of the functions and methods that these globals have says `global name` and binds it: then it is the name of a
 * variable of theirs, also where it has no value yet. */
static int is_declared(PyObject *globals, PyObject *name) {
    Py_ssize_t pos = 0;
    PyObject *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(globals, &pos, NULL, &value)) {
        if (!PyType_Check(value)) {
            rc = stores(value, globals, name);
            continue;
        }
        PyObject *dict = (((PyTypeObject *)value)->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0
                             ? PyType_GetDict((PyTypeObject *)value)
                             : NULL;
        Py_ssize_t at = 0;
        PyObject *attribute;
        while (rc == 0 && dict != NULL && PyDict_Next(dict, &at, NULL, &attribute)) {
            rc = stores(attribute, globals, name);
        }
        Py_XDECREF(dict);
    }
    return rc;
}

/* arg: a function.  Whether this is a name of its globals. */
static int is_own(PyObject *name, unsigned how, void *arg) {
    /* A class body reads __name__ to set __module__: that alone is not state. */
    if ((how & NESTED) != 0 && PyUnicode_CompareWithASCIIString(name, "__name__") == 0) {
        return 0;
    }
    const PyFunctionObject *func = arg;
    int rc = PyDict_Contains(func->func_globals, name);
    if (rc == 0 && (how & STORED) != 0) {
        return 1;
    }
    if (rc == 0 && PyDict_Check(func->func_builtins)) {
        int builtin = PyDict_Contains(func->func_builtins, name);
        rc = builtin != 0 ? (builtin < 0 ? -1 : 0) : is_declared(func->func_globals, name);
    }
    return rc;
}

static int is_asking(PyObject *name, unsigned how, void *arg) {
    static const char *const asking[] = {"globals", "eval", "exec", "vars", "dir", "locals"};
    (void)how;
    (void)arg;
    for (size_t i = 0; i < sizeof asking / sizeof asking[0]; i++) {
        if (PyUnicode_CompareWithASCIIString(name, asking[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

bool atoll_function_asks_globals(PyFunctionObject *func) {
    int rc = walk((PyCodeObject *)func->func_code, 0, is_asking, NULL);
    if (rc < 0) {
        PyErr_Clear();
    }
    return rc != 0;
}

bool atoll_function_is_stateless(PyFunctionObject *func) {
    if ((func->func_closure != NULL && PyTuple_GET_SIZE(func->func_closure) != 0) ||
        (func->func_defaults != NULL && PyTuple_GET_SIZE(func->func_defaults) != 0) ||
        (func->func_kwdefaults != NULL && PyDict_GET_SIZE(func->func_kwdefaults) != 0)) {
        return false;
    }
    int rc = walk((PyCodeObject *)func->func_code, 0, is_own, func);
    if (rc < 0) {
        PyErr_Clear();
    }
    return rc == 0;
}
