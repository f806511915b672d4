/* Static types of a module that is built into CPython 3.12, for all interpreters.
 *
 * A static type is one object for the process.  What is in it and belongs to an interpreter (its dict, its subclasses, the
 * weak references to it) must not be shared by interpreters with a GIL each.  CPython's own types have the same difficulty,
 * and the way out is theirs: a table in the state of each interpreter has these three for each type; the type has a flag
 * and, in the place of its subclasses, its index.  CPython asks the flag wherever it uses one of the three.  So types that are
 * entered in the table, in slots that CPython has left over at its end, are as safe as `int`.
 *
 * Proof.  Where the table is in an interpreter's state, and what it looks like, is private.  It is looked for, once, in
 * main's state, of which the extent is known: at its place a dozen of CPython's types are at their indices, each with the dict
 * that PyType_GetDict() has; the subclasses of int are a dict with bool in it; a new weak reference to float appears; and what
 * follows the last slot are list.append and object.__getattribute__.  In another interpreter the same is asked of the same
 * place.  Where that fails, nothing is changed.
 *
 * Shared.  The types, their bases and mro, and values in their dicts that are no descriptors (date.min) are main's; all are made
 * immortal, so that nobody counts.  (The bases and mro leave main's garbage collector.)  Each type has its version tag
 * before it is shared, and keeps it: it cannot be changed.  Descriptors are made for each interpreter, from the same definitions.
 *
 * Interpreters that Atoll has not made, in one process with it, may use such a module as CPython lets them: with main's dicts,
 * under main's GIL.  They are lent main's slots: those that exist when the types are adopted, then; later ones when they
 * import the module, of which an audit hook tells.  The first weak reference to a type is the one among the subclasses of its base,
 * which stays, so that the list may begin in two slots.
 *
 * Ownership.  A dict that was provided belongs to its interpreter's table, for ever: CPython clears only the slots it knows, at
 * the end of the interpreter.  It is among what leftovers.c takes back then.
 *
 * Locks: none.  Main's dicts do not change, so that other interpreters read them, without counting references.
 */
#include "py/extension/static_types.h"

#if ATOLL_DATETIME_IS_STATIC

#include "port/port.h"

#include <string.h>

#define SPARE_SLOTS 2 /* that must be left for CPython, which has entered all of its own by then */
#define MOST_TYPES 16

static size_t place; /* of the table in the state of an interpreter */
static int ready;    /* what slots in use have there: 1, or 0 in newer releases */
static PyTypeObject *const *adopted;
static _Atomic(size_t) adopted_count; /* 0: nothing is adopted */
static bool hooked; /* hooks stay until Python is finalized, and do nothing when nothing is adopted */

static atoll_static_slot *table_of(PyInterpreterState *interp) {
    return (atoll_static_slot *)(void *)((char *)interp + place);
}

/* The slot of the type that was adopted as number i. */
static atoll_static_slot *slot_of(PyInterpreterState *interp, size_t i) {
    return table_of(interp) + (ATOLL_STATIC_SLOTS - 1 - i);
}

/* ---- proof ---- */

static size_t index_of(const PyTypeObject *type) { return (size_t)(uintptr_t)type->tp_subclasses - 1; }

static bool is_in(const atoll_static_slot *table, PyTypeObject *type) {
    if (!(type->tp_flags & ATOLL_STATIC_FLAG) || index_of(type) >= ATOLL_STATIC_SLOTS) {
        return false;
    }
    const atoll_static_slot *slot = table + index_of(type);
    if (slot->type != type || slot->readying != 0 || (slot->ready & ~1) != 0) {
        return false;
    }
    PyObject *dict = PyType_GetDict(type);
    bool same = dict != NULL && dict == slot->dict;
    Py_XDECREF(dict);
    return same;
}

/* A borrowed reference to what the type's own dict has, or NULL. */
static PyObject *attribute(PyTypeObject *type, const char *name) {
    PyObject *dict = PyType_GetDict(type);
    PyObject *found = dict != NULL ? PyDict_GetItemString(dict, name) : NULL;
    Py_XDECREF(dict);
    return found;
}

static bool has_subclasses(const atoll_static_slot *table) {
    PyObject *subclasses = table[index_of(&PyLong_Type)].subclasses;
    PyObject *key = PyLong_FromVoidPtr(&PyBool_Type);
    bool has = key != NULL && subclasses != NULL && PyDict_CheckExact(subclasses) &&
               PyDict_Contains(subclasses, key) == 1;
    Py_XDECREF(key);
    return has;
}

static bool has_weak_references(const atoll_static_slot *table) {
    PyObject *reference = PyWeakref_NewRef((PyObject *)&PyFloat_Type, NULL);
    bool has = reference != NULL && table[index_of(&PyFloat_Type)].weak_references == reference;
    Py_XDECREF(reference);
    return has;
}

static bool ends_there(const atoll_static_slot *table) {
    PyObject *const *after = (PyObject *const *)(const void *)(table + ATOLL_STATIC_SLOTS);
    PyObject *append = attribute(&PyList_Type, "append");
    PyObject *get = attribute(&PyBaseObject_Type, "__getattribute__");
    return append != NULL && after[ATOLL_LIST_APPEND_AFTER] == append && get != NULL &&
           after[ATOLL_GETATTRIBUTE_AFTER] == get;
}

/* Whether this is the table of the attached interpreter. */
static bool is_table(const atoll_static_slot *table) {
    PyTypeObject *const known[] = {&PyLong_Type,    &PyBool_Type,  &PyBaseObject_Type, &PyType_Type,
                                   &PyUnicode_Type, &PyTuple_Type, &PyList_Type,       &PyDict_Type,
                                   &PyFloat_Type,   &PyBytes_Type, &PySet_Type,        &PyModule_Type};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(known); i++) {
        if (!is_in(table, known[i])) {
            return false;
        }
    }
    bool is = ends_there(table) && has_subclasses(table) && has_weak_references(table);
    PyErr_Clear();
    return is;
}

static bool find_table(PyInterpreterState *main) {
    size_t from = (size_t)((char *)main - atoll_runtime);
    size_t size = atoll_dl_symbol_size(atoll_runtime);
    size_t needed =
        ATOLL_STATIC_SLOTS * sizeof(atoll_static_slot) + (ATOLL_GETATTRIBUTE_AFTER + 1) * sizeof(PyObject *);
    if ((char *)main < atoll_runtime || from >= size) {
        return false;
    }
    for (size_t at = 0; at + needed <= size - from; at += sizeof(void *)) {
        const atoll_static_slot *table = (const void *)((char *)main + at);
        if (is_table(table)) {
            place = at;
            ready = table[index_of(&PyLong_Type)].ready;
            return true;
        }
    }
    return false;
}

/* ---- main's types ---- */

static bool is_among(const PyTypeObject *type, PyTypeObject *const *types, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (types[i] == type) {
            return true;
        }
    }
    return false;
}

/* It may be entered, as number i: it is ready, static, in no table, its base is in the table or comes before it, and it has a
 * version tag that all interpreters know. */
static bool is_fit(PyTypeObject *const *types, size_t i) {
    PyTypeObject *type = types[i];
    const PyTypeObject *base = type->tp_base;
    bool fit = base != NULL && ((base->tp_flags & ATOLL_STATIC_FLAG) || is_among(base, types, i)) &&
               (type->tp_flags & Py_TPFLAGS_READY) && !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) &&
               !(type->tp_flags & ATOLL_STATIC_FLAG) && (type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) &&
               type->tp_dict != NULL && type->tp_mro != NULL && type->tp_bases != NULL;
    return fit && PyUnstable_Type_AssignVersionTag(type) > 0 &&
           type->tp_version_tag <= ATOLL_SHARED_VERSION_TAGS;
}

static void share_tuple(PyObject *tuple) {
    if (PyObject_GC_IsTracked(tuple)) {
        PyObject_GC_UnTrack(tuple);
    }
    atoll_make_immortal(tuple);
}

static void adopt(PyTypeObject *type, atoll_static_slot *slot, size_t index) {
    *slot = (atoll_static_slot){.type = type,
                                .ready = ready,
                                .dict = type->tp_dict,
                                .subclasses = type->tp_subclasses,
                                .weak_references = type->tp_weaklist};
    type->tp_subclasses = (void *)(uintptr_t)(index + 1);
    type->tp_weaklist = NULL;
    type->tp_flags |= ATOLL_STATIC_FLAG;
    atoll_make_immortal((PyObject *)type);
    share_tuple(type->tp_mro);
    share_tuple(type->tp_bases);
}

/* The interpreter's GIL is held, or it does not use the types. */
static void lend(PyInterpreterState *main, PyInterpreterState *interp) {
    size_t count = atomic_load(&adopted_count);
    for (size_t i = 0; i < count; i++) {
        if (slot_of(interp, i)->type == NULL) {
            *slot_of(interp, i) = *slot_of(main, i);
        }
    }
}

/* An interpreter that Atoll has not made may be about to get the module from CPython. */
static int on_audit(const char *event, PyObject *args, void *unused) {
    (void)unused;
    if (atomic_load(&adopted_count) == 0 || strcmp(event, "import") != 0 || PyTuple_GET_SIZE(args) == 0) {
        return 0;
    }
    PyObject *name = PyTuple_GET_ITEM(args, 0);
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "_datetime") == 0) {
        lend(PyInterpreterState_Main(), PyInterpreterState_Get());
    }
    return 0;
}

bool atoll_static_types_adopt(PyTypeObject *const *types, size_t count) {
    PyInterpreterState *main = PyInterpreterState_Get();
    if (count > MOST_TYPES || !find_table(main)) {
        return false;
    }
    for (size_t i = 0; i < count + SPARE_SLOTS; i++) {
        if (slot_of(main, i)->type != NULL || (i < count && !is_fit(types, i))) {
            return false;
        }
    }
    for (size_t i = 0; i < count; i++) {
        adopt(types[i], slot_of(main, i), ATOLL_STATIC_SLOTS - 1 - i);
    }
    adopted = types;
    atomic_store(&adopted_count, count);
    for (PyInterpreterState *other = PyInterpreterState_Head(); other != NULL;
         other = PyInterpreterState_Next(other)) {
        lend(main, other);
    }
    if (!hooked && PySys_AddAuditHook(on_audit, NULL) == 0) {
        hooked = true;
    }
    PyErr_Clear();
    return true;
}

void atoll_static_types_forget(void) {
    atomic_store(&adopted_count, 0);
    hooked = false;
}

void atoll_static_types_release(void) {
    PyInterpreterState *main = PyInterpreterState_Get();
    if (PyInterpreterState_Head() != main || PyInterpreterState_Next(main) != NULL) {
        return; /* what it would get back is still another's as well */
    }
    size_t count = atomic_exchange(&adopted_count, 0);
    for (size_t i = 0; i < count; i++) {
        atoll_static_slot *slot = slot_of(main, i);
        adopted[i]->tp_subclasses = slot->subclasses;
        adopted[i]->tp_weaklist = slot->weak_references;
        adopted[i]->tp_flags &= ~ATOLL_STATIC_FLAG;
        *slot = (atoll_static_slot){0};
    }
}

/* ---- other interpreters' dicts ---- */

/* What this interpreter has in the place of main's value; a new reference, or NULL with an exception. */
static PyObject *again(PyTypeObject *type, const char *name, PyObject *value, PyMethodDef *replaced) {
    PyTypeObject *kind = Py_TYPE(value);
    if (kind == &PyWrapperDescr_Type) {
        const PyWrapperDescrObject *wrapper = (PyWrapperDescrObject *)value;
        return PyDescr_NewWrapper(type, wrapper->d_base, wrapper->d_wrapped);
    }
    if (kind == &PyMethodDescr_Type) {
        return PyDescr_NewMethod(type, ((PyMethodDescrObject *)value)->d_method);
    }
    if (kind == &PyClassMethodDescr_Type) {
        bool other = replaced != NULL && strcmp(replaced->ml_name, name) == 0;
        return PyDescr_NewClassMethod(type, other ? replaced : ((PyMethodDescrObject *)value)->d_method);
    }
    if (kind == &PyMemberDescr_Type) {
        return PyDescr_NewMember(type, ((PyMemberDescrObject *)value)->d_member);
    }
    if (kind == &PyGetSetDescr_Type) {
        return PyDescr_NewGetSet(type, ((PyGetSetDescrObject *)value)->d_getset);
    }
    if (kind == &PyCFunction_Type) { /* __new__ */
        return PyCFunction_New(((PyCFunctionObject *)value)->m_ml, (PyObject *)type);
    }
    if (kind == &PyUnicode_Type && PyUnicode_IS_ASCII(value)) { /* __doc__ */
        return PyUnicode_FromStringAndSize(PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value));
    }
    if (atoll_is_immortal(value)) {
        return Py_NewRef(value);
    }
    PyErr_Format(PyExc_ImportError, "%s.%s is of type %s, of which an interpreter cannot have its own",
                 type->tp_name, name, kind->tp_name);
    return NULL;
}

static PyObject *own_dict(PyTypeObject *type, PyObject *from, PyMethodDef *replaced) {
    PyObject *dict = PyDict_New();
    PyObject *key;
    PyObject *value;
    Py_ssize_t at = 0;
    while (dict != NULL && PyDict_Next(from, &at, &key, &value)) {
        const char *name = PyUnicode_IS_ASCII(key) ? PyUnicode_DATA(key) : "";
        PyObject *own_key = PyUnicode_InternFromString(name);
        PyObject *own = own_key != NULL ? again(type, name, value, replaced) : NULL;
        if (own == NULL || PyDict_SetItem(dict, own_key, own) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(own);
        Py_XDECREF(own_key);
    }
    return dict;
}

/* Makes type.__base__.__subclasses__() know the type; the base is in the table. */
static int add_to_base(atoll_static_slot *table, PyTypeObject *type) {
    PyTypeObject *base = type->tp_base;
    atoll_static_slot *slot = table + index_of(base);
    if (slot->subclasses == NULL) {
        slot->subclasses = PyDict_New();
    }
    PyObject *key = PyLong_FromVoidPtr(type);
    PyObject *reference = PyWeakref_NewRef((PyObject *)type, NULL);
    int rc = slot->subclasses != NULL && key != NULL && reference != NULL
                 ? PyDict_SetItem(slot->subclasses, key, reference)
                 : -1;
    Py_XDECREF(reference);
    Py_XDECREF(key);
    return rc;
}

int atoll_static_types_provide(PyTypeObject *replaced_in, PyMethodDef *replaced) {
    PyInterpreterState *main = PyInterpreterState_Main();
    PyInterpreterState *interp = PyInterpreterState_Get();
    size_t count = atomic_load(&adopted_count);
    if (count == 0 || !is_table(table_of(interp))) {
        PyErr_SetString(PyExc_ImportError, "CPython's table of static types is not where it was found");
        return -1;
    }
    if (slot_of(interp, count - 1)->type != NULL &&
        slot_of(interp, count - 1)->dict != slot_of(main, count - 1)->dict) {
        return 0; /* the module is imported once more */
    }
    PyObject *dicts[MOST_TYPES];
    for (size_t i = 0; i < count; i++) {
        PyMethodDef *other = adopted[i] == replaced_in ? replaced : NULL;
        dicts[i] = own_dict(adopted[i], slot_of(main, i)->dict, other);
        if (dicts[i] == NULL) {
            while (i > 0) {
                Py_DECREF(dicts[--i]);
            }
            return -1;
        }
    }
    for (size_t i = 0; i < count; i++) {
        *slot_of(interp, i) = (atoll_static_slot){.type = adopted[i], .ready = ready, .dict = dicts[i]};
    }
    for (size_t i = 0; i < count; i++) {
        if (add_to_base(table_of(interp), adopted[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

#else

void atoll_static_types_release(void) {}
void atoll_static_types_forget(void) {}

#endif
