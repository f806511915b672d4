/* Numbers for functions, so that the second call of a function sends eight bytes.
 *
 * A number names what the function does, with the globals it saw: what a receiver may call under this number needs no
 * new globals.  Functions of the same code, defaults and globals have the same (a lambda in a loop).  Which function it is is said
 * by its identity (codec/identity.c).
 *
 * Numbers are for functions with no closure, keyword defaults or attributes, and with defaults that are plain immutable
 * values; else everything is sent in full.  They are kept with the code object, as its "extra": a short list of
 * records, each for one globals dict, one tuple of defaults, and what the function is called and says of itself.  A record
 * owns what it compares, but for the globals dict: that it is another one at the same address is seen by the epoch.
 *
 * A function's globals, and the classes that it reaches, are to be there as they are here at the time of the call.  So a number is
 * good for one state of all that its function reaches.  Two things tell that the state is still the same:
 *
 *   the epoch    (codec/watch.c) stands still as long as no name that code reaches is bound anew, and no class is changed: enough
 *                where all that is reached is immutable;
 *   the reach    what may change without notice (a list, an instance, what is in a closure's cells) is written down when the
 *                function is examined, and compared by what it encodes to each time (codec/version.c).
 *
 * A record that either of them speaks against is examined anew: the function is encoded in full, and when that gives the same bytes as
 * before, it keeps its number.  The bytes are kept for whoever has to send them next.
 *
 * The receiver's side, `functions`, is a set-associative table with a fixed number of entries: whatever
 * is pushed out is sent in full when it is next needed, and so is whatever was kept before the receiver's copies of globals or
 * classes were changed by another function, or another version of this one (codec->bound counts such changes).  What came by its path
 * is what the receiver's own module has there: where that has come to have another (a reload, a replacement for a test), it is looked for
 * again.  The module's globals are watched for that; a method is looked up each time.
 */
#include "py/codec/internal.h"

#include <stdatomic.h>

typedef struct function_record {
    struct function_record *next;
    uint64_t number; /* 0 where it is not known that this function may be cached */
    uint64_t epoch;
    uint64_t content;   /* a hash of what it was encoded to */
    atoll_reach *reach; /* owned, or NULL: what may change without notice */
    PyObject *globals;  /* compared only */
    PyObject *defaults; /* owned, or NULL */
    /* Owned, or NULL. */
    PyObject *qualname;
    PyObject *name;
    PyObject *module;
    PyObject *doc;
    atoll_crossing crossing;
} function_record;

/* What a code object has: most recently made first. */
typedef struct {
    function_record *first;
} record_list;

enum { RECORDS_KEPT = 8 };

static _Atomic(uint64_t) next_number = 1;

uint64_t atoll_next_number(void) { return atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed); }

static void free_records(function_record *r) {
    while (r != NULL) {
        function_record *next = r->next;
        atoll_reach_release(r->reach);
        Py_XDECREF(r->defaults);
        Py_XDECREF(r->qualname);
        Py_XDECREF(r->name);
        Py_XDECREF(r->module);
        Py_XDECREF(r->doc);
        PyMem_RawFree(r);
        r = next;
    }
}

void atoll_records_free(void *ptr) {
    record_list *list = ptr;
    if (list != NULL) {
        free_records(list->first);
        PyMem_RawFree(list);
    }
}

/* ---- numbers ---- */

static record_list *records_of(atoll_codec *codec, PyFunctionObject *func) {
    void *extra = NULL;
    if (codec->code_extra < 0 || PyUnstable_Code_GetExtra(func->func_code, codec->code_extra, &extra) < 0) {
        PyErr_Clear();
        return NULL;
    }
    return extra;
}

bool atoll_is_plain_value(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    return obj == Py_None || obj == Py_Ellipsis || type == &PyBool_Type || type == &PyLong_Type ||
           type == &PyFloat_Type || type == &PyUnicode_Type || type == &PyBytes_Type;
}

bool atoll_is_plain_tuple(PyObject *obj) {
    bool plain = PyTuple_CheckExact(obj);
    for (Py_ssize_t i = 0; plain && i < PyTuple_GET_SIZE(obj); i++) {
        plain = atoll_is_plain_value(PyTuple_GET_ITEM(obj, i));
    }
    return plain;
}

static inline bool is_bare(const PyFunctionObject *func) {
    return func->func_closure == NULL && func->func_kwdefaults == NULL &&
           (func->func_dict == NULL || PyDict_GET_SIZE(func->func_dict) == 0);
}

static bool is_plain_or_null(PyObject *obj) { return obj == NULL || atoll_is_plain_value(obj); }

bool atoll_function_may_be_numbered(const PyFunctionObject *func) {
    if (!is_bare(func) || !is_plain_or_null(func->func_module) || !is_plain_or_null(func->func_doc)) {
        return false;
    }
    for (Py_ssize_t i = 0; func->func_defaults != NULL && i < PyTuple_GET_SIZE(func->func_defaults); i++) {
        if (!atoll_is_plain_value(PyTuple_GET_ITEM(func->func_defaults, i))) {
            return false;
        }
    }
    return true;
}

/* The record that speaks for func, or NULL.  It says nothing of the epoch. */
static inline function_record *find_record(const record_list *list, const PyFunctionObject *func) {
    function_record *r = list != NULL && is_bare(func) ? list->first : NULL;
    while (r != NULL && (r->globals != func->func_globals || r->defaults != func->func_defaults ||
                         r->qualname != func->func_qualname || r->name != func->func_name ||
                         r->module != func->func_module || r->doc != func->func_doc)) {
        r = r->next;
    }
    return r;
}

/* A new record for func, whose globals are watched; NULL (no exception) when there is no memory.  *dropped: what has to go for it, and is
 * the caller's to free, which may run code. */
static function_record *add_record(atoll_codec *codec, PyFunctionObject *func, function_record **dropped) {
    record_list *list = records_of(codec, func);
    if (list == NULL) {
        list = PyMem_RawCalloc(1, sizeof *list);
        if (list == NULL || PyUnstable_Code_SetExtra(func->func_code, codec->code_extra, list) < 0) {
            PyErr_Clear();
            atoll_records_free(list);
            return NULL;
        }
    }
    function_record *r = PyMem_RawCalloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->globals = func->func_globals;
    r->defaults = Py_XNewRef(func->func_defaults);
    r->qualname = Py_NewRef(func->func_qualname);
    r->name = Py_NewRef(func->func_name);
    r->module = Py_XNewRef(func->func_module);
    r->doc = Py_XNewRef(func->func_doc);
    r->crossing = CROSS_NOT;
    r->next = list->first;
    list->first = r;
    for (int i = 1; i < RECORDS_KEPT && r != NULL; i++) {
        r = r->next;
    }
    if (r != NULL) {
        *dropped = r->next;
        r->next = NULL;
    }
    return list->first;
}

void atoll_examined_forget(atoll_codec *codec) {
    codec->examined.number = 0;
    atoll_message_clear(&codec->examined.full);
}

bool atoll_function_take_full(atoll_codec *codec, uint64_t number, atoll_message *full) {
    if (number == 0 || codec->examined.number != number) {
        return false;
    }
    *full = codec->examined.full;
    codec->examined.full = (atoll_message){0};
    codec->examined.number = 0;
    return true;
}

/* What a function was seen to be. */
typedef struct {
    atoll_crossing crossing;
    uint64_t epoch;
    uint64_t content;
    atoll_reach *reach; /* owned, or NULL */
    atoll_message full;
} examination;

static void drop(examination *seen) {
    atoll_reach_release(seen->reach);
    atoll_message_clear(&seen->full);
}

/* Encodes func in full.  1, 0 when it cannot be (whoever sends it says why), -1 with an exception that must reach the user. */
static int examine(atoll_codec *codec, PyFunctionObject *func, examination *seen) {
    seen->reach = atoll_reach_new();
    if (seen->reach == NULL || !atoll_watch_functions(codec)) {
        return 0;
    }
    if (atoll_encode_examined(codec, &seen->full, (PyObject *)func, seen->reach) < 0) {
        if (atoll_error_comes_again()) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    seen->content = atoll_hash(seen->full.body.data, seen->full.body.len);
    if (atoll_reach_is_empty(seen->reach)) {
        atoll_reach_release(seen->reach);
        seen->reach = NULL;
    }
    return 1;
}

/* Looking func over may run code, which may do anything: only afterwards are records looked at.  As examine(). */
static int look_over(atoll_codec *codec, PyFunctionObject *func, examination *seen) {
    PyObject *code = Py_NewRef(func->func_code);
    seen->crossing = atoll_function_crossing(codec, func);
    int rc = seen->crossing == CROSS_ERROR ? -1 : 1;
    if (seen->crossing == CROSS_MAIN) {
        rc = examine(codec, func, seen);
    }
    bool same = code == func->func_code && atoll_function_may_be_numbered(func);
    Py_DECREF(code);
    return rc > 0 && !same ? 0 : rc;
}

/* Writes down in its record what was seen; the number, and whether it is a new one. */
static uint64_t note(atoll_codec *codec, PyFunctionObject *func, examination *seen, bool *fresh) {
    *fresh = false;
    function_record *dropped = NULL;
    function_record *r = find_record(records_of(codec, func), func);
    if (r == NULL && (r = add_record(codec, func, &dropped)) == NULL) {
        return 0;
    }
    if (seen->crossing == CROSS_NOT) {
        r->number = 0;
    } else if (r->number == 0 || seen->crossing != r->crossing || seen->content != r->content) {
        r->number = atoll_next_number();
        *fresh = true;
    }
    r->crossing = seen->crossing;
    r->epoch = seen->epoch;
    r->content = seen->content;
    atoll_reach *old = r->reach;
    r->reach = seen->reach;
    seen->reach = old;
    uint64_t number = r->number;
    free_records(dropped);
    return number;
}

/* Whether what the record says is still so: 1, 0, or -1 with an exception. */
static int is_current(atoll_codec *codec, function_record *r, PyFunctionObject *func) {
    if (r->reach == NULL) {
        return 1;
    }
    atoll_reach *reach = r->reach;
    uint64_t number = r->number;
    atoll_reach_retain(reach); /* comparing may run code, which may drop the record */
    int rc = atoll_reach_is_same(codec, reach);
    if (rc < 0 && !atoll_error_is_urgent()) {
        PyErr_Clear();
        rc = 0;
    }
    r = find_record(records_of(codec, func), func);
    if (rc > 0 && (r == NULL || r->number != number || r->reach != reach)) {
        rc = 0;
    }
    atoll_reach_release(reach);
    return rc;
}

int atoll_function_number(atoll_codec *codec, PyObject *obj, uint64_t *number) {
    *number = 0;
    if (!PyFunction_Check(obj)) {
        return atoll_builtins_number(codec, obj, number);
    }
    PyFunctionObject *func = (PyFunctionObject *)obj;
    uint64_t epoch = atoll_definitions_epoch(codec);
    function_record *r = find_record(records_of(codec, func), func);
    if (r != NULL && r->epoch == epoch) {
        *number = r->number;
        int rc = is_current(codec, r, func);
        if (rc != 0) {
            *number = rc > 0 ? *number : 0;
            return rc < 0 ? -1 : 0;
        }
        *number = 0;
    }
    if (codec->code_extra < 0 || !atoll_function_may_be_numbered(func) ||
        !atoll_watch_globals(codec, func->func_globals)) {
        return 0;
    }
    examination seen = {.epoch = epoch};
    int rc = look_over(codec, func, &seen);
    if (rc > 0) {
        bool fresh;
        *number = note(codec, func, &seen, &fresh);
        atoll_examined_forget(codec);
        /* Whoever asked has to send it now.  Kept for that moment, it must not keep anything. */
        if (fresh && seen.full.body.len != 0 && seen.full.nhandles == 0) {
            codec->examined.number = *number;
            codec->examined.full = seen.full;
            seen.full = (atoll_message){0};
        }
    }
    drop(&seen);
    return rc < 0 ? -1 : 0;
}

/* ---- the receiver's functions ---- */

enum { WAYS = 4 };

static atoll_function_entry *set_of(atoll_codec *codec, uint64_t number) {
    return &codec->functions[number % (ATOLL_FUNCTION_CACHE / WAYS) * WAYS];
}

/* What the path of an entry leads to now, in the modules that are there; and the globals that have it, or NULL: new references, or NULL, maybe
 * with an exception. */
static PyObject *follow_path(PyObject *name, PyObject *qualname, PyObject **dict) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = PyDict_CheckExact(modules) ? Py_XNewRef(PyDict_GetItemWithError(modules, name)) : NULL;
    *dict = module != NULL && PyModule_Check(module) ? Py_NewRef(PyModule_GetDict(module)) : NULL;
    PyObject *found = *dict != NULL ? Py_XNewRef(PyDict_GetItemWithError(*dict, qualname)) : NULL;
    if (found == NULL && module != NULL && !PyErr_Occurred() &&
        PyUnicode_FindChar(qualname, '.', 0, PyUnicode_GET_LENGTH(qualname), 1) >= 0) {
        Py_CLEAR(*dict);
        found = atoll_dotted_get(module, qualname);
    }
    Py_XDECREF(module);
    return found;
}

/* Whether what is kept in an entry is still what its path leads to: 1, 0, or -1 with an exception that must reach the user.  What a module
 * gives when it is asked, and has not, is not asked for again. */
static int is_found(atoll_codec *codec, atoll_function_entry *entry) {
    uint64_t epoch = atoll_globals_epoch(codec);
    if (entry->module == NULL || entry->epoch == epoch) {
        return 1;
    }
    uint64_t number = entry->number;
    PyObject *func = Py_NewRef(entry->func);
    PyObject *module = Py_NewRef(entry->module);
    PyObject *qualname = Py_NewRef(entry->qualname);
    PyObject *dict;
    PyObject *found = follow_path(module, qualname, &dict);
    int rc = found == func;
    if (PyErr_Occurred()) {
        rc = atoll_error_is_urgent() ? -1 : 0;
        if (rc == 0) {
            PyErr_Clear();
        }
    }
    if (entry->number != number) {
        rc = rc < 0 ? -1 : 0;
    } else if (found == NULL && dict != NULL && entry->epoch == 0) {
        Py_CLEAR(entry->module);
        rc = 1;
    } else if (rc > 0 && dict != NULL && atoll_watch_globals(codec, dict)) {
        atoll_note_path(codec, dict, qualname);
        entry->epoch = epoch;
    }
    Py_XDECREF(found);
    Py_XDECREF(dict);
    Py_DECREF(qualname);
    Py_DECREF(module);
    Py_DECREF(func);
    return rc;
}

PyObject *atoll_function_cached(atoll_codec *codec, uint64_t number) {
    if (codec->functions == NULL || number == 0) {
        return NULL;
    }
    atoll_function_entry *set = set_of(codec, number);
    for (int i = 0; i < WAYS; i++) {
        if (set[i].number == number) {
            if (atoll_spaces_follow(codec) < 0 || set[i].number != number || is_found(codec, &set[i]) <= 0) {
                return NULL;
            }
            return set[i].number == number && set[i].bound == codec->bound ? set[i].func : NULL;
        }
    }
    return NULL;
}

int atoll_function_keep(atoll_codec *codec, uint64_t number, PyObject *func, uint64_t before,
                        const atoll_message *full) {
    PyObject *module;
    PyObject *qualname;
    if (atoll_decode_place(codec, full, &module, &qualname) < 0) {
        return -1;
    }
    if (codec->functions == NULL) {
        codec->functions = PyMem_Calloc(ATOLL_FUNCTION_CACHE, sizeof *codec->functions);
        if (codec->functions == NULL) {
            Py_XDECREF(module);
            Py_XDECREF(qualname);
            PyErr_NoMemory();
            return -1;
        }
    }
    atoll_function_entry *set = set_of(codec, number);
    int at = 0; /* its own entry, or the oldest */
    while (at < WAYS - 1 && set[at].number != number) {
        at++;
    }
    const atoll_function_entry old = set[at];
    memmove(&set[1], &set[0], (size_t)at * sizeof *set);
    set[0] = (atoll_function_entry){.number = number,
                                    .bound = codec->bound - (before != atoll_bound_by_others(codec)),
                                    .func = Py_NewRef(func),
                                    .module = module,
                                    .qualname = qualname};
    Py_XDECREF(old.func);
    Py_XDECREF(old.module);
    Py_XDECREF(old.qualname);
    return 0;
}

int atoll_functions_give_up(atoll_codec *codec, PyObject *dicts) {
    PyObject *out = PyList_New(0); /* they go when the table is as it should be */
    int rc = out != NULL ? 0 : -1;
    for (size_t i = 0; rc == 0 && codec->functions != NULL && i < ATOLL_FUNCTION_CACHE; i++) {
        atoll_function_entry *entry = &codec->functions[i];
        if (entry->func == NULL || !PyFunction_Check(entry->func)) {
            continue;
        }
        PyObject *address = PyLong_FromVoidPtr(PyFunction_GET_GLOBALS(entry->func));
        rc = address != NULL ? PyDict_Contains(dicts, address) : -1;
        Py_XDECREF(address);
        if (rc > 0 && (rc = PyList_Append(out, entry->func)) == 0) {
            entry->number = 0;
            Py_CLEAR(entry->func); /* not the last reference */
            Py_CLEAR(entry->module);
            Py_CLEAR(entry->qualname);
        }
    }
    Py_XDECREF(out);
    return rc < 0 ? -1 : 0;
}
