/* What is watched, so that nobody need look at it: globals, classes, functions, and dicts that are parts of those.
 *
 * Each interpreter has an epoch, which moves on when something changes that what it has kept may depend on.  (A few
 * interpreters share one, which only makes it move more often.)
 *
 * Globals are watched (PyDict_Watch).  The epoch moves when a watched dict gets or loses a name, when a name that code
 * reaches is bound anew, when a name changes from or to a definition (a function, class or module), or when a dict goes away.
 * Other stores do not matter, and are many, so that they must cost next to nothing: a filter says of nearly
 * every name that no code reaches it, and that it is bound to no definition in that dict.  The watcher is called in the middle of
 * CPython's own work on the dict: it runs no Python code.
 *
 * Classes by value and what belongs to them are watched likewise (codec/kept.c).
 *
 * Watchers run with the GIL of the interpreter whose objects they are about; epochs are atomic because interpreters may share one.
 */
#include "py/codec/internal.h"

#include <stdatomic.h>

enum { EPOCHS = 256 };
/* By interpreter: of globals; of classes and functions, and parts of both. */
static _Atomic(uint64_t) globals_epochs[EPOCHS];
static _Atomic(uint64_t) classes_epochs[EPOCHS];
static _Atomic(uint64_t) tables_epoch = 1;

static void move_on(_Atomic(uint64_t) *epochs) {
    int64_t id = PyInterpreterState_GetID(PyInterpreterState_Get());
    atomic_fetch_add_explicit(&epochs[(uint64_t)id % EPOCHS], 1, memory_order_acq_rel);
}

static uint64_t epoch_of(const atoll_codec *codec, _Atomic(uint64_t) *epochs) {
    return 1 + atomic_load_explicit(&epochs[(uint64_t)codec->interp_id % EPOCHS], memory_order_acquire);
}

uint64_t atoll_globals_epoch(atoll_codec *codec) {
    if (codec->nrelaxed != 0) {
        atoll_relaxed_end(codec);
    }
    return epoch_of(codec, globals_epochs);
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

/* The filter: a name in a watched dict that code reaches, or that is bound to a definition, has two bits set.  Bits are never
 * cleared. */
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

void atoll_note_reached(PyObject *dict, PyObject *name) {
    uint32_t bits = bits_of(dict, name);
    set_bit(bits % FILTER_BITS);
    set_bit(bits / FILTER_BITS);
}

void atoll_note_path(atoll_codec *codec, PyObject *dict, PyObject *name) {
    (void)atoll_globals_epoch(codec); /* what is not watched now has no note of this name */
    atoll_note_reached(dict, name);
}

bool atoll_is_reached(PyObject *dict, PyObject *name) {
    uint32_t bits = bits_of(dict, name);
    return get_bit(bits % FILTER_BITS) && get_bit(bits / FILTER_BITS);
}

/* The definitions in `from`, which are, or are about to be, in dict. */
static void note_definitions(PyObject *dict, PyObject *from) {
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    while (PyDict_Next(from, &pos, &key, &value)) {
        if (PyUnicode_CheckExact(key) && atoll_is_definition(value)) {
            atoll_note_reached(dict, key);
        }
    }
}

/* How many stores of what is no definition this thread has made to names that watched dicts had, one in so many of which means
 * that its dict is not worth watching. */
static _Thread_local unsigned plain_stores;
enum { PATIENCE = 128 };

void atoll_globals_changed(PyObject *dict) {
    note_definitions(dict, dict);
    move_on(globals_epochs);
}

static int on_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value) {
    switch (event) {
    case PyDict_EVENT_MODIFIED:
    case PyDict_EVENT_ADDED:
        if (!PyUnicode_CheckExact(key)) {
            break; /* it may be equal to a name that code uses: a subclass of str */
        }
        if (atoll_is_definition(value)) {
            atoll_note_reached(dict, key);
        } else if (event == PyDict_EVENT_MODIFIED) {
            if (++plain_stores % PATIENCE == 0) {
                atoll_relaxed_want(dict);
            }
            if (!atoll_is_reached(dict, key)) {
                return 0;
            }
        }
        break;
    case PyDict_EVENT_CLONED:
        note_definitions(dict, key);
        break;
    case PyDict_EVENT_DELETED:
    case PyDict_EVENT_CLEARED:
        break;
    case PyDict_EVENT_DEALLOCATED:
        atoll_space_gone(dict);
        break;
    }
    move_on(globals_epochs);
    return 0;
}

/* What changed, by address: several share a place. */
enum { PLACES = 1 << 14 };
static _Atomic(uint64_t) changes[PLACES];

static void note_change(void *obj) {
    atomic_fetch_add_explicit(&changes[atoll_memo_hash(obj) % PLACES], 1, memory_order_acq_rel);
    move_on(classes_epochs);
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
    return atoll_globals_epoch(codec) + epoch_of(codec, classes_epochs);
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

bool atoll_watch_functions(atoll_codec *codec) {
    if (codec->function_watcher < 0) {
        codec->function_watcher = PyFunction_AddWatcher(on_function_change);
        if (codec->function_watcher < 0) {
            PyErr_Clear();
        }
    }
    return codec->function_watcher >= 0;
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

bool atoll_watch_class(atoll_codec *codec, PyObject *cls) {
    if (!atoll_watch_functions(codec) || codec->type_watcher < 0 ||
        PyType_Watch(codec->type_watcher, cls) < 0) {
        PyErr_Clear();
        return false;
    }
    if (PyUnstable_Type_AssignVersionTag((PyTypeObject *)cls)) {
        return true;
    }
    /* Of one that has changed a thousand times, as an enum of 500 members has, CPython tells nothing any more: its namespace does. */
    PyObject *dict = PyType_GetDict((PyTypeObject *)cls);
    bool watched = dict != NULL && atoll_watch_part(codec, dict);
    Py_XDECREF(dict);
    return watched;
}

int atoll_numbers_start(atoll_codec *codec) {
    codec->code_extra = PyUnstable_Eval_RequestCodeExtraIndex(atoll_records_free);
    codec->dict_watcher = PyDict_AddWatcher(on_change);
    codec->type_watcher = PyType_AddWatcher(on_class_change);
    if (codec->dict_watcher < 0 || codec->type_watcher < 0) {
        PyErr_Clear(); /* all eight are taken: nothing gets a number, everything is sent in full */
    }
    return 0;
}

static void stop_watcher(int *watcher, int (*clear)(int)) {
    if (*watcher >= 0 && clear(*watcher) < 0) {
        PyErr_Clear();
    }
    *watcher = -1;
}

void atoll_numbers_stop(atoll_codec *codec) {
    stop_watcher(&codec->dict_watcher, PyDict_ClearWatcher);
    stop_watcher(&codec->type_watcher, PyType_ClearWatcher);
    stop_watcher(&codec->table_watcher, PyDict_ClearWatcher);
    stop_watcher(&codec->part_watcher, PyDict_ClearWatcher);
    stop_watcher(&codec->function_watcher, PyFunction_ClearWatcher);
    atoll_spaces_forget(codec);
    atoll_relaxed_forget(codec);
}
