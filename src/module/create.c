/* Making interpreters: create() and prewarm(), which read what they are told; py/interp/lifecycle.c and py/pool/spares.c do it. */
#include "module/control.h"
#include "module/module.h"
#include "py/pool/pool.h"

/* What is shown of a name goes to terminals and logs as it is. */
static int check_printable(PyObject *name) {
    PyObject *printable = PyObject_CallMethod(name, "isprintable", NULL);
    int rc = printable != NULL ? PyObject_IsTrue(printable) : -1;
    Py_XDECREF(printable);
    if (rc == 0) {
        PyErr_Format(PyExc_ValueError, "name must consist of printable characters, not %R", name);
    }
    return rc > 0 ? 0 : -1;
}

/* *utf8: as long as the object is there, or NULL for None and NULL.  0, or -1 with an exception. */
static int read_name(PyObject *name, const char **utf8) {
    *utf8 = NULL;
    if (name == NULL || name == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "name must be a str or None, not %.200s", Py_TYPE(name)->tp_name);
        return -1;
    }
    if (PyUnicode_GET_LENGTH(name) == 0) {
        PyErr_SetString(PyExc_ValueError, "name must not be empty");
        return -1;
    }
    Py_ssize_t size;
    if (check_printable(name) < 0 || (*utf8 = PyUnicode_AsUTF8AndSize(name, &size)) == NULL) {
        return -1;
    }
    if (size >= ATOLL_STATS_NAME) {
        PyErr_Format(PyExc_ValueError, "name must have at most %d bytes in UTF-8, not %zd: %R",
                     ATOLL_STATS_NAME - 1, size, name);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(
    create_doc,
    "create($module, /, *, name=None, extensions=None, site=True,\n"
    "       daemon_threads=True, fork=False, memory_limit=None,\n"
    "       soft_memory_limit=None, cpu_limit=None)\n--\n\n"
    "Return a new, idle interpreter with its own GIL (PEP 734, PEP 684).\n\n"
    "Its sys.path is a copy of the caller's.\n\n"
    "name: a str that its repr, messages, statistics and its threads' names show; need not be unique.\n"
    "extensions: how it loads extension modules that do not declare support for a GIL per interpreter:\n"
    "'isolate', from a private clone of their file; 'strict', not at all, which is CPython's rule\n"
    "(ImportError); 'shared', as if they did. None: what the environment variable ATOLL_EXTENSIONS says,\n"
    "else 'isolate'.\n"
    "site: whether it imports the module site, if this process does; else it is as with python -S.\n"
    "daemon_threads: whether threading may start daemon threads in it; else that is a RuntimeError, as\n"
    "in the standard library's interpreters.\n"
    "fork: whether code in it may call os.fork() and os.exec*(); in the child it is the main\n"
    "interpreter, and the only one.\n"
    "memory_limit: how many bytes Python's objects in it may take, and what CPython needs for them.\n"
    "What would be more raises MemoryError there.\n"
    "soft_memory_limit: so many bytes, below memory_limit, or (bytes, callable). When it has more,\n"
    "callable(used, limit) is called in it, soon, on any of its threads; without one it issues a\n"
    "RuntimeWarning. That happens once, until it has had an eighth less. The callable crosses as those\n"
    "of call() do.\n"
    "cpu_limit: how many seconds of processor time the calls into it may take together; then they are\n"
    "interrupted, and raise ResourceLimitExceeded, as do all that come later.\n"
    "docs/control.md says what is counted.\n\n"
    "Raises InterpreterError when the interpreter cannot be made, also when it takes more than a limit\n"
    "from the beginning; TypeError for a name or extensions that is no str, or a limit that is no number,\n"
    "ValueError for another word, also in the environment, a limit that is not positive, and a name that\n"
    "is empty, longer than 63 bytes in UTF-8, or has characters that are not printable.");

static PyObject *module_create(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {
        "name",      "extensions", "site", "daemon_threads", "fork", "memory_limit", "soft_memory_limit",
        "cpu_limit", NULL};
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    PyObject *name = NULL;
    PyObject *extensions = NULL;
    PyObject *memory = NULL;
    PyObject *soft = NULL;
    PyObject *cpu = NULL;
    PyObject *callback;
    int site = 1;
    int daemon_threads = 1;
    int may_fork = 0;
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOpppOOO:create", keywords, &name, &extensions, &site,
                                     &daemon_threads, &may_fork, &memory, &soft, &cpu)) {
        return NULL;
    }
    atoll_interp_wishes wishes = {.fork = may_fork, .no_site = !site, .no_daemon_threads = !daemon_threads};
    if (read_name(name, &wishes.name) < 0 || atoll_extensions_from(extensions, &wishes.extensions) < 0 ||
        atoll_pycontrol_limits(memory, cpu, &wishes.limits) < 0 ||
        atoll_pycontrol_soft_limit(soft, &wishes.limits, &callback) < 0) {
        return NULL;
    }
    atoll_entry *entry = atoll_interp_create(state, &wishes);
    if (entry == NULL) {
        return NULL;
    }
    PyObject *object = atoll_pycontrol_set_soft(state, entry, &wishes.limits, callback) == 0
                           ? atoll_interpreter_get(state, entry->id)
                           : NULL;
    PyObject *exc = PyErr_GetRaisedException();
    atoll_interp_drop_user(state, entry); /* create's own; the object has another */
    atoll_entry_release(entry);
    PyErr_SetRaisedException(exc);
    return object;
}

PyDoc_STRVAR(
    prewarm_doc,
    "prewarm($module, count, /, imports=(), *, extensions=None)\n--\n\n"
    "Keep count spare interpreters ready, made in the background.\n\n"
    "create() and pools then take one of them, in microseconds, and another is made. extensions is that\n"
    "of create(), and only what matches is taken: create() with site=False, daemon_threads=False or\n"
    "fork=True takes none; any name will do. The last call counts, for the whole process; 0 ends\n"
    "the spares. Returns at once. A spare costs the memory of an interpreter.\n"
    "imports are names of modules that spares have imported; when one cannot be imported that is told on\n"
    "standard error, once, and spares are ready without.\n"
    "Raises ValueError for a count below 0 and for what is not the name of a module, TypeError for names\n"
    "that are no str, InterpreterError when it cannot be done.");

/* What spares are to import, into their blueprint.  0, or -1 with an exception. */
static int note_imports(atoll_state *state, PyObject *imports, atoll_blueprint *print) {
    PyObject *module = PyImport_ImportModule("atoll._pool.imports");
    PyObject *names = module != NULL ? PyObject_CallMethod(module, "as_names", "(O)", imports) : NULL;
    Py_XDECREF(module);
    int rc = names != NULL ? 0 : -1;
    if (rc == 0 && PyTuple_GET_SIZE(names) != 0) {
        rc = atoll_encode_whole(state->codec, &print->imports, names, "imports");
    }
    Py_XDECREF(names);
    return rc;
}

static PyObject *module_prewarm(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"", "imports", "extensions", NULL};
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    PyObject *number;
    int64_t count;
    PyObject *imports = NULL;
    PyObject *extensions = NULL;
    atoll_interp_wishes wishes = {0};
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O:prewarm", keywords, &number, &imports,
                                     &extensions) ||
        atoll_argument_int(number, "count", &count) < 0 ||
        atoll_extensions_from(extensions, &wishes.extensions) < 0) {
        return NULL;
    }
    if (count < 0 || count > INT_MAX) {
        PyErr_Format(count < 0 ? PyExc_ValueError : PyExc_OverflowError, "count must %s, got %R",
                     count < 0 ? "not be negative" : "fit into 31 bits", number);
        return NULL;
    }
    atoll_blueprint print;
    int rc = atoll_blueprint_init(state, &wishes, &print);
    if (rc == 0 && imports != NULL) {
        rc = note_imports(state, imports, &print);
    }
    if (rc == 0) {
        rc = atoll_spares_keep(state, (uint32_t)count, &print);
    }
    atoll_blueprint_clear(&print);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *module_spares_ready(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromUnsignedLong(atoll_spares_ready());
}

PyMethodDef atoll_pycreate_methods[] = {
    {"create", (PyCFunction)(void (*)(void))module_create, METH_VARARGS | METH_KEYWORDS, create_doc},
    {"prewarm", (PyCFunction)(void (*)(void))module_prewarm, METH_VARARGS | METH_KEYWORDS, prewarm_doc},
    {"_spares_ready", module_spares_ready, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
