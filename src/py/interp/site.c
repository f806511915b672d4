/* Importing `site` in a new interpreter only when extension modules are isolated there.
 *
 * CPython imports site, and with it sitecustomize, usercustomize and the lines of .pth files, while it makes an interpreter, so
 * before anybody can replace _imp.create_dynamic() in it (loader.c).  An extension module that is imported there would be
 * loaded from its own file: refused, or shared with other interpreters.
 *
 * Whether site is imported says PyConfig.site_import.  Each interpreter has a copy of its own, which is read at the end of
 * its making.  The first thing that the new interpreter does is to take an arena for its objects, with its thread state attached,
 * on the thread that makes it: there (arena.c) the copy is changed.  Nobody else can be reading it.  When the interpreter is
 * there, and the loader in it, the copy and sys.flags are put right, and site is imported as CPython does it.
 *
 * This relies on _Py_GetConfig(), which returns the attached interpreter's copy, and on the place of one field, which is that of
 * the headers of this minor version.  Both are proven once, by comparing several fields with sys.flags.  Where they
 * differ, and where objects are not taken from arenas (PYTHONMALLOC=malloc), CPython imports site itself.
 *
 * Where site is not wanted at all the copy stays as it was changed, and sys.flags.no_site is 1: it is as with python -S.
 *
 * Locks: none.  What is being made on this thread is in a thread-local list, as the code of one may make another.
 */
#include "py/interp/site.h"

#include <stdatomic.h>

static _Atomic(bool) proven;
static _Thread_local atoll_site *making;

/* Whether a field of the configuration is what sys.flags says. */
static bool agrees(PyObject *flags, const char *name, int expected) {
    PyObject *value = PyObject_GetAttrString(flags, name);
    long flag = value != NULL ? PyLong_AsLong(value) : -1;
    Py_XDECREF(value);
    PyErr_Clear();
    return flag == expected;
}

void atoll_site_prove(void) {
    static _Atomic(bool) done;
    if (atomic_exchange(&done, true)) {
        return;
    }
    const PyConfig *config = atoll_config();
    PyObject *flags = PySys_GetObject("flags"); /* borrowed */
    bool right = config != NULL && flags != NULL && agrees(flags, "no_site", !config->site_import) &&
                 agrees(flags, "no_user_site", !config->user_site_directory) &&
                 agrees(flags, "isolated", config->isolated) &&
                 agrees(flags, "bytes_warning", config->bytes_warning) &&
                 agrees(flags, "verbose", config->verbose) && agrees(flags, "quiet", config->quiet) &&
                 agrees(flags, "dont_write_bytecode", !config->write_bytecode) &&
                 agrees(flags, "ignore_environment", !config->use_environment);
    atomic_store(&proven, right);
}

void atoll_site_begin(atoll_site *site, bool unwanted) {
    *site = (atoll_site){.outer = making, .unwanted = unwanted};
    making = site;
}

void atoll_site_end(const atoll_site *site) { making = site->outer; }

void atoll_site_on_arena(void) {
    atoll_site *site = making;
    if (site == NULL || site->seen || !atomic_load(&proven)) {
        return;
    }
    if (atoll_thread_state_attached() == NULL) {
        return;
    }
    site->seen = true;
    PyConfig *config = (PyConfig *)atoll_config();
    if (config->site_import == 1) {
        config->site_import = 0;
        site->deferred = !site->unwanted;
    }
}

/* sys.flags, which was made meanwhile, is a tuple that nobody else has. */
static int correct_flags(void) {
    PyObject *flags = PySys_GetObject("flags"); /* borrowed */
    PyObject *names =
        flags != NULL ? PyObject_GetAttrString((PyObject *)Py_TYPE(flags), "__match_args__") : NULL;
    PyObject *zero = names != NULL && PyTuple_Check(names) ? PyLong_FromLong(0) : NULL;
    for (Py_ssize_t i = 0; zero != NULL && i < PyTuple_GET_SIZE(names); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), "no_site") == 0) {
            PyStructSequence_SetItem(flags, i, zero); /* takes it; what was there is an immortal 1 */
            Py_DECREF(names);
            return 0;
        }
    }
    Py_XDECREF(zero);
    Py_XDECREF(names);
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_SystemError, "sys.flags has no no_site");
    }
    return -1;
}

int atoll_site_import(const atoll_site *site) {
    if (site->unwanted && !site->seen && ((PyConfig *)atoll_config())->site_import != 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "site was imported before it could be left out, as with PYTHONMALLOC=malloc");
        return -1;
    }
    if (!site->deferred) {
        return 0;
    }
    ((PyConfig *)atoll_config())->site_import = 1;
    if (correct_flags() < 0) {
        return -1;
    }
    PyObject *lazy = atoll_lazy_imports_pause();
    PyObject *module = PyImport_ImportModule("site");
    Py_XDECREF(module);
    int rc = module != NULL ? 0 : -1;
    return atoll_lazy_imports_resume(lazy) < 0 ? -1 : rc;
}
