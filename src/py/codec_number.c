/* Numbers for functions, so that the second call of a function sends eight bytes.
 *
 * Each code object carries, as its "extra", a record of the function it was last numbered for.  Two numbers:
 *
 *   identity  names the function itself, wherever it goes: a function that comes back is recognised, and one that
 *             is sent again is not made again;
 *   number    names the function together with the globals it saw: what a receiver may call under
 *             this number needs no new globals.
 *
 * A record speaks for a function when the function has the record's globals dict, the record's defaults, and
 * no closure, keyword defaults or attributes.  Defaults are held, and so must be plain immutable
 * values (anything else could lead back to the code: an uncollectable cycle); the globals dict is only compared.
 *
 * Globals are watched (PyDict_Watch).  When a watched dict gets or loses a name, or a name changes from or to a
 * function or class, or a dict goes away, the process-wide epoch moves on, and records of
 * the old epoch are examined anew.  Other changes of values do not matter: a receiver keeps its own values.
 *
 * The receiver's side, `functions`, is a set-associative table with a fixed number of entries: whatever
 * is pushed out is sent in full when it is next needed.
 */
#include "py/codec_internal.h"

#include <stdatomic.h>

typedef struct {
    uint64_t number; /* 0 where it is not known that this function may be cached */
    uint64_t identity;
    uint64_t epoch;
    PyObject *globals;  /* compared only */
    PyObject *defaults; /* owned, or NULL */
    PyObject *qualname; /* compared only */
    atoll_crossing crossing;
} function_record;

static _Atomic(uint64_t) next_number = 1;
static _Atomic(uint64_t) globals_epoch = 1;
static _Atomic(uint64_t) classes_epoch = 1;

uint64_t atoll_next_number(void) { return atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed); }

static uint64_t current_epoch(void) { return atomic_load_explicit(&globals_epoch, memory_order_acquire); }

static void free_record(void *ptr) {
    function_record *r = ptr;
    if (r != NULL) {
        Py_XDECREF(r->defaults);
        PyMem_RawFree(r);
    }
}

static bool is_definition(PyObject *obj) {
    return obj != NULL && (PyFunction_Check(obj) || PyType_Check(obj) || PyCFunction_Check(obj));
}

static int on_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
    if (event == PyDict_EVENT_MODIFIED && !is_definition(value)) {
        PyObject *exc = PyErr_GetRaisedException();
        bool matters = is_definition(PyDict_GetItemWithError(dict, key));
        PyErr_SetRaisedException(exc);
        if (!matters) {
            return 0;
        }
    }
    atomic_fetch_add_explicit(&globals_epoch, 1, memory_order_acq_rel);
    return 0;
}

static int on_class_change(PyTypeObject *type) {
    (void)type;
    atomic_fetch_add_explicit(&classes_epoch, 1, memory_order_acq_rel);
    return 0;
}

uint64_t atoll_definitions_epoch(void) {
    /* Both only grow, so their sum stays the same only while both do. */
    return current_epoch() + atomic_load_explicit(&classes_epoch, memory_order_acquire);
}

bool atoll_watch_globals(atoll_codec *codec, PyObject *globals) {
    if (codec->dict_watcher >= 0 && PyDict_Watch(codec->dict_watcher, globals) == 0) {
        return true;
    }
    PyErr_Clear();
    return false;
}

bool atoll_watch_class(atoll_codec *codec, PyObject *cls) {
    /* A class without a version tag changes in silence. */
    if (codec->type_watcher >= 0 && PyType_Watch(codec->type_watcher, cls) == 0 &&
        PyUnstable_Type_AssignVersionTag((PyTypeObject *)cls)) {
        return true;
    }
    PyErr_Clear();
    return false;
}

int atoll_numbers_start(atoll_codec *codec) {
    codec->code_extra = PyUnstable_Eval_RequestCodeExtraIndex(free_record);
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
}

static function_record *record_of(atoll_codec *codec, PyFunctionObject *func) {
    void *extra = NULL;
    if (codec->code_extra < 0 || PyUnstable_Code_GetExtra(func->func_code, codec->code_extra, &extra) < 0) {
        PyErr_Clear();
        return NULL;
    }
    return extra;
}

/* Does the record speak for this function?  All but the epoch. */
static inline bool speaks_for(const function_record *r, const PyFunctionObject *func) {
    return r->globals == func->func_globals && r->defaults == func->func_defaults &&
           r->qualname == func->func_qualname && func->func_closure == NULL &&
           func->func_kwdefaults == NULL &&
           (func->func_dict == NULL || PyDict_GET_SIZE(func->func_dict) == 0);
}

static bool is_plain_value(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    return obj == Py_None || obj == Py_Ellipsis || type == &PyBool_Type || type == &PyLong_Type ||
           type == &PyFloat_Type || type == &PyUnicode_Type || type == &PyBytes_Type;
}

static bool may_be_recorded(const PyFunctionObject *func) {
    if (func->func_closure != NULL || func->func_kwdefaults != NULL ||
        (func->func_dict != NULL && PyDict_GET_SIZE(func->func_dict) != 0)) {
        return false;
    }
    for (Py_ssize_t i = 0; func->func_defaults != NULL && i < PyTuple_GET_SIZE(func->func_defaults); i++) {
        if (!is_plain_value(PyTuple_GET_ITEM(func->func_defaults, i))) {
            return false;
        }
    }
    return true;
}

/* A record that speaks for func, made or renewed where there is none; NULL (no exception) where there can be none. */
static function_record *record_for(atoll_codec *codec, PyFunctionObject *func) {
    function_record *r = record_of(codec, func);
    if (r != NULL && speaks_for(r, func)) {
        return r;
    }
    if (codec->code_extra < 0 || codec->dict_watcher < 0 || !may_be_recorded(func) ||
        PyDict_Watch(codec->dict_watcher, func->func_globals) < 0) {
        PyErr_Clear();
        return NULL;
    }
    bool fresh = r == NULL;
    if (fresh && (r = PyMem_RawCalloc(1, sizeof *r)) == NULL) {
        return NULL;
    }
    r->number = 0;
    r->identity = 0;
    r->epoch = 0;
    r->globals = func->func_globals;
    r->qualname = func->func_qualname;
    r->crossing = CROSS_NOT;
    PyObject *old = r->defaults;
    r->defaults = Py_XNewRef(func->func_defaults);
    Py_XDECREF(old);
    if (fresh && PyUnstable_Code_SetExtra(func->func_code, codec->code_extra, r) < 0) {
        PyErr_Clear();
        free_record(r);
        return NULL;
    }
    return r;
}

/* Forgetting what an earlier epoch said: the globals may be another dict at the same address. */
static void renew(atoll_codec *codec, function_record *r, PyFunctionObject *func, uint64_t epoch) {
    atoll_crossing before = r->crossing;
    atoll_crossing now = atoll_function_crossing(codec, func);
    if (now == CROSS_ERROR) {
        PyErr_Clear();
        now = CROSS_NOT;
    }
    r->crossing = now;
    r->epoch = epoch;
    (void)PyDict_Watch(codec->dict_watcher, func->func_globals);
    if (now == CROSS_NOT || now == CROSS_MODULE) {
        r->number = 0;
    } else if (r->number == 0 || now != before || now == CROSS_MAIN) {
        r->number = atoll_next_number();
    }
}

uint64_t atoll_function_number(atoll_codec *codec, PyObject *obj) {
    if (!PyFunction_Check(obj)) {
        return 0;
    }
    PyFunctionObject *func = (PyFunctionObject *)obj;
    uint64_t epoch = current_epoch();
    function_record *r = record_of(codec, func);
    if (r != NULL && r->epoch == epoch && speaks_for(r, func)) {
        return r->number;
    }
    PyObject *exc = PyErr_GetRaisedException();
    r = record_for(codec, func);
    if (r != NULL && r->epoch != epoch) {
        renew(codec, r, func, epoch);
        r = record_of(codec, func); /* looking up its path may have run code */
    }
    PyErr_SetRaisedException(exc);
    return r != NULL && speaks_for(r, func) ? r->number : 0;
}

uint64_t atoll_function_identity(atoll_codec *codec, PyFunctionObject *func, atoll_crossing crossing) {
    if (crossing != CROSS_STATELESS && crossing != CROSS_MAIN) {
        return 0;
    }
    function_record *r = record_for(codec, func);
    if (r == NULL) {
        return 0;
    }
    if (r->identity == 0) {
        r->identity = atoll_next_number();
    }
    return r->identity;
}

int atoll_function_adopt(atoll_codec *codec, PyFunctionObject *func, uint64_t identity) {
    function_record *r = record_for(codec, func);
    if (r != NULL) {
        r->identity = identity;
    }
    return atoll_weak_put(codec->function_refs, identity, (PyObject *)func);
}

/* ---- weak maps ---- */

static PyObject *weak_target(PyObject *ref) {
    PyObject *obj = PyObject_CallNoArgs(ref);
    if (obj == Py_None) {
        Py_DECREF(obj);
        return NULL;
    }
    return obj;
}

PyObject *atoll_weak_get(PyObject *refs, uint64_t number) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *ref = key != NULL ? PyDict_GetItemWithError(refs, key) : NULL;
    Py_XDECREF(key);
    return ref != NULL ? weak_target(ref) : NULL;
}

/* Drops dead entries, so that the map stays within twice what is alive. */
static int sweep(PyObject *refs) {
    PyObject *items = PyDict_Items(refs);
    if (items == NULL) {
        return -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items) && rc == 0; i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *obj = weak_target(PyTuple_GET_ITEM(pair, 1));
        if (obj == NULL && !PyErr_Occurred()) {
            rc = PyDict_DelItem(refs, PyTuple_GET_ITEM(pair, 0));
        } else if (obj == NULL) {
            rc = -1;
        }
        Py_XDECREF(obj);
    }
    Py_DECREF(items);
    return rc;
}

int atoll_weak_put(PyObject *refs, uint64_t number, PyObject *obj) {
    Py_ssize_t size = PyDict_GET_SIZE(refs);
    if (size >= 256 && (size & (size - 1)) == 0 && sweep(refs) < 0) {
        return -1;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *ref = key != NULL ? PyWeakref_NewRef(obj, NULL) : NULL;
    int rc = ref != NULL ? PyDict_SetItem(refs, key, ref) : -1;
    Py_XDECREF(key);
    Py_XDECREF(ref);
    return rc;
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
