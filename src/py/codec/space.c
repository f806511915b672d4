/* Namespaces: the globals dicts of functions that cross by value.
 *
 * Functions of a __main__ (or of what calls itself so: exec() with a dict of its own) cross with the globals that they
 * name.  Those that share a dict at home share one in each receiver, and no others do.  So each such dict has a
 * process-unique number, its "space", which functions carry.  In the interpreter that the dict belongs to (it is native
 * there) the number leads to the dict itself; elsewhere, to the dict of a module that stands for it, and is told what the sender's
 * says of itself (codec/module.c).
 *
 * One table of the process has all of them by address and by number, with every other dict that is watched: a dict is taken out
 * when it goes away, which its watcher tells, or with its interpreter's codec.  So a dict that is found by an interpreter that
 * has its GIL is alive.
 *
 * A dict that stands for another is kept (codec->hidden, with what was taken into it from the sender: codec/globals.c) as long as
 * that one exists: functions that come one by one, and die in between, find their state.  What stood for dicts that are gone is given up when functions cross the next
 * time, or an interpreter is closed; with it, the receiver's cached functions that have it.
 *
 * Locks: `lock`, for a few instructions; leaf.
 */
#include "py/codec/internal.h"

#include "port/port.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct space {
    struct space *next;         /* of those whose dicts' addresses lead to the same bucket */
    struct space *next_of_slot; /* of those whose numbers do to the same slot; only when there is one */
    PyObject *dict;             /* not owned */
    uint64_t number;            /* 0: only watched */
    atoll_codec *codec;         /* of the interpreter whose dict it is */
    int64_t interp;
    bool native;
    bool lasts;  /* its end is told even when it is not watched */
    bool wanted; /* a pending call is to end its watching */
} space;

enum { BUCKETS = 1024, SLOTS = 256 };

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static space *buckets[BUCKETS];
static space *slots[SLOTS];
/* How many numbered native dicts are gone. */
static _Atomic(uint64_t) deaths;

void atoll_spaces_fork(atoll_fork_moment when) { atoll_mutex_fork(&lock, when); }

void atoll_spaces_forget_all(void) {
    atoll_mutex_lock(&lock);
    memset(slots, 0, sizeof slots);
    for (size_t i = 0; i < BUCKETS; i++) {
        while (buckets[i] != NULL) {
            space *s = buckets[i];
            buckets[i] = s->next;
            free(s);
        }
    }
    atoll_mutex_unlock(&lock);
}

static space **bucket_of(PyObject *dict) { return &buckets[atoll_memo_hash(dict) % BUCKETS]; }

static space **slot_of(uint64_t number) { return &slots[number % SLOTS]; }

static space *find_locked(PyObject *dict) {
    space *s = *bucket_of(dict);
    while (s != NULL && s->dict != dict) {
        s = s->next;
    }
    return s;
}

/* The dict of this number in this interpreter, or, with interp < 0, its native dict anywhere. */
static space *find_number_locked(uint64_t number, int64_t interp) {
    space *s = *slot_of(number);
    while (s != NULL && (s->number != number || (interp < 0 ? !s->native : s->interp != interp))) {
        s = s->next_of_slot;
    }
    return s;
}

static void set_number_locked(space *s, uint64_t number) {
    space **link = slot_of(s->number);
    while (*link != NULL && *link != s) {
        link = &(*link)->next_of_slot;
    }
    if (*link == s) {
        *link = s->next_of_slot;
    }
    s->number = number;
    if (number != 0) {
        s->next_of_slot = *slot_of(number);
        *slot_of(number) = s;
    }
}

bool atoll_space_known(PyObject *dict) {
    atoll_mutex_lock(&lock);
    bool known = find_locked(dict) != NULL;
    atoll_mutex_unlock(&lock);
    return known;
}

bool atoll_space_is_of(const atoll_codec *codec, PyObject *dict) {
    atoll_mutex_lock(&lock);
    space *s = find_locked(dict);
    bool own = s != NULL && s->interp == codec->interp_id;
    atoll_mutex_unlock(&lock);
    return own;
}

int atoll_space_add(atoll_codec *codec, PyObject *dict, uint64_t number, bool native) {
    space *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) {
        return -1;
    }
    atoll_mutex_lock(&lock);
    space *s = find_locked(dict);
    if (s == NULL) {
        s = fresh;
        fresh = NULL;
        s->next = *bucket_of(dict);
        *bucket_of(dict) = s;
    }
    s->dict = dict;
    set_number_locked(s, number);
    s->codec = codec;
    s->interp = codec->interp_id;
    s->native = native;
    s->lasts |= !native; /* codec->hidden has it */
    atoll_mutex_unlock(&lock);
    free(fresh);
    return 0;
}

void atoll_space_lasts(PyObject *dict, atoll_codec *codec, bool lasts) {
    atoll_mutex_lock(&lock);
    space *s = find_locked(dict);
    if (s != NULL && s->codec == codec) {
        s->lasts = lasts;
    }
    atoll_mutex_unlock(&lock);
}

bool atoll_space_want(PyObject *dict) {
    atoll_mutex_lock(&lock);
    space *s = find_locked(dict);
    bool first = s != NULL && s->lasts && !s->wanted;
    if (first) {
        s->wanted = true;
    }
    atoll_mutex_unlock(&lock);
    return first;
}

void atoll_space_unwant(PyObject *dict) {
    atoll_mutex_lock(&lock);
    space *s = find_locked(dict);
    if (s != NULL) {
        s->wanted = false;
    }
    atoll_mutex_unlock(&lock);
}

PyObject *atoll_space_take_wanted(int64_t interp, atoll_codec **codec) {
    PyObject *dict = NULL;
    atoll_mutex_lock(&lock);
    for (size_t i = 0; i < BUCKETS && dict == NULL; i++) {
        for (space *s = buckets[i]; s != NULL && dict == NULL; s = s->next) {
            if (s->wanted && s->interp == interp) {
                s->wanted = false;
                dict = s->lasts ? s->dict : NULL;
                *codec = s->codec;
            }
        }
    }
    atoll_mutex_unlock(&lock);
    return dict;
}

/* Takes out what is of this dict, or, with dict NULL, of this interpreter. */
static void take_out(space **link, PyObject *dict, int64_t interp) {
    space *out = NULL;
    atoll_mutex_lock(&lock);
    while (*link != NULL) {
        space *s = *link;
        if (dict != NULL ? s->dict != dict : s->interp != interp) {
            link = &s->next;
            continue;
        }
        *link = s->next;
        s->next = out;
        out = s;
        if (s->native && s->number != 0) {
            atomic_fetch_add(&deaths, 1);
        }
        set_number_locked(s, 0);
    }
    atoll_mutex_unlock(&lock);
    while (out != NULL) {
        space *next = out->next;
        free(out);
        out = next;
    }
}

void atoll_space_gone(PyObject *dict) { take_out(bucket_of(dict), dict, 0); }

void atoll_spaces_forget(atoll_codec *codec) {
    for (size_t i = 0; i < BUCKETS; i++) {
        take_out(&buckets[i], NULL, codec->interp_id);
    }
}

uint64_t atoll_space_of(atoll_codec *codec, PyObject *globals) {
    atoll_mutex_lock(&lock);
    space *s = find_locked(globals);
    uint64_t number = s != NULL ? s->number : 0;
    atoll_mutex_unlock(&lock);
    if (number == 0) {
        number = atoll_next_number();
        /* One that cannot be watched gets a number for this once: its address may come to be another's. */
        if (atoll_watch_globals(codec, globals) && atoll_space_add(codec, globals, number, true) < 0) {
            PyErr_NoMemory();
            return 0;
        }
    }
    return number;
}

/* In codec->hidden: space -> module, what was taken into it, what __main__ had then. */
enum { HIDDEN_MODULE, HIDDEN_SEEN, HIDDEN_MAINS };

static int make_hidden(atoll_codec *codec, uint64_t number, atoll_globals *to) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *module = key != NULL ? PyModule_NewObject(codec->names[N_FAKE_MAIN]) : NULL;
    PyObject *dict = module != NULL ? Py_NewRef(PyModule_GetDict(module)) : NULL;
    PyObject *seen = dict != NULL ? PyDict_New() : NULL;
    PyObject *mains = seen != NULL ? PyDict_New() : NULL;
    PyObject *both = mains != NULL ? PyTuple_Pack(3, module, seen, mains) : NULL;
    int rc = -1;
    /* Its documentation is a global like others. */
    if (both != NULL && PyDict_DelItem(dict, codec->names[N_DOC]) == 0 &&
        PyDict_SetItem(dict, codec->names[N_BUILTINS], PyEval_GetBuiltins()) == 0) {
        rc = PyDict_SetItem(codec->hidden, key, both);
    }
    if (rc == 0 && atoll_watch_globals(codec, dict) && atoll_space_add(codec, dict, number, false) < 0) {
        PyErr_NoMemory();
        rc = -1;
    }
    Py_XDECREF(key);
    Py_XDECREF(module);
    Py_XDECREF(both);
    if (rc < 0) {
        Py_CLEAR(dict);
        Py_CLEAR(seen);
        Py_CLEAR(mains);
    }
    *to = (atoll_globals){.dict = dict, .seen = seen, .mains = mains, .space = number};
    return rc;
}

/* Borrowed, or NULL, maybe with an exception. */
static PyObject *hidden_of(atoll_codec *codec, uint64_t number) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *both = key != NULL ? PyDict_GetItemWithError(codec->hidden, key) : NULL;
    Py_XDECREF(key);
    return both;
}

PyObject *atoll_space_module(atoll_codec *codec, uint64_t number) {
    PyObject *both = hidden_of(codec, number);
    if (both == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_SystemError, "a namespace without a module");
        }
        return NULL;
    }
    return Py_NewRef(PyTuple_GET_ITEM(both, HIDDEN_MODULE));
}

/* The dict of this number that belongs to this interpreter: new reference, or NULL, without an exception. */
static PyObject *native_of(const atoll_codec *codec, uint64_t number) {
    atoll_mutex_lock(&lock);
    space *s = number != 0 ? find_number_locked(number, codec->interp_id) : NULL;
    PyObject *dict = s != NULL && s->native ? Py_NewRef(s->dict) : NULL;
    atoll_mutex_unlock(&lock);
    return dict;
}

int atoll_space_look(atoll_codec *codec, uint64_t number, PyObject **dict, PyObject **seen) {
    *seen = NULL;
    *dict = native_of(codec, number);
    PyObject *both = *dict == NULL ? hidden_of(codec, number) : NULL;
    if (both != NULL) {
        *dict = Py_NewRef(PyModule_GetDict(PyTuple_GET_ITEM(both, HIDDEN_MODULE)));
        *seen = Py_NewRef(PyTuple_GET_ITEM(both, HIDDEN_SEEN));
    }
    return PyErr_Occurred() ? -1 : 0;
}

int atoll_space_globals(atoll_codec *codec, uint64_t number, atoll_globals *to) {
    *to = (atoll_globals){.space = number, .dict = native_of(codec, number)};
    if (to->dict != NULL) {
        return 0;
    }
    PyObject *both = hidden_of(codec, number);
    if (both == NULL) {
        return PyErr_Occurred() ? -1 : make_hidden(codec, number, to);
    }
    to->dict = Py_NewRef(PyModule_GetDict(PyTuple_GET_ITEM(both, HIDDEN_MODULE)));
    to->seen = Py_NewRef(PyTuple_GET_ITEM(both, HIDDEN_SEEN));
    to->mains = Py_NewRef(PyTuple_GET_ITEM(both, HIDDEN_MAINS));
    return 0;
}

int atoll_spaces_follow(atoll_codec *codec) {
    uint64_t epoch = atoll_globals_epoch(codec);
    if (codec->followed == epoch || PyDict_GET_SIZE(codec->hidden) == 0) {
        return 0;
    }
    codec->followed = epoch; /* first: values that go may have code that asks for this */
    PyObject *spaces = PyDict_Values(codec->hidden);
    int rc = spaces != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(spaces); i++) {
        PyObject *both = PyList_GET_ITEM(spaces, i);
        const atoll_globals to = {.dict = PyModule_GetDict(PyTuple_GET_ITEM(both, HIDDEN_MODULE)),
                                  .seen = PyTuple_GET_ITEM(both, HIDDEN_SEEN),
                                  .mains = PyTuple_GET_ITEM(both, HIDDEN_MAINS)};
        rc = atoll_globals_follow(codec, &to);
    }
    Py_XDECREF(spaces);
    codec->followed = rc == 0 ? codec->followed : 0; /* none is it */
    return rc;
}

void atoll_globals_clear(atoll_globals *to) {
    Py_CLEAR(to->dict);
    Py_CLEAR(to->seen);
    Py_CLEAR(to->mains);
}

static bool is_alive(uint64_t number) {
    atoll_mutex_lock(&lock);
    bool alive = find_number_locked(number, -1) != NULL;
    atoll_mutex_unlock(&lock);
    return alive;
}

/* A stand-in that is found under its name (atoll._crossing.places.settle) is found no more. */
static void leave_modules(atoll_codec *codec, PyObject *module) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *name = PyDict_GetItemWithError(PyModule_GetDict(module), codec->names[N_NAME]);
    if (name != NULL && PyDict_CheckExact(modules) && PyDict_GetItemWithError(modules, name) == module &&
        PyDict_DelItem(modules, name) < 0) {
        PyErr_Clear();
    }
    if (name != NULL && PyDict_GetItemWithError(codec->stand_ins, name) == module &&
        PyDict_DelItem(codec->stand_ins, name) < 0) {
        PyErr_Clear();
    }
    PyErr_Clear();
}

int atoll_spaces_sweep(atoll_codec *codec) {
    uint64_t now = atomic_load(&deaths);
    if (codec->hidden == NULL || codec->deaths == now) {
        return 0;
    }
    codec->deaths = now;
    PyObject *items = PyDict_Items(codec->hidden);
    PyObject *gone = items != NULL ? PyDict_New() : NULL; /* what goes, when nothing is looked at any more */
    int rc = gone != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(items); i++) {
        PyObject *key = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 0);
        PyObject *both = PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 1);
        PyObject *module = PyTuple_GET_ITEM(both, HIDDEN_MODULE);
        PyObject *dict = PyModule_GetDict(module);
        if (!is_alive(PyLong_AsUnsignedLongLong(key))) {
            atoll_relaxed_leave(codec, dict);
            leave_modules(codec, module);
            PyObject *address = PyLong_FromVoidPtr(dict);
            rc = address != NULL ? PyDict_SetItem(gone, address, dict) : -1;
            rc = rc == 0 ? PyDict_DelItem(codec->hidden, key) : -1;
            Py_XDECREF(address);
        }
    }
    if (rc == 0 && PyDict_GET_SIZE(gone) != 0) {
        rc = atoll_functions_give_up(codec, gone);
    }
    Py_XDECREF(items);
    Py_XDECREF(gone);
    return rc;
}
