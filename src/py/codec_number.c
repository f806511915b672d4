/* Numbers for functions, so that the second call of a function sends eight bytes.
 *
 * A number names what the function does, with the globals it saw: what a receiver may call under this number needs no
 * new globals.  Functions of the same code, defaults and globals have the same (a lambda in a loop).  Which function it is is said
 * by its identity (codec_identity.c).
 *
 * Numbers are for functions with no closure, keyword defaults or attributes, and with defaults that are plain immutable
 * values; else everything is sent in full.  They are kept with the code object, as its "extra": a short list of
 * records, each for one globals dict, one tuple of defaults, and what the function is called and says of itself.  A record
 * owns what it compares, but for the globals dict: that it is another one at the same address is seen by the epoch.
 *
 * Globals are watched (PyDict_Watch).  When a watched dict gets or loses a name, or a name changes from or to a
 * definition (a function, class or module), or a dict goes away, the process-wide epoch moves on, and records of
 * the old epoch are examined anew.  Other changes of values do not matter: a receiver keeps its own values.  They are many,
 * so that they must cost next to nothing: a filter says of nearly every name that it is bound to no definition in that
 * dict.  The watcher is called in the middle of CPython's own work on the dict: it runs no Python code.
 *
 * The receiver's side, `functions`, is a set-associative table with a fixed number of entries: whatever
 * is pushed out is sent in full when it is next needed.
 */
#include "py/codec_internal.h"

#include <stdatomic.h>

typedef struct function_record {
    struct function_record *next;
    uint64_t number; /* 0 where it is not known that this function may be cached */
    uint64_t epoch;
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
static _Atomic(uint64_t) globals_epoch = 1;
static _Atomic(uint64_t) classes_epoch = 1; /* and functions, and parts of both */
static _Atomic(uint64_t) tables_epoch = 1;

uint64_t atoll_next_number(void) { return atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed); }

uint64_t atoll_globals_epoch(atoll_codec *codec) {
    if (codec->nrelaxed != 0) {
        atoll_relaxed_end(codec);
    }
    return atomic_load_explicit(&globals_epoch, memory_order_acquire);
}

static void free_records(function_record *r) {
    while (r != NULL) {
        function_record *next = r->next;
        Py_XDECREF(r->defaults);
        Py_XDECREF(r->qualname);
        Py_XDECREF(r->name);
        Py_XDECREF(r->module);
        Py_XDECREF(r->doc);
        PyMem_RawFree(r);
        r = next;
    }
}

static void free_list(void *ptr) {
    record_list *list = ptr;
    if (list != NULL) {
        free_records(list->first);
        PyMem_RawFree(list);
    }
}

/* ---- what is watched ---- */

bool atoll_is_definition(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type || type == &PyList_Type ||
        type == &PyDict_Type || type == &PyTuple_Type || obj == Py_None) {
        return false; /* which subclass of what they are takes longer to find out */
    }
    return PyFunction_Check(obj) || PyType_Check(obj) || PyCFunction_Check(obj) || PyModule_Check(obj);
}

/* The filter: a name that is bound to a definition in a watched dict has two bits set.  Bits are never cleared. */
enum { FILTER_BITS = 1 << 16 };
static _Atomic(uint64_t) filter[FILTER_BITS / 64];

/* name is an exact str that is a key: its hash is known. */
static uint32_t bits_of(PyObject *dict, PyObject *name) {
    uint64_t hash = (uint64_t)PyObject_Hash(name) ^ (uint64_t)(uintptr_t)dict;
    return (uint32_t)(hash * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

static bool get_bit(uint32_t bit) {
    return (atomic_load_explicit(&filter[bit / 64], memory_order_relaxed) >> (bit % 64) & 1) != 0;
}

static void set_bit(uint32_t bit) {
    atomic_fetch_or_explicit(&filter[bit / 64], UINT64_C(1) << (bit % 64), memory_order_relaxed);
}

static void note_definition(PyObject *dict, PyObject *name) {
    uint32_t bits = bits_of(dict, name);
    set_bit(bits % FILTER_BITS);
    set_bit(bits / FILTER_BITS);
}

/* The definitions in `from`, which are, or are about to be, in dict. */
static void note_definitions(PyObject *dict, PyObject *from) {
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    while (PyDict_Next(from, &pos, &key, &value)) {
        if (PyUnicode_CheckExact(key) && atoll_is_definition(value)) {
            note_definition(dict, key);
        }
    }
}

/* Whether dict[name] is a definition.  No lookup: the dict may have keys that run Python code when they are compared. */
static bool holds_definition(PyObject *dict, PyObject *name) {
    uint32_t bits = bits_of(dict, name);
    if (!get_bit(bits % FILTER_BITS) || !get_bit(bits / FILTER_BITS)) {
        return false;
    }
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (key == name || (PyUnicode_CheckExact(key) && PyUnicode_Compare(key, name) == 0)) {
            return atoll_is_definition(value);
        }
    }
    return false;
}

/* How many stores of what is no definition this thread has made to watched dicts, one in so many of which means that its dict is
 * not worth watching. */
static _Thread_local unsigned plain_stores;
enum { PATIENCE = 128 };

void atoll_globals_changed(PyObject *dict) {
    note_definitions(dict, dict);
    atomic_fetch_add_explicit(&globals_epoch, 1, memory_order_acq_rel);
}

static int on_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
    switch (event) {
    case PyDict_EVENT_MODIFIED:
    case PyDict_EVENT_ADDED:
        if (!PyUnicode_CheckExact(key)) {
            return 0; /* no name that code could use */
        }
        if (atoll_is_definition(value)) {
            note_definition(dict, key);
        } else if (event == PyDict_EVENT_MODIFIED && !holds_definition(dict, key)) {
            if (++plain_stores % PATIENCE == 0) {
                atoll_relaxed_want(dict);
            }
            return 0;
        }
        break;
    case PyDict_EVENT_DELETED:
        if (!PyUnicode_CheckExact(key)) {
            return 0;
        }
        break;
    case PyDict_EVENT_CLONED:
        note_definitions(dict, key);
        break;
    case PyDict_EVENT_CLEARED:
        break;
    case PyDict_EVENT_DEALLOCATED:
        atoll_space_gone(dict);
        break;
    }
    atomic_fetch_add_explicit(&globals_epoch, 1, memory_order_acq_rel);
    return 0;
}

/* What changed, by address: several share a place. */
enum { PLACES = 1024 };
static _Atomic(uint64_t) changes[PLACES];

static void note_change(void *obj) {
    atomic_fetch_add_explicit(&changes[atoll_memo_hash(obj) % PLACES], 1, memory_order_acq_rel);
    atomic_fetch_add_explicit(&classes_epoch, 1, memory_order_acq_rel);
}

uint64_t atoll_changes_of(PyObject *obj) {
    return atomic_load_explicit(&changes[atoll_memo_hash(obj) % PLACES], memory_order_acquire);
}

static int on_class_change(PyTypeObject *type) {
    note_change(type);
    return 0;
}

uint64_t atoll_definitions_epoch(atoll_codec *codec) {
    /* Both only grow, so their sum stays the same only while both do. */
    return atoll_globals_epoch(codec) + atomic_load_explicit(&classes_epoch, memory_order_acquire);
}

bool atoll_watch_globals(atoll_codec *codec, PyObject *globals) {
    if (codec->dict_watcher < 0) {
        return false;
    }
    if (atoll_space_known(globals)) {
        return true;
    }
    if (PyDict_Watch(codec->dict_watcher, globals) < 0) {
        PyErr_Clear();
        return false;
    }
    note_definitions(globals, globals);
    if (atoll_space_add(codec, globals, 0, true) < 0) {
        return false;
    }
    if (atoll_relaxed_allow(codec, globals) < 0) {
        PyErr_Clear(); /* then it stays watched */
    }
    return true;
}

static int on_table_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
    (void)event;
    (void)dict;
    (void)key;
    (void)value;
    atomic_fetch_add_explicit(&tables_epoch, 1, memory_order_acq_rel);
    return 0;
}

uint64_t atoll_tables_epoch(void) { return atomic_load_explicit(&tables_epoch, memory_order_acquire); }

void atoll_watch_table(atoll_codec *codec, PyObject *table) {
    if (codec->table_watcher < 0) {
        codec->table_watcher = PyDict_AddWatcher(on_table_change);
    }
    if (codec->table_watcher < 0 || PyDict_Watch(codec->table_watcher, table) < 0) {
        PyErr_Clear();
        codec->table_watcher = -1;
    }
}

/* What a class's methods do is part of it. */
static int on_function_change(PyFunction_WatchEvent event, PyFunctionObject *func, PyObject *value) {
    (void)value;
    if (event == PyFunction_EVENT_MODIFY_CODE || event == PyFunction_EVENT_MODIFY_DEFAULTS ||
        event == PyFunction_EVENT_MODIFY_KWDEFAULTS) {
        note_change(func);
    }
    return 0;
}

bool atoll_watch_class(atoll_codec *codec, PyObject *cls) {
    if (codec->function_watcher < 0) {
        codec->function_watcher = PyFunction_AddWatcher(on_function_change);
    }
    /* A class without a version tag changes in silence. */
    if (codec->function_watcher >= 0 && codec->type_watcher >= 0 &&
        PyType_Watch(codec->type_watcher, cls) == 0 &&
        PyUnstable_Type_AssignVersionTag((PyTypeObject *)cls)) {
        return true;
    }
    PyErr_Clear();
    return false;
}

static int on_part_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
    (void)event;
    (void)key;
    (void)value;
    note_change(dict);
    return 0;
}

bool atoll_watch_part(atoll_codec *codec, PyObject *dict) {
    if (dict == NULL || !PyDict_CheckExact(dict)) {
        return true;
    }
    if (codec->part_watcher < 0) {
        codec->part_watcher = PyDict_AddWatcher(on_part_change);
    }
    if (codec->part_watcher >= 0 && PyDict_Watch(codec->part_watcher, dict) == 0) {
        return true;
    }
    PyErr_Clear();
    return false;
}

int atoll_numbers_start(atoll_codec *codec) {
    codec->code_extra = PyUnstable_Eval_RequestCodeExtraIndex(free_list);
    codec->dict_watcher = PyDict_AddWatcher(on_change);
    codec->type_watcher = PyType_AddWatcher(on_class_change);
    if (codec->dict_watcher < 0 || codec->type_watcher < 0) {
        PyErr_Clear(); /* all eight are taken: nothing gets a number, everything is sent in full */
    }
    return 0;
}

void atoll_numbers_stop(atoll_codec *codec) {
    if (codec->dict_watcher >= 0 && PyDict_ClearWatcher(codec->dict_watcher) < 0) {
        PyErr_Clear();
    }
    codec->dict_watcher = -1;
    if (codec->type_watcher >= 0 && PyType_ClearWatcher(codec->type_watcher) < 0) {
        PyErr_Clear();
    }
    codec->type_watcher = -1;
    if (codec->table_watcher >= 0 && PyDict_ClearWatcher(codec->table_watcher) < 0) {
        PyErr_Clear();
    }
    codec->table_watcher = -1;
    if (codec->part_watcher >= 0 && PyDict_ClearWatcher(codec->part_watcher) < 0) {
        PyErr_Clear();
    }
    codec->part_watcher = -1;
    if (codec->function_watcher >= 0 && PyFunction_ClearWatcher(codec->function_watcher) < 0) {
        PyErr_Clear();
    }
    codec->function_watcher = -1;
    atoll_spaces_forget(codec);
    atoll_relaxed_forget(codec);
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

/* A new record for func, whose globals are watched; NULL (no exception) when there is no memory. */
static function_record *add_record(atoll_codec *codec, PyFunctionObject *func) {
    record_list *list = records_of(codec, func);
    if (list == NULL) {
        list = PyMem_RawCalloc(1, sizeof *list);
        if (list == NULL || PyUnstable_Code_SetExtra(func->func_code, codec->code_extra, list) < 0) {
            PyErr_Clear();
            free_list(list);
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
        free_records(r->next);
        r->next = NULL;
    }
    return list->first;
}

int atoll_function_number(atoll_codec *codec, PyObject *obj, uint64_t *number) {
    *number = 0;
    if (!PyFunction_Check(obj)) {
        return atoll_builtin_number(codec, obj, number);
    }
    PyFunctionObject *func = (PyFunctionObject *)obj;
    uint64_t epoch = atoll_globals_epoch(codec);
    function_record *r = find_record(records_of(codec, func), func);
    if (r != NULL && r->epoch == epoch) {
        *number = r->number;
        return 0;
    }
    if (codec->code_extra < 0 || !atoll_function_may_be_numbered(func) ||
        !atoll_watch_globals(codec, func->func_globals)) {
        return 0;
    }
    /* Looking up its path may run code, which may do anything: only afterwards is the record looked at. */
    PyObject *code = Py_NewRef(func->func_code);
    atoll_crossing now = atoll_function_crossing(codec, func);
    bool same = code == func->func_code && atoll_function_may_be_numbered(func);
    Py_DECREF(code);
    if (now == CROSS_ERROR || !same) {
        return now == CROSS_ERROR ? -1 : 0;
    }
    r = find_record(records_of(codec, func), func);
    if (r == NULL && (r = add_record(codec, func)) == NULL) {
        return 0;
    }
    if (now == CROSS_NOT) {
        r->number = 0;
    } else if (r->number == 0 || now != r->crossing || now == CROSS_MAIN) {
        r->number = atoll_next_number();
    }
    r->crossing = now;
    r->epoch = epoch;
    *number = r->number;
    return 0;
}

/* ---- the receiver's functions ---- */

enum { WAYS = 4 };

static atoll_function_entry *set_of(atoll_codec *codec, uint64_t number) {
    return &codec->functions[number % (ATOLL_FUNCTION_CACHE / WAYS) * WAYS];
}

PyObject *atoll_function_cached(atoll_codec *codec, uint64_t number) {
    if (codec->functions == NULL || number == 0) {
        return NULL;
    }
    atoll_function_entry *set = set_of(codec, number);
    for (int i = 0; i < WAYS; i++) {
        if (set[i].number == number) {
            return set[i].func;
        }
    }
    return NULL;
}

int atoll_function_keep(atoll_codec *codec, uint64_t number, PyObject *func) {
    if (codec->functions == NULL) {
        codec->functions = PyMem_Calloc(ATOLL_FUNCTION_CACHE, sizeof *codec->functions);
        if (codec->functions == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    atoll_function_entry *set = set_of(codec, number);
    PyObject *oldest = set[WAYS - 1].func;
    memmove(&set[1], &set[0], (WAYS - 1) * sizeof *set);
    set[0] = (atoll_function_entry){number, Py_NewRef(func)};
    Py_XDECREF(oldest);
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
        }
    }
    Py_XDECREF(out);
    return rc < 0 ? -1 : 0;
}
