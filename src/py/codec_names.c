/* Which globals a function uses, read from its bytecode.
 *
 * co_names mixes globals with attributes and imports; only the instructions tell them apart.  opcode.h is
 * CPython's public list of instruction numbers for exactly the version being compiled for.  Code is
 * read through PyCode_GetCode, which undoes what the specializing interpreter and monitoring
 * have written into it; inline cache entries read as instruction 0.
 */
#include "py/codec_internal.h"

#include <opcode.h>
#include <stdatomic.h>
#include <time.h>

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

/* Calls use(name, arg) for each global name of code and of the code in it; stops at the first nonzero. */
typedef int (*use_name)(PyObject *name, bool nested, void *arg);

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
static int use_package(bool nested, use_name use, void *arg) {
    PyObject *name = PyUnicode_FromString("__package__");
    int rc = name != NULL ? use(name, nested, arg) : -1;
    Py_XDECREF(name);
    return rc;
}

static int walk_own(PyCodeObject *code, bool nested, use_name use, void *arg) {
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
        switch (at[i]) {
        case EXTENDED_ARG:
            continue;
        case LOAD_GLOBAL:
            index = oparg >> 1; /* the low bit asks for a NULL on the stack */
            break;
        case LOAD_NAME:
        case STORE_GLOBAL:
        case DELETE_GLOBAL:
        case LOAD_FROM_DICT_OR_GLOBALS:
            index = oparg;
            break;
        case IMPORT_NAME:
            rc = levels[1] ? use_package(nested, use, arg) : 0;
            break;
        default:
            break;
        }
        levels[1] = levels[0];
        levels[0] = loads_a_level(code, at[i], oparg);
        oparg = 0;
        if (rc == 0 && index < (uint64_t)nnames) {
            rc = use(PyTuple_GET_ITEM(code->co_names, (Py_ssize_t)index), nested, arg);
        }
    }
    Py_DECREF(bytes);
    return rc;
}

static int walk(PyCodeObject *code, bool nested, use_name use, void *arg) {
    if (Py_EnterRecursiveCall(" while looking for globals")) {
        return -1;
    }
    int rc = walk_own(code, nested, use, arg);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts) && rc == 0; i++) {
        PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
        if (PyCode_Check(constant)) {
            rc = walk((PyCodeObject *)constant, true, use, arg);
        }
    }
    Py_LeaveRecursiveCall();
    return rc;
}

static int collect(PyObject *name, bool nested, void *arg) {
    (void)nested;
    return PySet_Add(arg, name);
}

PyObject *atoll_global_names(PyCodeObject *code) {
    PyObject *names = PySet_New(NULL);
    if (names != NULL && walk(code, false, collect, names) < 0) {
        Py_CLEAR(names);
    }
    return names;
}

static int is_bound(PyObject *name, bool nested, void *arg) {
    /* A class body reads __name__ to set __module__: that alone is not state. */
    if (nested && PyUnicode_CompareWithASCIIString(name, "__name__") == 0) {
        return 0;
    }
    return PyDict_Contains(arg, name);
}

bool atoll_function_is_stateless(PyFunctionObject *func) {
    if ((func->func_closure != NULL && PyTuple_GET_SIZE(func->func_closure) != 0) ||
        (func->func_defaults != NULL && PyTuple_GET_SIZE(func->func_defaults) != 0) ||
        (func->func_kwdefaults != NULL && PyDict_GET_SIZE(func->func_kwdefaults) != 0)) {
        return false;
    }
    int rc = walk((PyCodeObject *)func->func_code, false, is_bound, func->func_globals);
    if (rc < 0) {
        PyErr_Clear();
    }
    return rc == 0;
}
