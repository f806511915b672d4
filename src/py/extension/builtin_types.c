/* CPython's own types have the same attributes in every interpreter.
 *
 * A static type is one object for the process, with a dict for each interpreter.  What CPython puts into that differs:
 *
 *   too much    In another interpreter than main the slots of a type are inherited already when its dict is filled, and each looks like
 *               a slot of its own (gh-117482).  Before 3.12.3 all of them get a method, 2,000 in all, so that int has a __str__ of
 *               its own there and enums are formatted in another way; some of 3.13 still give __init__, also to the types of a
 *               built-in _datetime, which are readied when that is imported.
 *   too little  In all versions exceptions lack a __new__ of their own, for the reverse reason.  Before 3.14 constants that are
 *               entered by hand are entered in main only: Token.MISSING.
 *
 * So the dicts are compared, whatever the version: the names that main's have are noted in main, once, and compared
 * in the first interpreter that is made.  The outcome is a list of changes, which is the same for all interpreters and is all that
 * later ones cost.
 *
 * Removed are only methods that stand for a slot, and a None in the place of one: the slot itself stays as it is, and is inherited.
 * Added are only functions of C, from the definition that main's was made from, and constants in CPython's static data, of
 * which there is one for the process.
 *
 * The types' version tags are the process's and stay, too.  So what CPython has looked up in this interpreter is forgotten here, and
 * methods that are removed are kept until the interpreter ends: code that ran while it was made may remember them by tag.
 *
 * Ownership: notes and changes are the process's, in memory of malloc(), and hold no objects but static ones.
 * Locks: notes are made under main's GIL and compared under the lifecycle lock; the list of changes then stays as it is.
 */
#include "py/extension/builtin_types.h"

#include "port/port.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* An attribute as main has it. */
typedef struct {
    char *name;
    PyMethodDef *function; /* that it is made from, or */
    PyObject *constant;    /* what it is, or neither: others cannot get one */
} attribute;

typedef struct {
    PyTypeObject *type;
    attribute *attributes;
    size_t count;
} noted_type;

/* Something to add to a type's dict; when it is nothing, to take away. */
typedef struct {
    PyTypeObject *type;
    size_t name; /* index among `names` */
    PyMethodDef *function;
    PyObject *constant;
} change;

static _Atomic(bool) is_noted;
static noted_type *noted;
static size_t noted_count, noted_room;

static bool is_compared;
static change *changes;
static size_t change_count, change_room;
static char **names;
static size_t name_count, name_room;

/* Makes room for one more element.  Whether there is. */
static bool grow(void **array, size_t count, size_t *room, size_t size) {
    if (count < *room) {
        return true;
    }
    size_t more = *room * 2 + 16;
    void *grown = realloc(*array, more * size);
    if (grown == NULL) {
        PyErr_NoMemory();
        return false;
    }
    *array = grown;
    *room = more;
    return true;
}

/* Whether it is a static type with a dict for each interpreter: such a one has none in the place where all others have it. */
static bool has_dicts(const PyTypeObject *type) {
    return !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) && (type->tp_flags & Py_TPFLAGS_READY) &&
           type->tp_dict == NULL;
}

/* ---- in main ---- */

static bool is_in_runtime(const PyObject *object) {
    const char *at = (const char *)object;
    return at >= atoll_runtime && at < atoll_runtime + atoll_dl_symbol_size(atoll_runtime);
}

static int note_attributes(noted_type *type, PyObject *dict) {
    PyObject *key;
    PyObject *value;
    Py_ssize_t at = 0;
    type->attributes = calloc((size_t)PyDict_GET_SIZE(dict) + 1, sizeof *type->attributes);
    if (type->attributes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(dict, &at, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
        attribute *one = &type->attributes[type->count];
        one->name = name != NULL ? strdup(name) : NULL;
        if (one->name == NULL) {
            if (name != NULL) {
                PyErr_NoMemory();
            }
            if (PyErr_Occurred()) {
                return -1;
            }
            continue;
        }
        if (PyCFunction_CheckExact(value) && PyCFunction_GET_SELF(value) == (PyObject *)type->type) {
            one->function = ((PyCFunctionObject *)value)->m_ml;
        } else if (value == Py_None || (atoll_is_immortal(value) && is_in_runtime(value))) {
            one->constant = value;
        }
        type->count++;
    }
    return 0;
}

static int note_type(PyTypeObject *type) {
    PyObject *dict = PyType_GetDict(type);
    if (dict == NULL) {
        return 0; /* not in use here */
    }
    int rc = -1;
    if (grow((void **)&noted, noted_count, &noted_room, sizeof *noted)) {
        noted[noted_count] = (noted_type){.type = type};
        rc = note_attributes(&noted[noted_count++], dict);
    }
    Py_DECREF(dict);
    return rc;
}

/* The type, and all static ones that derive from it: none derives from another kind. */
static int note_with_subclasses(PyTypeObject *type) {
    if (has_dicts(type) && note_type(type) < 0) {
        return -1;
    }
    PyObject *list = PyObject_CallMethod((PyObject *)&PyType_Type, "__subclasses__", "O", type);
    int rc = list != NULL && PyList_Check(list) ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(list); i++) {
        PyTypeObject *derived = (PyTypeObject *)PyList_GET_ITEM(list, i);
        if (!(derived->tp_flags & Py_TPFLAGS_HEAPTYPE) && derived->tp_base == type) {
            rc = note_with_subclasses(derived);
        }
    }
    Py_XDECREF(list);
    return rc;
}

static void forget_notes(void) {
    for (size_t i = 0; i < noted_count; i++) {
        for (size_t j = 0; noted[i].attributes != NULL && j < noted[i].count; j++) {
            free(noted[i].attributes[j].name);
        }
        free(noted[i].attributes);
    }
    free(noted);
    noted = NULL;
    noted_count = noted_room = 0;
}

bool atoll_builtin_types_noted(void) { return atomic_load(&is_noted); }

int atoll_builtin_types_note(void) {
    if (atomic_load(&is_noted)) {
        return 0;
    }
    forget_notes();
    if (note_with_subclasses(&PyBaseObject_Type) < 0) {
        return -1;
    }
    atomic_store(&is_noted, true);
    return 0;
}

/* ---- in the first other interpreter ---- */

static size_t index_of_name(const char *name) {
    size_t i = 0;
    while (i < name_count && strcmp(names[i], name) != 0) {
        i++;
    }
    return i;
}

static int add_change(change what, const char *name) {
    what.name = index_of_name(name);
    if (what.name == name_count) {
        char *copy = grow((void **)&names, name_count, &name_room, sizeof *names) ? strdup(name) : NULL;
        if (copy == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        names[name_count++] = copy;
    }
    if (!grow((void **)&changes, change_count, &change_room, sizeof *changes)) {
        return -1;
    }
    changes[change_count++] = what;
    return 0;
}

static bool main_has(const noted_type *type, const char *name) {
    for (size_t i = 0; i < type->count; i++) {
        if (strcmp(type->attributes[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int compare(const noted_type *type, PyObject *dict) {
    PyObject *key;
    PyObject *value;
    Py_ssize_t at = 0;
    int rc = 0;
    while (rc == 0 && PyDict_Next(dict, &at, &key, &value)) {
        bool is_slot = Py_IS_TYPE(value, &PyWrapperDescr_Type) || value == Py_None;
        const char *name = PyUnicode_Check(key) && is_slot ? PyUnicode_AsUTF8(key) : "";
        if (name == NULL) {
            return -1;
        }
        if (name[0] == '_' && !main_has(type, name)) {
            rc = add_change((change){.type = type->type}, name);
        }
    }
    for (size_t i = 0; rc == 0 && i < type->count; i++) {
        const attribute *one = &type->attributes[i];
        if ((one->function != NULL || one->constant != NULL) &&
            PyDict_GetItemString(dict, one->name) == NULL) {
            rc =
                add_change((change){.type = type->type, .function = one->function, .constant = one->constant},
                           one->name);
        }
    }
    return rc;
}

int atoll_builtin_types_compare(void) {
    if (is_compared) {
        return 0;
    }
    change_count = 0;
    for (size_t i = 0; i < noted_count; i++) {
        PyObject *dict = PyType_GetDict(noted[i].type);
        int rc = dict != NULL ? compare(&noted[i], dict) : 0;
        Py_XDECREF(dict);
        if (rc < 0) {
            return -1;
        }
    }
    is_compared = true;
    forget_notes();
    return 0;
}

/* ---- in each ---- */

static int add(const change *what, PyObject *dict, PyObject *name) {
    PyObject *value = what->function != NULL ? PyCFunction_New(what->function, (PyObject *)what->type)
                                             : Py_NewRef(what->constant);
    PyObject *there = value != NULL ? PyDict_SetDefault(dict, name, value) : NULL; /* borrowed */
    Py_XDECREF(value);
    return there != NULL ? 0 : -1;
}

static int take_away(PyObject *dict, PyObject *name, PyObject *removed) {
    PyObject *value = PyDict_GetItemWithError(dict, name); /* borrowed */
    if (value == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return PyList_Append(removed, value) < 0 ? -1 : PyDict_DelItem(dict, name);
}

static int apply(PyObject *strings, PyObject *removed) {
    for (size_t i = 0; i < change_count; i++) {
        const change *what = &changes[i];
        PyObject *name = PyTuple_GET_ITEM(strings, (Py_ssize_t)what->name);
        PyObject *dict = PyType_GetDict(what->type);
        int rc = 0;
        if (dict != NULL) {
            bool is_more = what->function != NULL || what->constant != NULL;
            rc = is_more ? add(what, dict, name) : take_away(dict, name, removed);
            Py_DECREF(dict);
        }
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *make_strings(void) {
    PyObject *strings = PyTuple_New((Py_ssize_t)name_count);
    for (size_t i = 0; strings != NULL && i < name_count; i++) {
        PyObject *name = PyUnicode_InternFromString(names[i]);
        if (name == NULL) {
            Py_CLEAR(strings);
        } else {
            PyTuple_SET_ITEM(strings, (Py_ssize_t)i, name);
        }
    }
    return strings;
}

int atoll_builtin_types_settle(void) {
    if (change_count == 0) {
        return 0;
    }
    PyObject *strings = make_strings();
    PyObject *removed = PyList_New(0);
    PyObject *keep = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    int rc = strings != NULL && removed != NULL ? apply(strings, removed) : -1;
    if (rc == 0 && PyList_GET_SIZE(removed) > 0 && keep != NULL) {
        rc = PyDict_SetItemString(keep, "atoll.removed", removed);
    }
    (void)PyType_ClearCache();
    Py_XDECREF(removed);
    Py_XDECREF(strings);
    return rc;
}

/* ---- types that a built-in module brings later ---- */

/* 0, or -1.  Nothing has looked the methods up yet. */
static int take_inherited(PyTypeObject *type) {
    PyObject *dict = has_dicts(type) ? PyType_GetDict(type) : NULL;
    PyObject *init = dict != NULL ? PyDict_GetItemString(dict, "__init__") : NULL; /* borrowed */
    bool is_inherited = init != NULL && Py_IS_TYPE(init, &PyWrapperDescr_Type) &&
                        ((PyWrapperDescrObject *)init)->d_wrapped == (void *)PyBaseObject_Type.tp_init;
    int rc = is_inherited ? PyDict_DelItemString(dict, "__init__") : 0;
    Py_XDECREF(dict);
    return rc;
}

int atoll_builtin_types_added(PyObject *module) {
    PyObject *members = PyModule_GetDict(module); /* borrowed */
    PyObject *key;
    PyObject *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(members, &at, &key, &value)) {
        if (PyType_Check(value) && take_inherited((PyTypeObject *)value) < 0) {
            return -1;
        }
    }
    (void)PyType_ClearCache();
    return 0;
}
