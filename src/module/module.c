/* atoll._atoll: the extension module.
 *
 * Loaded once per process and initialised once per interpreter.  create() initialises it in the
 * new interpreter directly, without the import system, so that an interpreter works whatever its sys.path is;
 * `import atoll._atoll` there finds it in sys.modules.
 */
#include "module/module.h"
#include "module/capi.h"
#include "module/control.h"
#include "module/pool.h"
#include "py/gil.h"
#include "py/interp/interp.h"
#include "py/memory/memory.h"
#include "py/pool/pool.h"

static char module_name[] = "atoll._atoll";
static char *module_file; /* where this library was loaded from; set once, by the first import */

/* ---- state ---- */

/* Makes and registers the module in the current interpreter without importing it. */
static PyObject *make_module(void) {
    PyObject *machinery = PyImport_ImportModule("_frozen_importlib");
    PyObject *spec =
        machinery != NULL ? PyObject_CallMethod(machinery, "ModuleSpec", "sO", module_name, Py_None) : NULL;
    Py_XDECREF(machinery);
    PyObject *module = spec != NULL ? PyModule_FromDefAndSpec(&atoll_module_def, spec) : NULL;
    if (module != NULL) {
        PyObject *modules = PyImport_GetModuleDict();
        if (PyObject_SetAttrString(module, "__spec__", spec) < 0 ||
            (module_file != NULL && PyModule_AddStringConstant(module, "__file__", module_file) < 0) ||
            PyModule_ExecDef(module, &atoll_module_def) < 0 ||
            PyMapping_SetItemString(modules, module_name, module) < 0) {
            Py_CLEAR(module);
        }
    }
    Py_XDECREF(spec);
    return module;
}

/* For whoever needs the module before anything has imported it (py/state.h). */
static atoll_state *make_state(void) {
    PyObject *module = make_module();
    if (module == NULL) {
        return NULL;
    }
    Py_DECREF(module); /* sys.modules has it */
    return PyModule_GetState(module);
}

/* The module's state; NULL with an exception when the module was cleared. */
static atoll_state *live_state(PyObject *module) { return atoll_state_live(PyModule_GetState(module)); }

/* ---- functions ---- */

PyDoc_STRVAR(list_all_doc,
             "list_all($module, /)\n--\n\n"
             "Return every interpreter of the process, whoever made it, ordered by id (PEP 734).");

static PyObject *module_list_all(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    if (state == NULL) {
        return NULL;
    }
    PyObject *ids = atoll_interp_list(state);
    PyObject *list = ids != NULL ? PyList_New(0) : NULL;
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(ids); i++) {
        int64_t id = PyLong_AsLongLong(PyTuple_GET_ITEM(PyList_GET_ITEM(ids, i), 0));
        PyObject *object = atoll_interpreter_get(state, id);
        if (object == NULL && PyErr_ExceptionMatches(state->not_found)) {
            PyErr_Clear(); /* closed since it was listed */
            continue;
        }
        if (object == NULL || PyList_Append(list, object) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(object);
    }
    Py_XDECREF(ids);
    return list;
}

PyDoc_STRVAR(get_current_doc, "get_current($module, /)\n--\n\n"
                              "Return the interpreter that runs this call (PEP 734).");

static PyObject *module_get_current(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    if (state == NULL) {
        return NULL;
    }
    return atoll_interpreter_get(state, state->interp_id);
}

PyDoc_STRVAR(get_main_doc, "get_main($module, /)\n--\n\n"
                           "Return the process's main interpreter (PEP 734).");

static PyObject *module_get_main(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    return state != NULL ? atoll_interpreter_get(state, PyInterpreterState_GetID(PyInterpreterState_Main()))
                         : NULL;
}

PyDoc_STRVAR(
    is_shareable_doc,
    "is_shareable($module, obj, /)\n--\n\n"
    "Return whether obj crosses unchanged and without pickle, as PEP 734 has it.\n\n"
    "These do: None, bool, int, float, str, bytes, memoryview, tuples of what does, Interpreter, Queue, "
    "what\n"
    "Atoll has for sharing (locks, AtomicInt, SharedArray, SharedDict and their like), frozen objects, and\n"
    "instances of classes that register_shareable() was given. Any other object may still cross by value,\n"
    "as docs/crossing.md says: a list does, and is_shareable() is False for it.");

static PyObject *module_is_shareable(PyObject *module, PyObject *obj) {
    atoll_state *state = live_state(module);
    if (state == NULL) {
        return NULL;
    }
    int shareable = atoll_is_shareable(state->codec, obj);
    return shareable < 0 ? NULL : PyBool_FromLong(shareable);
}

PyDoc_STRVAR(encode_doc, "_encode($module, obj, /)\n--\n\n"
                         "Return the bytes of obj's message. ValueError when it refers to shared objects.");

static PyObject *module_encode(PyObject *module, PyObject *obj) {
    atoll_state *state = live_state(module);
    if (state == NULL) {
        return NULL;
    }
    atoll_message msg = atoll_spare_message();
    PyObject *bytes = NULL;
    if (atoll_encode_whole(state->codec, &msg, obj, "obj") == 0) {
        if (msg.nhandles != 0) {
            PyErr_SetString(PyExc_ValueError, "the object refers to shared objects, which bytes cannot hold");
        } else {
            bytes = PyBytes_FromStringAndSize((const char *)msg.body.data, (Py_ssize_t)msg.body.len);
        }
    }
    atoll_spare_message_return(&msg);
    return bytes;
}

PyDoc_STRVAR(decode_doc,
             "_decode($module, data, /)\n--\n\n"
             "Return the object of a message's bytes. Trusts nothing: ValueError for malformed data.\n"
             "May import modules and call what the data names, as pickle does.");

static PyObject *module_decode(PyObject *module, PyObject *data) {
    atoll_state *state = live_state(module);
    if (state == NULL) {
        return NULL;
    }
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "data must be bytes, not %.200s", Py_TYPE(data)->tp_name);
        return NULL;
    }
    const atoll_message msg = {
        .body = {.data = (uint8_t *)PyBytes_AS_STRING(data), .len = (size_t)PyBytes_GET_SIZE(data)}};
    return atoll_decode(state->codec, &msg);
}

PyDoc_STRVAR(
    create_queue_doc,
    "create_queue($module, /, maxsize=0, *, unbounditems=None)\n--\n\n"
    "Return a new queue (PEP 734).\n\n"
    "It holds at most maxsize items, or any number when maxsize is not positive. unbounditems says what\n"
    "becomes of an item when the interpreter that put it ends: it is replaced by UNBOUND, makes get()\n"
    "raise ItemInterpreterDestroyed (UNBOUND_ERROR), or is removed (UNBOUND_REMOVE). None: as UNBOUND, but\n"
    "what the workers of a pool have put stays as it is.");

static PyObject *module_create_queue(PyObject *module, PyObject *args, PyObject *kwargs) {
    atoll_state *state = live_state(module);
    return state != NULL ? atoll_pyqueue_create(state, args, kwargs) : NULL;
}

static PyObject *module_list_queues(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    return state != NULL ? atoll_pyqueue_list(state) : NULL;
}

PyDoc_STRVAR(
    select_doc,
    "select($module, /, queues, timeout=None)\n--\n\n"
    "Wait until one of the queues has an item or is shut down; return a list of those.\n\n"
    "timeout is in seconds; when it has passed, the list is empty. Raises TypeError for what is no Queue,\n"
    "ValueError for a negative timeout. Takes no item: another thread may be faster.");

static PyObject *module_select(PyObject *module, PyObject *args, PyObject *kwargs) {
    atoll_state *state = live_state(module);
    return state != NULL ? atoll_pyqueue_select_objects(state, args, kwargs) : NULL;
}

static PyObject *module_loaded_extensions(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    if (state == NULL) {
        return NULL;
    }
    return state->entry->loader != NULL ? atoll_loader_list(state->entry->loader) : PyList_New(0);
}

static PyObject *module_kept_extensions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return atoll_loader_list_kept();
}

static PyObject *module_set_installed(PyObject *Py_UNUSED(module), PyObject *flag) {
    int value = PyObject_IsTrue(flag);
    if (value < 0) {
        return NULL;
    }
    atoll_interp_set_installed(value);
    Py_RETURN_NONE;
}

/* The tests': where CPython's list of interpreters begins, and where CPython says that it does; 0: not known. */
static PyObject *module_list_place(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("nn", (Py_ssize_t)atoll_runtime_list_place(),
                         (Py_ssize_t)atoll_compat_published_head());
}

/* Likewise: from now on this process behaves as if the list could not be found. */
static PyObject *module_list_hide(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    atoll_runtime_list_hide();
    Py_RETURN_NONE;
}

/* Of interpreters that Atoll does not end. */
static PyObject *module_at_exit(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = live_state(module);
    if (state == NULL || (state->interp == PyInterpreterState_Main() && atoll_interp_exit(state) < 0)) {
        return NULL;
    }
    atoll_interp_end_adopted(state->entry);
    atoll_state_let_go(state);
    Py_RETURN_NONE;
}

/* (how many blocks have been taken back, why none is any more or None), for tests. */
static PyObject *module_blocks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("Kz", (unsigned long long)atoll_blocks_taken_back(), atoll_blocks_doubted());
}

static PyMethodDef module_methods[] = {
    {"list_all", module_list_all, METH_NOARGS, list_all_doc},
    {"get_current", module_get_current, METH_NOARGS, get_current_doc},
    {"get_main", module_get_main, METH_NOARGS, get_main_doc},
    {"is_shareable", module_is_shareable, METH_O, is_shareable_doc},
    {"create_queue", (PyCFunction)(void (*)(void))module_create_queue, METH_VARARGS | METH_KEYWORDS,
     create_queue_doc},
    {"select", (PyCFunction)(void (*)(void))module_select, METH_VARARGS | METH_KEYWORDS, select_doc},
    {"_list_queues", module_list_queues, METH_NOARGS, NULL},
    {"_encode", module_encode, METH_O, encode_doc},
    {"_decode", module_decode, METH_O, decode_doc},
    {"_blocks", module_blocks, METH_NOARGS, NULL},
    {"_loaded_extensions", module_loaded_extensions, METH_NOARGS, NULL},
    {"_kept_extensions", module_kept_extensions, METH_NOARGS, NULL},
    {"_set_installed", module_set_installed, METH_O, NULL},
    {"_at_exit", module_at_exit, METH_NOARGS, NULL},
    {"_list_place", module_list_place, METH_NOARGS, NULL},
    {"_list_hide", module_list_hide, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- initialisation ---- */

static void remember_file(PyObject *module) {
    PyObject *spec = module_file == NULL ? PyObject_GetAttrString(module, "__spec__") : NULL;
    PyObject *origin = spec != NULL ? PyObject_GetAttrString(spec, "origin") : NULL;
    const char *path = origin != NULL && PyUnicode_Check(origin) ? PyUnicode_AsUTF8(origin) : NULL;
    if (path != NULL) {
        module_file = strdup(path);
    }
    if (path != NULL && module_file != NULL) {
        atoll_loader_set_home(module_file);
    }
    Py_XDECREF(origin);
    Py_XDECREF(spec);
    PyErr_Clear();
}

static int register_exit(PyObject *module) {
    PyObject *handler = PyObject_GetAttrString(module, "_at_exit");
    PyObject *atexit = handler != NULL ? PyImport_ImportModule("atexit") : NULL;
    PyObject *done = atexit != NULL ? PyObject_CallMethod(atexit, "register", "O", handler) : NULL;
    Py_XDECREF(atexit);
    Py_XDECREF(handler);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int init_entry(atoll_state *state) {
    atoll_entry *entry = atoll_registry_find(state->interp_id);
    if (entry == NULL) {
        entry = atoll_registry_add(state->interp_id, state->interp, false);
        if (entry == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    /* Main had memory before it was counted: what is counted of it says nothing. */
    if (state->interp != PyInterpreterState_Main() && !atoll_account_show(entry)) {
        atoll_entry_release(entry);
        PyErr_NoMemory();
        return -1;
    }
    state->entry = entry;
    return 0;
}

/* An interpreter has one module, however often it is imported: what it made before goes on working.  This is another object for it,
 * whose names are the first one's; the import system takes the first.  What comes from atoll's Python files may have been
 * imported anew as well: it is looked up again. */
static int become_alias(PyObject *module, atoll_state *first) {
    for (int i = 0; i < ATOLL_Q_NAMES; i++) {
        Py_CLEAR(first->queue_names[i]);
    }
    for (int i = 0; i < ATOLL_P_NAMES; i++) {
        Py_CLEAR(first->pool_names[i]);
    }
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (PyDict_Update(PyModule_GetDict(module), PyModule_GetDict(first->module)) < 0) {
        return -1;
    }
    return PyMapping_SetItemString(modules, module_name, first->module);
}

/* As long as its interpreter lives the first one does, also when sys.modules does not have it. */
static void keep(atoll_state *state) {
    state->kept = true;
    Py_INCREF(state->module);
}

static int module_exec(PyObject *module) {
    atoll_restart_begin();
    atoll_state *first = atoll_state_of(PyInterpreterState_Get());
    if (first != NULL) {
        return become_alias(module, first);
    }
    atoll_state *state = PyModule_GetState(module);
    state->module = module;
    state->interp = PyInterpreterState_Get();
    state->interp_id = PyInterpreterState_GetID(state->interp);
    remember_file(module);
    if (atoll_session_init(atoll_child_ends) < 0) {
        PyErr_SetString(PyExc_OSError, "no thread-local storage left");
        return -1;
    }
    if (state->interp == PyInterpreterState_Main()) {
        atoll_restart_await();
        atoll_interned_init();
        if (atoll_tracing_init() < 0 || atoll_traced_from_environment() < 0) {
            return -1;
        }
    }
    if (atoll_frames_init() < 0) {
        return -1;
    }
    atoll_fork_init();
    atoll_arena_init(atoll_site_on_arena);
    atoll_staff_install();
    atoll_state_init(make_state);
    PyObject *main_module = PyImport_AddModule("__main__");       /* borrowed */
    PyObject *implementation = PySys_GetObject("implementation"); /* borrowed */
    if (main_module == NULL || implementation == NULL || atoll_exceptions_add(state, module) < 0) {
        return -1;
    }
    state->main_dict = Py_NewRef(PyModule_GetDict(main_module));
    state->namespace_type = Py_NewRef((PyObject *)Py_TYPE(implementation));
    state->codec = atoll_codec_new(state->interp_id, state->not_shareable, atoll_blocking_await_word);
    if (state->codec == NULL || atoll_interpreter_add(state, module) < 0 ||
        atoll_sharedview_add(state, module) < 0 || atoll_pyshared_add(state, module) < 0 ||
        atoll_lent_add(state, module) < 0 || atoll_pyregistered_add(state, module) < 0 ||
        atoll_pyfrozen_add(state, module) < 0 || atoll_pyqueue_add(state, module) < 0 ||
        atoll_pysync_add(state, module) < 0 || atoll_shareddict_add(state, module) < 0 ||
        atoll_pypool_add(state, module) < 0 || atoll_pycontrol_add(module) < 0 ||
        atoll_pytrace_add(module) < 0 || atoll_capi_add(module) < 0) {
        return -1;
    }
    if (init_entry(state) < 0 || PyModule_AddFunctions(module, atoll_pycreate_methods) < 0 ||
        PyModule_AddFunctions(module, atoll_pysignal_methods) < 0 ||
        PyModule_AddFunctions(module, atoll_pystats_methods) < 0) {
        return -1;
    }
    if (!state->entry->owned && register_exit(module) < 0) {
        return -1;
    }
    state->entry->gil = atoll_gil_word();
    atoll_meter_modules(state->entry->stats);
    state->entry->state = state;
    keep(state);
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    atoll_state *state = PyModule_GetState(module);
    Py_VISIT(state->interpreter_type);
    Py_VISIT(state->shared_view_type);
    Py_VISIT(state->area_type);
    Py_VISIT(state->frozen_dict_type);
    Py_VISIT(state->shared_buffer_type);
    Py_VISIT(state->shared_array_type);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(state->lent_types); i++) {
        Py_VISIT(state->lent_types[i]);
    }
    Py_VISIT(state->queue_type);
    Py_VISIT(state->row_type);
    for (int i = 0; i < ATOLL_Q_NAMES; i++) {
        Py_VISIT(state->queue_names[i]);
    }
    for (int i = 0; i < ATOLL_P_NAMES; i++) {
        Py_VISIT(state->pool_names[i]);
    }
    for (int i = 0; i < ATOLL_SYNC_KINDS; i++) {
        Py_VISIT(state->sync_types[i]);
    }
    Py_VISIT(state->shareddict_type);
    Py_VISIT(state->lock_owner_lost);
    Py_VISIT(state->limit_exceeded);
    Py_VISIT(state->stuck);
    Py_VISIT(state->error);
    Py_VISIT(state->not_found);
    Py_VISIT(state->not_shareable);
    Py_VISIT(state->execution_failed);
    Py_VISIT(state->knock_type);
    Py_VISIT(state->main_dict);
    Py_VISIT(state->namespace_type);
    for (int i = 0; i < ATOLL_SCRIPT_CACHE; i++) {
        Py_VISIT(state->scripts[i].code);
    }
    return state->codec != NULL ? atoll_codec_traverse(state->codec, visit, arg) : 0;
}

static int module_clear(PyObject *module) {
    atoll_state *state = PyModule_GetState(module);
    atoll_entry *entry = state->entry;
    if (entry != NULL) {
        /* Sessions find no state from here on; an interpreter of others is not Atoll's business any more. */
        if (entry->state == state) {
            entry->state = NULL;
            if (!entry->owned && entry->id != 0) {
                (void)atoll_entry_begin_close(entry);
                atoll_syncs_lose(entry->serial, entry->id);
                atoll_account_hide(entry);
                atoll_registry_remove(entry);
            }
        }
        state->entry = NULL;
        atoll_queues_unbind(state->interp_id);
        atoll_entry_run_jobs(entry, true); /* what finalizers have put into queues comes back */
        atoll_entry_release(entry);
    }
    atoll_script_clear(state);
    if (state->codec != NULL) {
        atoll_codec_clear(state->codec);
    }
    Py_CLEAR(state->main_dict);
    Py_CLEAR(state->namespace_type);
    Py_CLEAR(state->interpreter_type);
    Py_CLEAR(state->shared_view_type);
    Py_CLEAR(state->area_type);
    Py_CLEAR(state->frozen_dict_type);
    Py_CLEAR(state->shared_buffer_type);
    Py_CLEAR(state->shared_array_type);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(state->lent_types); i++) {
        Py_CLEAR(state->lent_types[i]);
    }
    Py_CLEAR(state->queue_type);
    Py_CLEAR(state->row_type);
    for (int i = 0; i < ATOLL_Q_NAMES; i++) {
        Py_CLEAR(state->queue_names[i]);
    }
    for (int i = 0; i < ATOLL_P_NAMES; i++) {
        Py_CLEAR(state->pool_names[i]);
    }
    for (int i = 0; i < ATOLL_SYNC_KINDS; i++) {
        Py_CLEAR(state->sync_types[i]);
    }
    Py_CLEAR(state->shareddict_type);
    Py_CLEAR(state->lock_owner_lost);
    Py_CLEAR(state->limit_exceeded);
    Py_CLEAR(state->stuck);
    Py_CLEAR(state->execution_failed);
    Py_CLEAR(state->knock_type);
    Py_CLEAR(state->not_shareable);
    Py_CLEAR(state->not_found);
    Py_CLEAR(state->error);
    return 0;
}

static void module_free(void *module) {
    atoll_state *state = PyModule_GetState(module);
    (void)module_clear(module);
    atoll_interpreter_forget(state);
    atoll_pyfrozen_forget(state);
    atoll_things_forget(state);
    atoll_message_clear(&state->batch.msg);
    if (state->codec != NULL) {
        atoll_codec_free(state->codec);
        state->codec = NULL;
    }
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

PyModuleDef atoll_module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "atoll._atoll",
    .m_doc = "The C half of Atoll.",
    .m_size = sizeof(atoll_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__atoll(void) { return PyModuleDef_Init(&atoll_module_def); }
