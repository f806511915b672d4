/* Which function is which, wherever it goes.
 *
 * Each function that crosses by value has an identity, a number that is unique in the process.  A weak map has it, by function
 * (functions have no place for it, and many may have the same code).  It says two things:
 *
 *   that it is the very function that was sent before     so it is not made again, and one that comes back is recognised;
 *                                                         only where all of it is immutable (codec/number.c)
 *   that it is the same definition as another             the version of a name that is bound to it (codec/version.c) is the same
 *
 * A function whose parts were replaced (its code, its defaults, its name), or that crosses in another way than before, because a name
 * that it uses has come to be a global or has ceased to, is defined anew: it gets another number.  An
 * entry notes where the parts were, and owns those that lead to nothing else, so that nothing else comes to have their address.
 */
#include "py/codec/internal.h"

enum { ID_REF, ID_NUMBER, ID_PLACES, ID_REUSABLE, ID_OWNED };
enum { PARTS = 9, OWNED = 6 };

/* Borrowed, or NULL; those that may be owned first.  Last, no object: whose globals it has over there. */
static void get_parts(const PyFunctionObject *func, atoll_crossing way, PyObject *parts[PARTS]) {
    PyObject *const now[PARTS] = {func->func_code,       func->func_defaults, func->func_qualname,
                                  func->func_name,       func->func_module,   func->func_doc,
                                  func->func_kwdefaults, func->func_closure,  (PyObject *)(uintptr_t)way};
    memcpy(parts, now, sizeof now);
}

static bool leads_to_nothing(PyObject *part) {
    if (part == NULL || PyCode_Check(part) || atoll_is_plain_value(part)) {
        return part != NULL;
    }
    return atoll_is_plain_tuple(part);
}

/* What is noted of func: borrowed, or NULL, maybe with an exception. */
static PyObject *entry_of(atoll_codec *codec, PyFunctionObject *func) {
    PyObject *key = PyLong_FromVoidPtr(func);
    PyObject *entry = key != NULL ? atoll_weak_entry(codec->function_ids, key, (PyObject *)func) : NULL;
    Py_XDECREF(key);
    return entry;
}

int atoll_function_adopt(atoll_codec *codec, PyFunctionObject *func, atoll_crossing way, uint64_t identity,
                         bool reusable) {
    PyObject *parts[PARTS];
    get_parts(func, way, parts);
    PyObject *key = PyLong_FromVoidPtr(func);
    PyObject *number = PyLong_FromUnsignedLongLong(identity);
    PyObject *places = PyBytes_FromStringAndSize((const char *)parts, sizeof parts);
    PyObject *more[ID_OWNED - 1 + OWNED] = {number, places, reusable ? Py_True : Py_False};
    for (int i = 0; i < OWNED; i++) {
        more[ID_OWNED - 1 + i] = leads_to_nothing(parts[i]) ? parts[i] : Py_None;
    }
    int rc = key != NULL && number != NULL && places != NULL
                 ? atoll_weak_store(codec->function_ids, key, (PyObject *)func, more, ID_OWNED - 1 + OWNED)
                 : -1;
    Py_XDECREF(places);
    Py_XDECREF(number);
    Py_XDECREF(key);
    return rc < 0 || !reusable ? rc : atoll_weak_put(codec->function_refs, identity, (PyObject *)func);
}

int atoll_function_identity(atoll_codec *codec, PyFunctionObject *func, atoll_crossing way,
                            uint64_t *identity, bool *reusable) {
    PyObject *parts[PARTS];
    get_parts(func, way, parts);
    *reusable = atoll_function_may_be_numbered(func);
    PyObject *entry = entry_of(codec, func);
    if (entry == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (entry != NULL && (PyTuple_GET_ITEM(entry, ID_REUSABLE) == Py_True) == *reusable &&
        memcmp(PyBytes_AS_STRING(PyTuple_GET_ITEM(entry, ID_PLACES)), parts, sizeof parts) == 0) {
        *identity = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, ID_NUMBER));
        return 0;
    }
    *identity = atoll_next_number();
    return atoll_function_adopt(codec, func, way, *identity, *reusable);
}

void atoll_function_forget(atoll_codec *codec, PyFunctionObject *func, uint64_t identity) {
    atoll_weak_forget(codec->function_refs, identity, codec->function_ids, (PyObject *)func);
}
