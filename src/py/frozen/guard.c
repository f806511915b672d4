/* There are no weak references to frozen objects.
 *
 * Of the types that are frozen, frozenset alone has them: an object keeps a list of those that refer to it, so each would be written into memory
 * that all interpreters read.  Python makes them in two places, weakref.ref() and weakref.proxy(), which are C functions that all
 * interpreters share: a static type, whose tp_new is exchanged, and a static definition of a function, whose pointer is.  There a frozen object
 * is refused with what CPython says of objects that have none.  Classes that derive from weakref.ref take their tp_new from it when they are
 * made; those that were made before and have no __new__ of their own are looked for in each interpreter, before it has its first frozen
 * object.
 *
 * The rest is done once for the process, before the first object is frozen; nothing else changes by it.  Extensions that call PyWeakref_NewRef() for a
 * frozenset of their callers' are not covered.
 */
#include "py/frozen/guard.h"

/* Both are written before CPython's tables lead to the functions that call them.  But CPython reads its tables as if nobody wrote to
 * them: a thread of another interpreter may be led here and see NULL yet, for a moment. */
static _Atomic(newfunc) original_new;
static _Atomic(PyObject *(*)(PyObject *, PyObject *const *, Py_ssize_t)) original_proxy;
static _Atomic(bool) is_guarded;

static bool is_refused(PyObject *target) {
    if (!atoll_frozen_has(target)) {
        return false;
    }
    PyErr_Format(PyExc_TypeError, "cannot create weak reference to frozen '%s' object",
                 Py_TYPE(target)->tp_name);
    return true;
}

static PyObject *guarded_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (args != NULL && PyTuple_GET_SIZE(args) != 0 && is_refused(PyTuple_GET_ITEM(args, 0))) {
        return NULL;
    }
    newfunc original;
    while ((original = atomic_load(&original_new)) == NULL) {
    }
    return original(type, args, kwargs);
}

static PyObject *guarded_proxy(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs > 0 && is_refused(args[0])) {
        return NULL;
    }
    PyObject *(*original)(PyObject *, PyObject *const *, Py_ssize_t);
    while ((original = atomic_load(&original_proxy)) == NULL) {
    }
    return original(module, args, nargs);
}

/* Gives it to the classes that have taken theirs from weakref.ref. */
static int guard_classes(PyTypeObject *type) {
    PyObject *list = PyObject_CallMethod((PyObject *)&PyType_Type, "__subclasses__", "O", type);
    int rc = list != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(list); i++) {
        PyTypeObject *derived = (PyTypeObject *)PyList_GET_ITEM(list, i);
        if (derived->tp_new == atomic_load(&original_new)) {
            derived->tp_new = guarded_new;
        }
        rc = guard_classes(derived);
    }
    Py_XDECREF(list);
    return rc;
}

static int guard_proxy(void) {
    PyObject *module = PyImport_ImportModule("_weakref");
    PyObject *proxy = module != NULL ? PyObject_GetAttrString(module, "proxy") : NULL;
    Py_XDECREF(module);
    if (proxy == NULL) {
        return -1;
    }
    if (PyCFunction_CheckExact(proxy) && PyCFunction_GET_FLAGS(proxy) == METH_FASTCALL) {
        PyMethodDef *def = ((PyCFunctionObject *)proxy)->m_ml;
        PyCFunction guarded = (PyCFunction)(void (*)(void))guarded_proxy;
        PyCFunction now = __atomic_load_n(&def->ml_meth, __ATOMIC_RELAXED); /* once: others do the same */
        if (now != guarded) {
            atomic_store(&original_proxy,
                         (PyObject * (*)(PyObject *, PyObject *const *, Py_ssize_t))(void (*)(void))now);
            __atomic_store_n(&def->ml_meth, guarded, __ATOMIC_RELEASE);
        }
    }
    Py_DECREF(proxy);
    return 0;
}

int atoll_frozen_guard(void) {
    static atoll_mutex lock = ATOLL_MUTEX_INIT;
    if (atomic_load(&is_guarded)) {
        return 0;
    }
    PyTypeObject *type = atoll_weakref_type;
    atoll_mutex_lock(&lock);
    if (type->tp_new != guarded_new) {
        atomic_store(&original_new, type->tp_new);
        __atomic_store_n(&type->tp_new, guarded_new, __ATOMIC_RELEASE);
    }
    atoll_mutex_unlock(&lock);
    if (guard_proxy() < 0) {
        return -1;
    }
    atomic_store(&is_guarded, true);
    return 0;
}

int atoll_frozen_expect(void) { return atoll_frozen_guard() < 0 ? -1 : guard_classes(atoll_weakref_type); }
