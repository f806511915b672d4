/* Libraries that an interpreter opens itself: with ctypes, or with dlopen() in code of its clones, cffi's among it.
 *
 * The answer is what it would be in a process of its own: who asks for a file that is loaded here as a clone, by whatever name
 * the dynamic linker would know it by, gets the clone; a library that is cloned with an extension is cloned when it is opened as well
 * (core/clone/clones.h says which), but not what the interpreter has loaded as it is; anything else is the dynamic linker's matter, and may from then on have been given a pointer to
 * anything (`knows`), unless it is known to keep nothing.
 *
 * Which files come with a package is seen by the directories on sys.path (core/clone/roots.c): who opens the library of a package from
 * Python is to have the same as a module of that package that needs it.
 *
 *   RTLD_NOLOAD    what is loaded here counts, not what another interpreter has loaded
 *   RTLD_GLOBAL    clones that are loaded later need the global ones as well, before what they need themselves, so they find their
 *                  symbols
 *   dlclose()      clones are unloaded with their interpreter, all together; what is none is closed, but not by finalizers when that ends
 *
 * A name without a directory is looked for where the dynamic linker looks for it on behalf of the calling code, whose
 * original says where that is.
 *
 * C code calls this on any thread, with the interpreter's GIL or without any.  When it fails, the reason waits on that thread for
 * dlerror(), as the dynamic linker's own would.
 *
 * Locks: `loading` (loader.c), for which a GIL is given back.
 */
#include "py/extension/loader_internal.h"

#include "core/trace/trace.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK 0.0002 /* seconds between two looks at whether somebody is loading */

/* Waits detached, if the thread has a thread state. */
void atoll_loader_lock(atoll_loader *loader) {
    if (pthread_mutex_trylock(&loader->loading) == 0) {
        return;
    }
    PyThreadState *tstate = atoll_thread_state_attached() != NULL ? PyEval_SaveThread() : NULL;
    pthread_mutex_lock(&loader->loading);
    if (tstate != NULL) {
        PyEval_RestoreThread(tstate);
    }
}

void atoll_loader_unlock(atoll_loader *loader) { pthread_mutex_unlock(&loader->loading); }

bool atoll_loader_settles(atoll_loader *loader, double seconds) {
    double deadline = atoll_clock() + seconds;
    while (pthread_mutex_trylock(&loader->loading) != 0) {
        if (atoll_clock() > deadline) {
            return false;
        }
        atoll_sleep(LOOK);
    }
    pthread_mutex_unlock(&loader->loading);
    return true;
}

/* An exception that is under way stays. */
void atoll_loader_note_path(atoll_loader *loader) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    path = path != NULL && PyList_Check(path) ? PyList_GetSlice(path, 0, PY_SSIZE_T_MAX) : NULL;
    atoll_loader_lock(loader);
    for (Py_ssize_t i = 0; path != NULL && i < PyList_GET_SIZE(path); i++) {
        PyObject *entry = PyList_GET_ITEM(path, i);
        PyObject *encoded = PyUnicode_Check(entry) ? PyUnicode_EncodeFSDefault(entry) : NULL;
        if (encoded != NULL) {
            atoll_clones_add_root(&loader->clones, PyBytes_AS_STRING(encoded));
        }
        Py_XDECREF(encoded);
        PyErr_Clear();
    }
    atoll_loader_unlock(loader);
    Py_XDECREF(path);
    PyErr_SetRaisedException(exc);
}

typedef struct {
    atoll_loader *loader;
    const char *name;   /* as it was given */
    const char *caller; /* the original of the clone that asks, or NULL */
    int mode;           /* the system's flags */
    atoll_clone_error *why;
} request;

/* As atoll_clones_load_library(), with what comes with the package of the file. */
static int load_library(const request *r, const char *file, int flags, atoll_clone **clone,
                        atoll_clone_error *why) {
    atoll_clones *set = &r->loader->clones;
    const char *before = set->root; /* a constructor may open something */
    char *root = atoll_clones_root_of(set, file);
    set->root = root;
    int rc = atoll_clones_load_library(set, file, flags, clone, why);
    set->root = before;
    free(root);
    return rc;
}

/* The path where the library of a name is that nobody has loaded; absolute, as what lies below a directory is seen by it. */
static char *find_file(const request *r) {
    char *found = atoll_clone_find_library(r->caller, r->name);
    char *path = found != NULL ? atoll_file_absolute(found) : NULL;
    free(found);
    return path;
}

/* Whether a file is a library that the interpreter is to have for itself. */
static bool is_own(const request *r, const char *file) {
    char *root = file != NULL ? atoll_clones_root_of(&r->loader->clones, file) : NULL;
    bool own = root != NULL;
    free(root);
    return own;
}

/* Where the library is that is meant: malloc, or NULL, nowhere.  A name that only others have loaded something under, of what an
 * interpreter has its own, means nothing here: it is hidden.  Nor does what is one for all (main may have loaded it for another
 * package) stand for the library of a package that the caller would find by the name. */
static char *find_path(const request *r, bool *hidden) {
    char *loaded = strchr(r->name, '/') == NULL ? atoll_clone_find_loaded(r->name) : NULL;
    if (loaded == NULL) {
        return find_file(r);
    }
    atoll_clone *clone;
    atoll_clone_error ignored;
    int rc = load_library(r, loaded, ATOLL_DL_LOADED, &clone, &ignored);
    char *found = rc <= 0 ? find_file(r) : NULL;
    *hidden = rc < 0;
    if (*hidden || is_own(r, found)) {
        free(loaded);
        return found;
    }
    free(found);
    return loaded;
}

/* `loading` is held. */
static void *open_locked(const request *r) {
    atoll_clones *set = &r->loader->clones;
    int flags = atoll_dl_flags_of(r->mode);
    bool ended = atomic_load(&r->loader->foreign.phase) == ATOLL_FOREIGN_ENDED;
    atoll_clone *clone = atoll_clones_named(set, r->name);
    bool hidden = false;
    char *path = clone == NULL ? find_path(r, &hidden) : NULL;
    int rc = 0;
    if (clone != NULL || (path != NULL && !r->loader->halfway && !ended)) {
        rc = load_library(r, path != NULL ? path : clone->file, flags, &clone, r->why);
    }
    void *handle = rc > 0 ? clone->handle : NULL;
    if (rc == 0 && path == NULL && hidden) {
        (void)snprintf(r->why->text, sizeof r->why->text,
                       "%s: cannot open shared object file: No such file or directory", r->name);
    } else if (rc == 0) {
        handle = atoll_dl_open_as(path != NULL ? path : r->name, r->mode, r->why->text, sizeof r->why->text);
        r->loader->knows |= handle != NULL && !atoll_name_keeps_nothing(r->name);
    }
    free(path);
    return handle;
}

static void *open_library(const request *r) {
    r->why->text[0] = '\0';
    if (atoll_name_is_system(r->name)) {
        return atoll_dl_open_as(r->name, r->mode, r->why->text, sizeof r->why->text);
    }
    uint64_t began = atoll_trace_begin();
    atoll_loader_lock(r->loader);
    size_t before = r->loader->clones.count;
    void *handle = open_locked(r);
    bool made = r->loader->clones.count != before;
    atoll_loader_show(r->loader);
    atoll_loader_unlock(r->loader);
    if (began != 0 && made) {
        const char *slash = strrchr(r->name, '/');
        const char *name = slash != NULL ? slash + 1 : r->name;
        atoll_trace_add(began, ATOLL_TRACE_CLONE, name, strlen(name), r->loader->clones.owner, 0);
    }
    return handle;
}

void atoll_loader_show(atoll_loader *loader) {
    uint64_t bytes = 0;
    if (loader->stats == NULL) {
        return; /* its interpreter has ended */
    }
    for (size_t i = 0; i < loader->clones.count; i++) {
        bytes += loader->clones.items[i]->bytes;
    }
    atoll_stats_set(&loader->stats->words[ATOLL_STAT_CLONES], loader->clones.count);
    atoll_stats_set(&loader->stats->words[ATOLL_STAT_CLONE_BYTES], bytes);
}

/* ---- dlopen() in code of clones ---- */

static _Thread_local struct {
    bool set;
    char text[500];
} last_error;

static atoll_loader *loader_of(void *owner) {
    return (atoll_loader *)(void *)((char *)owner - offsetof(atoll_loader, foreign));
}

static void *shim_open(void *owner, const void *caller, const char *file, int mode) {
    atoll_loader *loader = loader_of(owner);
    const atoll_clone *clone = atoll_clones_at(&loader->clones, caller);
    atoll_clone_error why;
    const request r = {loader, file, clone != NULL ? clone->file : NULL, mode, &why};
    last_error.set = false;
    PyThreadState *tstate = atoll_thread_state_attached();
    if (tstate != NULL &&
        PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)) == loader->clones.owner) {
        atoll_loader_note_path(loader);
    }
    void *handle = open_library(&r);
    if (handle == NULL && why.text[0] != '\0') {
        last_error.set = true;
        (void)snprintf(last_error.text, sizeof last_error.text, "%.*s", (int)sizeof last_error.text - 1,
                       why.text);
    }
    return handle;
}

static const char *shim_library_of(void *owner, const void *handle) {
    const atoll_clone *clone = atoll_clones_of_handle(&loader_of(owner)->clones, handle);
    return clone != NULL ? clone->file : NULL;
}

static char *shim_error(void *Py_UNUSED(owner)) {
    bool set = last_error.set;
    last_error.set = false;
    return set ? last_error.text : NULL;
}

void atoll_loader_offer_libraries(atoll_loader *loader) {
    loader->foreign.shim.library_open = shim_open;
    loader->foreign.shim.library_of = shim_library_of;
    loader->foreign.shim.library_error = shim_error;
}

/* ---- ctypes ---- */

/* _ctypes.dlopen(name, flags), also where _ctypes is no clone: built into Python. */
PyObject *atoll_ctypes_open(PyObject *self, PyObject *args) {
    atoll_loader *loader = PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), NULL);
    PyObject *original = PyTuple_GET_ITEM(self, 1);
    PyObject *name = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : Py_None;
    PyObject *flags = PyTuple_GET_SIZE(args) == 2 ? PyTuple_GET_ITEM(args, 1) : NULL;
    int mode = flags != NULL && PyLong_Check(flags) ? (int)PyLong_AsLong(flags) : 0;
    PyObject *path = NULL;
    bool usual = name == Py_None || (flags != NULL && !PyLong_Check(flags)) || PyTuple_GET_SIZE(args) > 2;
    if (usual || PyErr_Occurred() || !PyUnicode_FSConverter(name, &path)) {
        PyErr_Clear();
        return PyObject_Call(original, args, NULL); /* which has an error for what is wrong */
    }
    void *handle = NULL;
    atoll_clone_error why;
    bool heard = PySys_Audit("ctypes.dlopen", "O", name) == 0;
    if (heard) {
        const request r = {loader, PyBytes_AS_STRING(path), NULL, atoll_dl_mode_now(mode), &why};
        atoll_loader_note_path(loader);
        handle = open_library(&r);
    }
    if (heard && handle == NULL) {
        /* In the locale's encoding, and with the name as it was given. */
        PyObject *text =
            PyUnicode_DecodeLocale(why.text[0] != '\0' ? why.text : "dlopen() error", "surrogateescape");
        if (text != NULL) {
            PyErr_SetObject(PyExc_OSError, text);
            Py_DECREF(text);
        }
    }
    Py_DECREF(path);
    return handle != NULL ? PyLong_FromVoidPtr(handle) : NULL;
}

/* _ctypes.dlclose(handle): a clone is the set's to close, and may be in use by others. */
PyObject *atoll_ctypes_close(PyObject *self, PyObject *args) {
    atoll_loader *loader = PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), NULL);
    void *handle = PyTuple_GET_SIZE(args) == 1 ? PyLong_AsVoidPtr(PyTuple_GET_ITEM(args, 0)) : NULL;
    PyErr_Clear(); /* the original has an error for what is no handle */
    if (atoll_clones_of_handle(&loader->clones, handle) != NULL) {
        Py_RETURN_NONE;
    }
    return PyObject_Call(PyTuple_GET_ITEM(self, 1), args, NULL);
}
