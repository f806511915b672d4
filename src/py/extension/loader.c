/* How an interpreter with a GIL of its own loads extension modules.
 *
 * The import system stays as it is: finders, specs and loaders are CPython's.  Only the function under the loader,
 * _imp.create_dynamic(), is another one in an interpreter that Atoll makes.  For each module it decides:
 *
 *   'isolate': Atoll's own, and what the standard library declares    it is initialised from its file
 *   'isolate': any other           it is initialised from a private clone of its file (core/clone/clones.h, loader_module.c)
 *   'shared', 'strict'             CPython's own function, which 'shared' tells not to mind
 *
 * A module that declares support for a GIL per interpreter may be used by all of them at once.  That does not say that nothing
 * of it, which stays mapped, leads to objects of an interpreter that is gone: a table in C++ memory, a
 * name kept in a static variable.  For CPython these objects live on, in memory that is lost.  Atoll takes memory back, so it has
 * to know, and of a clone it knows, because the clone goes as well.  Only the standard library's own modules are known to keep
 * nothing, by reading.
 *
 * Of those, too, some are cloned: what calls PyGILState_Ensure() means the main interpreter when it does so on a thread that C
 * has started (a callback of ctypes), and what has the C API of datetime has addresses in a clone where that is one.
 * Whether a module declares support is known for certain only from what its init function returns, which must not be called
 * in a library that is not to be loaded.  So first its file is searched for the slot.  A file with it is loaded, and the
 * real slots are looked at; what merely looked so is cloned after all.
 * (loader_verdict.c)
 *
 * CPython's own function makes a thread state in the main interpreter for every module and takes main's GIL, which
 * takes long when main is busy, and when the process has many mappings.
 *
 * Libraries may also be opened with ctypes, and by C code: loader_library.c.
 *
 * Ownership.  The function's `self` is a tuple of the interpreter's: (capsule with the loader, CPython's function, a dict of
 * what loader_module.c remembers).  The loader itself is the entry's; it outlives the interpreter, because clones are
 * unloaded after that, and for ever when some stay mapped.
 *
 * Locks: `loading`, held while clones are made and loaded, because constructors may run Python.  It is recursive, as such
 * code may import, and waited for with the GIL given back.
 */
#include "py/extension/loader_internal.h"

#include "core/trace/trace.h"
#include "port/port.h"
#include "py/extension/parsers.h"
#include "py/facade.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE                                                                                             \
    5.0 /* seconds for a thread that is loading something while its interpreter is being closed */

static const char *const mode_words[] = {"isolate", "strict", "shared"};

static char *shim_file; /* set once, by the first import of Atoll */

void atoll_loader_set_home(const char *library) {
    atoll_verdict_file_set_own(library);
    const char *slash = strrchr(library, '/');
    size_t length = slash != NULL ? (size_t)(slash - library) + 1 : 0;
    char *file = shim_file == NULL ? malloc(length + sizeof ATOLL_SHIM_FILE) : NULL;
    if (file != NULL) {
        memcpy(file, library, length);
        memcpy(file + length, ATOLL_SHIM_FILE, sizeof ATOLL_SHIM_FILE);
        shim_file = file;
    }
}

static int mode_of(const char *word, atoll_extensions *mode) {
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, mode_words[i]) == 0) {
            *mode = (atoll_extensions)i;
            return 0;
        }
    }
    return -1;
}

int atoll_extensions_from(PyObject *value, atoll_extensions *mode) {
    if (value == NULL || value == Py_None) {
        const char *word = getenv("ATOLL_EXTENSIONS");
        *mode = ATOLL_EXTENSIONS_ISOLATE;
        if (word != NULL && word[0] != '\0' && mode_of(word, mode) < 0) {
            PyErr_Format(
                PyExc_ValueError,
                "the environment variable ATOLL_EXTENSIONS must be 'isolate', 'strict' or 'shared', not '%s'",
                word);
            return -1;
        }
        return 0;
    }
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "extensions must be a str or None, not %.200s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    const char *word = PyUnicode_AsUTF8(value);
    if (word == NULL || mode_of(word, mode) < 0) {
        PyErr_Format(PyExc_ValueError, "extensions must be 'isolate', 'strict' or 'shared', not %R", value);
        return -1;
    }
    return 0;
}

/* ---- the loader's list ---- */

static int note_module(atoll_loader *loader, const atoll_module_info *info, const char *how,
                       const atoll_clone *clone) {
    for (size_t i = 0; i < loader->count; i++) {
        if (strcmp(loader->modules[i].name, info->full) == 0 &&
            strcmp(loader->modules[i].file, info->file) == 0) {
            return 0; /* imported once more */
        }
    }
    if (loader->count == loader->room) {
        size_t room = loader->room * 2 + 8;
        atoll_loaded *modules = realloc(loader->modules, room * sizeof *modules);
        if (modules == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        loader->modules = modules;
        loader->room = room;
    }
    atoll_loaded module = {strdup(info->full), strdup(info->file), how, clone};
    if (module.name == NULL || module.file == NULL) {
        free(module.name);
        free(module.file);
        PyErr_NoMemory();
        return -1;
    }
    loader->modules[loader->count++] = module;
    return 0;
}

static PyObject *describe(const char *name, const char *file, const char *how, const atoll_clone *clone) {
    PyObject *path = PyUnicode_DecodeFSDefault(file);
    PyObject *from = clone != NULL ? PyUnicode_DecodeFSDefault(clone->path) : Py_NewRef(Py_None);
    PyObject *made = NULL;
    if (path != NULL && from != NULL) {
        made = Py_BuildValue("zOsOK", name, path, how, from,
                             (unsigned long long)(clone != NULL ? clone->bytes : 0));
    }
    Py_XDECREF(from);
    Py_XDECREF(path);
    return made;
}

static int append(PyObject *list, PyObject *made) {
    int rc = made != NULL ? PyList_Append(list, made) : -1;
    Py_XDECREF(made);
    return rc;
}

size_t atoll_loader_modules(const atoll_loader *loader) { return loader->count; }

int64_t atoll_loaders_owner(const void *address) { return atoll_clones_owner(address); }

PyObject *atoll_loader_list(atoll_loader *loader) {
    PyObject *list = PyList_New(0);
    int rc = list != NULL ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < loader->count; i++) {
        const atoll_loaded *m = &loader->modules[i];
        rc = append(list, describe(m->name, m->file, m->how, m->clone));
    }
    atoll_loader_lock(loader); /* a thread of C, without the GIL, may open a library */
    for (size_t i = 0; rc == 0 && i < loader->clones.count; i++) {
        const atoll_clone *clone = loader->clones.items[i];
        if (clone->library) {
            rc = append(list, describe(NULL, clone->file, "isolated", clone));
        }
    }
    atoll_loader_unlock(loader);
    if (rc < 0) {
        Py_CLEAR(list);
    }
    return list;
}

PyObject *atoll_loader_list_kept(void) {
    PyObject *list = PyList_New(0);
    int rc = list != NULL ? 0 : -1;
    for (const atoll_kept_clone *kept = atoll_clones_kept(); rc == 0 && kept != NULL; kept = kept->next) {
        PyObject *file = PyUnicode_DecodeFSDefault(kept->file);
        PyObject *path = file != NULL ? PyUnicode_DecodeFSDefault(kept->path) : NULL;
        rc = append(list, path != NULL
                              ? Py_BuildValue("OOKs", file, path, (unsigned long long)kept->bytes, kept->why)
                              : NULL);
        Py_XDECREF(path);
        Py_XDECREF(file);
    }
    if (rc < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* ---- loading ---- */

/* The loader and the rest of the function's self. */
typedef struct {
    atoll_loader *loader;
    PyObject *original;
    PyObject *singles;
} context;

static context context_of(PyObject *self) {
    return (context){PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), NULL), PyTuple_GET_ITEM(self, 1),
                     PyTuple_GET_ITEM(self, 2)};
}

static PyObject *import_error(const atoll_module_info *info, const char *text) {
    PyObject *message = PyUnicode_DecodeFSDefault(text);
    if (message != NULL) {
        PyErr_SetImportError(message, info->name, info->origin);
    }
    Py_XDECREF(message);
    return NULL;
}

/* How the interpreter wants libraries to be opened. */
static int open_flags(void) {
    PyObject *function = PySys_GetObject("getdlopenflags"); /* borrowed */
    PyObject *flags = function != NULL ? PyObject_CallNoArgs(function) : NULL;
    long value = flags != NULL ? PyLong_AsLong(flags) : -1;
    Py_XDECREF(flags);
    return (int)value; /* -1 with an exception, or when sys has been emptied */
}

static atoll_init_result lost_flags(void) {
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "sys.getdlopenflags is lost");
    }
    return ATOLL_INIT_FAILED;
}

/* Who opens the file later, with ctypes say, is to have what the module is in.  0 or -1 with an exception. */
static int keep_original(atoll_loader *loader, const char *file) {
    atoll_file_id id;
    if (atoll_file_identify(file, &id) != 0) {
        return 0; /* it has been removed meanwhile */
    }
    atoll_loader_lock(loader);
    int rc = atoll_clones_add_original(&loader->clones, file, &id);
    atoll_loader_unlock(loader);
    if (rc < 0) {
        PyErr_NoMemory();
    }
    return rc;
}

/* Whether the file was opened as a library before, which made a clone of it. */
static bool is_cloned_already(atoll_loader *loader, const char *file) {
    atoll_file_id id;
    atoll_loader_lock(loader);
    bool cloned = atoll_clones_named(&loader->clones, file) != NULL ||
                  (atoll_file_identify(file, &id) == 0 && atoll_clones_find(&loader->clones, &id) != NULL);
    atoll_loader_unlock(loader);
    return cloned;
}

/* From its file, for good, as CPython does it; but without a look at the main interpreter. */
static atoll_init_result load_original(context c, const atoll_module_info *info, PyObject *spec,
                                       PyObject **module) {
    char why[2048];
    char *beside = NULL;
    int flags = open_flags();
    if (flags < 0) {
        return lost_flags();
    }
    /* What is not a path the dynamic linker would look for elsewhere. */
    if (strchr(info->file, '/') == NULL && asprintf(&beside, "./%s", info->file) < 0) {
        PyErr_NoMemory();
        return ATOLL_INIT_FAILED;
    }
    const char *file = atoll_verdict_file_own(info->file) != NULL ? atoll_verdict_file_own(info->file)
                       : beside != NULL                           ? beside
                                                                  : info->file;
    void *library = atoll_dl_open_as(file, flags, why, sizeof why);
    free(beside);
    if (library == NULL) {
        (void)import_error(info, why);
        return ATOLL_INIT_FAILED;
    }
    atoll_init_result result =
        atoll_extension_init(c.loader, info, spec, library, ATOLL_FROM_ORIGINAL, c.singles, module);
    if (result == ATOLL_INIT_DONE && keep_original(c.loader, info->file) < 0) {
        Py_CLEAR(*module);
        result = ATOLL_INIT_FAILED;
    }
    return result;
}

static atoll_init_result load_clone(context c, const atoll_module_info *info, PyObject *spec,
                                    PyObject **module, bool *is_cloned) {
    atoll_clone_error why;
    uint64_t began = atoll_trace_begin();
    if (c.loader->halfway) {
        (void)import_error(info,
                           "no extension module can be isolated in this forked child: another thread was "
                           "loading one at that moment");
        return ATOLL_INIT_FAILED;
    }
    int flags = open_flags();
    if (flags < 0) {
        return lost_flags();
    }
    char *root = atoll_extension_import_root(info);
    atoll_loader_note_path(c.loader); /* before C code of the module opens something on a thread of its own */
    atoll_loader_lock(c.loader);
    const char *before = c.loader->clones.root; /* a constructor may import */
    c.loader->clones.root = root;
    atoll_clone *clone = atoll_clones_load(&c.loader->clones, info->file, atoll_dl_flags_of(flags), &why);
    c.loader->clones.root = before;
    atoll_loader_show(c.loader);
    atoll_loader_unlock(c.loader);
    free(root);
    if (began != 0) {
        atoll_trace_add(began, ATOLL_TRACE_CLONE, info->full, strlen(info->full), c.loader->clones.owner,
                        clone != NULL ? clone->bytes : 0);
    }
    *is_cloned = clone != NULL;
    if (clone == NULL) {
        (void)import_error(info, why.text);
        return ATOLL_INIT_FAILED;
    }
    atoll_init_result result =
        atoll_extension_init(c.loader, info, spec, clone->handle, ATOLL_FROM_CLONE, c.singles, module);
    if (result == ATOLL_INIT_DONE && note_module(c.loader, info, "isolated", clone) < 0) {
        Py_CLEAR(*module);
        result = ATOLL_INIT_FAILED;
    }
    return result;
}

/* An exception says why it could not be cloned (static thread-local storage has run out, the C library is another).  A
 * module that declares support can do without, and what it knows of the interpreter's objects it knows for good. */
static atoll_init_result load_uncloned(context c, const atoll_module_info *info, PyObject *spec,
                                       PyObject **module) {
    PyObject *exc = PyErr_GetRaisedException();
    c.loader->knows = true;
    atoll_init_result result = load_original(c, info, spec, module);
    if (result == ATOLL_INIT_OTHER) {
        PyErr_SetRaisedException(exc);
        return ATOLL_INIT_FAILED;
    }
    Py_XDECREF(exc);
    return result;
}

/* Whether a module that is loaded as it is did not declare support. */
static bool is_shared(const atoll_module_info *info, PyObject *module) {
    /* What was made from slots has no definition to look at. */
    bool has_none = PyModule_Check(module) && PyModule_GetDef(module) == NULL;
    return !atoll_extension_declared(module) && !(has_none && atoll_extension_may_declare(info));
}

/* As CPython does it. */
static PyObject *load_usual(context c, const atoll_module_info *info, PyObject *args) {
    c.loader->knows |= !atoll_extension_is_standard(info) && atoll_verdict_file_own(info->file) == NULL;
    PyObject *module = PyObject_Call(c.original, args, NULL);
    if (module != NULL && c.loader->mode == ATOLL_EXTENSIONS_SHARED && is_shared(info, module) &&
        note_module(c.loader, info, "shared", NULL) < 0) {
        Py_CLEAR(module);
    }
    return module;
}

static PyObject *load(context c, const atoll_module_info *info, PyObject *spec, PyObject *args) {
    PyObject *module;
    if (c.loader->mode != ATOLL_EXTENSIONS_ISOLATE) {
        return load_usual(c, info, args);
    }
    int again = atoll_extension_again(info, c.singles, &module);
    if (again != 0) {
        return again > 0 ? module : NULL;
    }
    if (PySys_Audit("import", "OOOOO", info->name, info->origin, Py_None, Py_None, Py_None) < 0) {
        return NULL;
    }
    atoll_init_result result = ATOLL_INIT_OTHER;
    if (atoll_extension_from_file(info) && !is_cloned_already(c.loader, info->file)) {
        result = load_original(c, info, spec, &module);
    }
    if (result == ATOLL_INIT_OTHER) {
        bool is_cloned = false;
        result = load_clone(c, info, spec, &module, &is_cloned);
        if (!is_cloned && atoll_extension_may_declare(info)) {
            result = load_uncloned(c, info, spec, &module);
        }
    }
    return result == ATOLL_INIT_DONE ? module : NULL;
}

/* ---- ctypes ---- */

static PyMethodDef ctypes_close_def = {"dlclose", atoll_ctypes_close, METH_VARARGS, NULL};

static PyMethodDef ctypes_open_def = {"dlopen", atoll_ctypes_open, METH_VARARGS, NULL};

/* A function whose self is the context with another original takes the place of object.name.  0 or -1 with an exception. */
static int replace(PyObject *object, const char *name, PyMethodDef *definition, PyObject *capsule,
                   PyObject *singles) {
    PyObject *original = PyObject_GetAttrString(object, name);
    PyObject *self = original != NULL ? PyTuple_Pack(3, capsule, original, singles) : NULL;
    PyObject *function = self != NULL ? PyCFunction_New(definition, self) : NULL;
    int rc = function != NULL ? atoll_facade_put(object, name, function) : -1;
    Py_XDECREF(function);
    Py_XDECREF(self);
    Py_XDECREF(original);
    return rc;
}

/* The module was just made, and may be of that name.  0 or -1 with an exception. */
static int take_ctypes_over(PyObject *self, PyObject *name, PyObject *module) {
    context c = context_of(self);
    if (c.loader->mode != ATOLL_EXTENSIONS_ISOLATE ||
        PyUnicode_CompareWithASCIIString(name, "_ctypes") != 0) {
        return 0;
    }
    PyObject *capsule = PyTuple_GET_ITEM(self, 0);
    return replace(module, "dlopen", &ctypes_open_def, capsule, c.singles) < 0
               ? -1
               : replace(module, "dlclose", &ctypes_close_def, capsule, c.singles);
}

/* ---- _imp.create_dynamic(spec, file=None), create_builtin(spec) ---- */

static PyObject *create_dynamic(PyObject *self, PyObject *args) {
    context c = context_of(self);
    PyObject *spec;
    PyObject *file = Py_None;
    if (!PyArg_UnpackTuple(args, "create_dynamic", 1, 2, &spec, &file)) {
        return NULL;
    }
    atoll_module_info info = {.name = PyObject_GetAttrString(spec, "name")};
    info.origin = info.name != NULL ? PyObject_GetAttrString(spec, "origin") : NULL;
    PyObject *module = NULL;
    if (info.origin == NULL) {
        /* AttributeError */
    } else if (!PyUnicode_Check(info.name) || !PyUnicode_Check(info.origin)) {
        module = PyObject_Call(c.original, args, NULL);
    } else if (PyUnicode_FSConverter(info.origin, &info.path)) {
        info.file = PyBytes_AS_STRING(info.path);
        module = atoll_extension_info_encode(&info) == 0 ? load(c, &info, spec, args) : NULL;
    }
    if (module != NULL &&
        (take_ctypes_over(self, info.name, module) < 0 || atoll_quirks_apply(info.name, module) < 0)) {
        Py_CLEAR(module);
    }
    Py_XDECREF(info.bytes);
    Py_XDECREF(info.path);
    Py_XDECREF(info.origin);
    Py_XDECREF(info.name);
    return module;
}

static PyObject *create_builtin(PyObject *self, PyObject *args) {
    PyObject *name = NULL;
    PyObject *module = atoll_create_builtin(self, args, &name);
    if (module != NULL && name != NULL &&
        (take_ctypes_over(self, name, module) < 0 || atoll_quirks_apply(name, module) < 0)) {
        Py_CLEAR(module);
    }
    Py_XDECREF(name);
    return module;
}

static PyMethodDef create_dynamic_def = {"create_dynamic", create_dynamic, METH_VARARGS, NULL};

static PyMethodDef create_builtin_def = {"create_builtin", create_builtin, METH_VARARGS, NULL};

/* ---- the loader's life ---- */

static void free_loader(atoll_loader *loader) {
    for (size_t i = 0; i < loader->count; i++) {
        free(loader->modules[i].name);
        free(loader->modules[i].file);
    }
    free(loader->modules);
    atoll_foreign_free(&loader->foreign);
    pthread_mutex_destroy(&loader->loading);
    free(loader);
}

static int hook(atoll_loader *loader) {
    PyObject *imp = PyImport_ImportModule("_imp");
    PyObject *capsule = imp != NULL ? PyCapsule_New(loader, NULL, NULL) : NULL;
    PyObject *singles = capsule != NULL ? PyDict_New() : NULL;
    int rc = singles != NULL ? replace(imp, "create_dynamic", &create_dynamic_def, capsule, singles) : -1;
    if (rc == 0 && loader->mode != ATOLL_EXTENSIONS_STRICT) {
        rc = replace(imp, "create_builtin", &create_builtin_def, capsule, singles);
    }
    if (rc == 0 && loader->mode == ATOLL_EXTENSIONS_SHARED) {
        PyObject *before = PyObject_CallMethod(imp, "_override_multi_interp_extensions_check", "i", -1);
        rc = before != NULL ? 0 : -1;
        Py_XDECREF(before);
    }
    Py_XDECREF(singles);
    Py_XDECREF(capsule);
    Py_XDECREF(imp);
    return rc;
}

atoll_loader *atoll_loader_install(atoll_extensions mode, atoll_stats_interp *stats) {
    atoll_blocks_check();
    atoll_loader *loader = shim_file != NULL ? calloc(1, sizeof *loader) : NULL;
    if (loader == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atoll_loader_init_lock(loader);
    loader->mode = mode;
    loader->stats = stats;
    const char *debug = getenv("ATOLL_DEBUG_CLONES");
    bool whole = debug != NULL && debug[0] != '\0' && strcmp(debug, "0") != 0;
    int rc = atoll_clones_init(&loader->clones, PyInterpreterState_GetID(PyInterpreterState_Get()), shim_file,
                               &loader->foreign.shim, whole);
    if (rc == 0 && (rc = atoll_verdict_file_keep_own(&loader->clones)) < 0) {
        atoll_clones_free(&loader->clones);
    }
    if (rc < 0) {
        pthread_mutex_destroy(&loader->loading);
        free(loader);
        PyErr_NoMemory();
        return NULL;
    }
    loader->clones.forget = atoll_parsers_forget;
    atoll_foreign_init(&loader->foreign, &loader->clones, mode != ATOLL_EXTENSIONS_STRICT);
    atoll_loader_offer_libraries(loader);
    (void)hook(loader); /* with an exception where that fails */
    return loader;
}

bool atoll_loader_shut(atoll_loader *loader, double patience) {
    return loader == NULL || atoll_foreign_shut(&loader->foreign, patience);
}

void atoll_loader_reopen(atoll_loader *loader) {
    if (loader != NULL) {
        atoll_foreign_reopen(&loader->foreign);
    }
}

void atoll_loader_ending(atoll_loader *loader) {
    if (loader != NULL) {
        atoll_foreign_ending(&loader->foreign);
    }
}

atoll_keepers atoll_loader_ended(atoll_loader *loader) {
    if (loader == NULL) { /* it could not be made: nobody knows what the interpreter has loaded */
        return ATOLL_KEEPERS_LOADED;
    }
    atoll_keepers keepers = loader->knows || loader->clones.uses_plain ? ATOLL_KEEPERS_LOADED
                            : loader->clones.shim_path != NULL         ? ATOLL_KEEPERS_UNLOADED
                                                                       : ATOLL_KEEPERS_NONE;
    loader->stats = NULL; /* what is opened from now on is nobody's */
    atoll_foreign_ended(&loader->foreign);
    /* From here on there are no more clones, once a thread of theirs that was just loading one has done so. */
    if (!atoll_loader_settles(loader, PATIENCE)) {
        (void)atoll_clones_keep(&loader->clones,
                                "a thread that their libraries have started is loading another one");
        keepers = ATOLL_KEEPERS_LOADED;
    } else if (atoll_clones_unload(&loader->clones)) {
        free_loader(loader);
    } else { /* what is kept knows its objects */
        keepers = ATOLL_KEEPERS_LOADED;
    }
    return keepers;
}
