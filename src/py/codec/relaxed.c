/* Dicts that are not watched for the time being, because they are stored to without end.
 *
 * A watcher costs each store to a watched dict some 20 ns, half as much again as `global n; n += 1` itself.  So when one of many plain
 * stores comes to a dict (codec/watch.c counts), its watching is put off: what its names are bound to is noted, definitions by
 * weak references, and it is no longer watched.  Whoever asks for the epoch of globals, on which all that was kept depends, has
 * these dicts watched again first, and compared with the note: what is different has changed.  So a program that stores much and
 * sends little pays nothing, one that does both pays for some stores, and neither is ever wrong.
 *
 * Only a dict whose end is told in another way can be left alone: that of a module (a weak reference's callback tells,
 * while the module still has its dict), and one that stands for another interpreter's (codec->hidden has it).
 *
 * A watcher is called in the middle of CPython's work, and before 3.13 it cannot end its own watching; a pending call does,
 * in the same interpreter.  It finds the dicts in the table of namespaces, from which they are taken when they go
 * away, or their codec does.
 */
#include "py/codec/internal.h"

enum { LARGE = 4096 }; /* characters or bytes that a note does not keep */

/* What a name is bound to, for a note: a weak reference to a definition; in a tuple, a plain value that code reaches; None for what
 * nobody cares about, Ellipsis for what cannot be told.  New reference. */
static PyObject *noted(PyObject *dict, PyObject *name, PyObject *value) {
    if (atoll_is_definition(value)) {
        return PyWeakref_NewRef(value, NULL);
    }
    if (!atoll_is_reached(dict, name)) {
        return Py_NewRef(Py_None);
    }
    bool large = (PyUnicode_Check(value) && PyUnicode_GET_LENGTH(value) > LARGE) ||
                 (PyBytes_Check(value) && PyBytes_GET_SIZE(value) > LARGE);
    return atoll_is_plain_value(value) && !large ? PyTuple_Pack(1, value) : Py_NewRef(Py_Ellipsis);
}

/* name -> what it is bound to. */
static PyObject *take_note(PyObject *dict) {
    PyObject *note = PyDict_New();
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    while (note != NULL && PyDict_Next(dict, &pos, &key, &value)) {
        if (!PyUnicode_Check(key)) {
            continue; /* no name that code could use */
        }
        if (!PyUnicode_CheckExact(key)) {
            Py_CLEAR(note); /* one that no filter has: the dict stays watched */
            break;
        }
        PyObject *bound = noted(dict, key, value);
        if (bound == NULL || PyDict_SetItem(note, key, bound) < 0) {
            Py_CLEAR(note);
        }
        Py_XDECREF(bound);
    }
    return note;
}

/* Whether value is what was noted.  No exception. */
static bool is_noted(PyObject *bound, PyObject *value) {
    PyObject *was = NULL;
    if (bound == Py_None) {
        return !atoll_is_definition(value);
    }
    if (PyTuple_Check(bound)) {
        return PyTuple_GET_ITEM(bound, 0) == value;
    }
    if (bound == Py_Ellipsis || atoll_weakref_target(bound, &was) < 0) {
        PyErr_Clear();
        return false;
    }
    Py_XDECREF(was); /* alive, if it is what the dict has */
    return was == value;
}

/* Whether the dict's names are bound as the note says.  No exception. */
static bool agrees(PyObject *dict, PyObject *note) {
    Py_ssize_t n = 0;
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (!PyUnicode_Check(key)) {
            continue;
        }
        n++;
        if (!PyUnicode_CheckExact(key)) {
            return false; /* it is not in the note, and to look for it runs code, which may do away with the dict */
        }
        PyObject *bound = PyDict_GetItemWithError(note, key);
        if (bound == NULL || !is_noted(bound, value)) {
            PyErr_Clear();
            return false;
        }
    }
    return n == PyDict_GET_SIZE(note);
}

static void watch_again(atoll_codec *codec, unsigned i) {
    PyObject *dict = codec->relaxed[i].dict;
    PyObject *note = codec->relaxed[i].note;
    codec->relaxed[i] = codec->relaxed[--codec->nrelaxed];
    if (PyDict_Watch(codec->dict_watcher, dict) < 0) {
        PyErr_Clear();
    }
    if (!agrees(dict, note)) {
        atoll_globals_changed(dict);
    }
    Py_DECREF(note);
}

void atoll_relaxed_end(atoll_codec *codec) {
    PyObject *exc = PyErr_GetRaisedException();
    while (codec->nrelaxed != 0) {
        watch_again(codec, codec->nrelaxed - 1);
    }
    PyErr_SetRaisedException(exc);
}

void atoll_relaxed_leave(atoll_codec *codec, PyObject *dict) {
    for (unsigned i = 0; i < codec->nrelaxed; i++) {
        if (codec->relaxed[i].dict == dict) {
            watch_again(codec, i);
            return;
        }
    }
}

void atoll_relaxed_forget(atoll_codec *codec) {
    while (codec->nrelaxed != 0) {
        Py_DECREF(codec->relaxed[--codec->nrelaxed].note);
    }
}

static void relax(atoll_codec *codec, PyObject *dict) {
    if (codec->nrelaxed == ATOLL_RELAXED_MAX || codec->dict_watcher < 0) {
        return;
    }
    for (unsigned i = 0; i < codec->nrelaxed; i++) {
        if (codec->relaxed[i].dict == dict) {
            return;
        }
    }
    PyObject *note = take_note(dict);
    if (note == NULL || PyDict_Unwatch(codec->dict_watcher, dict) < 0) {
        PyErr_Clear();
        Py_XDECREF(note);
        return;
    }
    codec->relaxed[codec->nrelaxed].dict = dict;
    codec->relaxed[codec->nrelaxed++].note = note;
}

/* A pending call. */
static int relax_wanted(void *unused) {
    (void)unused;
    int64_t interp = PyInterpreterState_GetID(PyInterpreterState_Get());
    atoll_codec *codec;
    PyObject *dict;
    while ((dict = atoll_space_take_wanted(interp, &codec)) != NULL) {
        relax(codec, dict);
    }
    return 0;
}

void atoll_relaxed_want(PyObject *dict) {
    if (atoll_space_want(dict) &&
        atoll_compat_add_pending_call(PyInterpreterState_Get(), relax_wanted, NULL) < 0) {
        atoll_space_unwant(dict); /* CPython's list is full: the next time */
    }
}

/* ---- modules, whose end is told ---- */

static const char capsule_name[] = "atoll globals";

/* The module is gone, or the codec (then no dict is relaxed any more). */
static void module_gone(PyObject *capsule) {
    PyObject *dict = PyCapsule_GetPointer(capsule, capsule_name);
    atoll_codec *codec = PyCapsule_GetContext(capsule);
    atoll_space_lasts(dict, codec, false);
    atoll_relaxed_leave(codec, dict);
}

int atoll_relaxed_allow(atoll_codec *codec, PyObject *globals) {
    PyObject *name = PyDict_GetItemWithError(globals, codec->names[N_NAME]);
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = name != NULL && PyUnicode_CheckExact(name) && PyDict_CheckExact(modules)
                           ? PyDict_GetItemWithError(modules, name)
                           : NULL;
    if (module == NULL || !PyModule_Check(module) || PyModule_GetDict(module) != globals) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *key = PyLong_FromVoidPtr(globals);
    PyObject *capsule = key != NULL ? PyCapsule_New(globals, capsule_name, NULL) : NULL;
    int rc = capsule != NULL ? atoll_weak_store(codec->modules, key, module, &capsule, 1) : -1;
    /* Only what is in the map has to be told. */
    if (rc == 0 && PyCapsule_SetContext(capsule, codec) == 0 &&
        PyCapsule_SetDestructor(capsule, module_gone) == 0) {
        atoll_space_lasts(globals, codec, true);
    }
    Py_XDECREF(capsule);
    Py_XDECREF(key);
    return rc;
}
