/* The Interpreter type.
 *
 * An object is a name for an interpreter, with one user's reference to its entry; each interpreter has at most one
 * object per id, found through a list in its module state.  Objects hold no Python reference but to their type; they
 * are tracked all the same, because __main__ -> object -> type -> module -> __main__ is a cycle.  When the last object (in any interpreter, or in a message) of one that
 * Atoll made is gone, the interpreter is closed.
 */
#include "module/control.h"
#include "module/pool.h"
#include "py/interp/interp.h"

#include <structmember.h>

static const char *const whence_words[] = {
    "unknown", "runtime init", "legacy C-API", "C-API", "cross-interpreter C-API", "_interpreters module"};

/* ---- objects ---- */

static void handle_retain(void *ptr) { atoll_entry_add_user(ptr); }

static void handle_release(void *ptr) {
    if (atoll_entry_remove_user(ptr)) {
        atoll_interp_sweep_later();
    }
}

static atoll_interpreter *find_object(atoll_state *state, int64_t id) {
    atoll_interpreter *object = state->objects;
    while (object != NULL && object->id != id) {
        object = object->next;
    }
    return object;
}

/* The object for id; entry may be NULL. A new reference, or NULL with MemoryError. */
static PyObject *object_for(atoll_state *state, int64_t id, long whence, atoll_entry *entry) {
    atoll_interpreter *object = find_object(state, id);
    if (object != NULL) {
        if (object->entry == NULL && entry != NULL) { /* it has got one since */
            object->entry = entry;
            atoll_entry_add_user(entry);
        }
        return Py_NewRef((PyObject *)object);
    }
    object = (atoll_interpreter *)state->interpreter_type->tp_alloc(state->interpreter_type, 0);
    if (object == NULL) {
        return NULL;
    }
    object->state = state;
    object->id = id;
    object->whence = whence;
    object->entry = entry;
    if (entry != NULL) {
        atoll_entry_add_user(entry);
    }
    object->next = state->objects;
    if (state->objects != NULL) {
        state->objects->prev = object;
    }
    state->objects = object;
    return (PyObject *)object;
}

PyObject *atoll_interpreter_get(atoll_state *state, int64_t id) {
    atoll_interpreter *known = find_object(state, id);
    if (known != NULL && known->entry != NULL && atoll_entry_is_open(known->entry)) {
        return Py_NewRef((PyObject *)known);
    }
    long whence = 0;
    int exists = atoll_interp_exists(state, id, &whence);
    if (exists <= 0) {
        return exists == 0 ? atoll_raise_not_found(state, id) : NULL;
    }
    atoll_entry *entry = atoll_registry_find(id);
    PyObject *object = object_for(state, id, whence, entry);
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
    return object;
}

static PyObject *interpreter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *arg;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Interpreter() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O:Interpreter", &arg)) {
        return NULL;
    }
    if (!PyLong_Check(arg)) {
        PyErr_Format(PyExc_TypeError, "id must be an int, got %R", arg);
        return NULL;
    }
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    int overflow;
    long long id = PyLong_AsLongLongAndOverflow(arg, &overflow);
    if (overflow < 0 || (overflow == 0 && id < 0)) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "interpreter ID must be a non-negative int, got %R", arg);
        }
        return NULL;
    }
    if (overflow > 0) {
        PyErr_Format(state->not_found, "unrecognized interpreter ID %R", arg);
        return NULL;
    }
    return atoll_interpreter_get(state, id);
}

static void interpreter_dealloc(PyObject *self) {
    atoll_interpreter *object = (atoll_interpreter *)self;
    PyTypeObject *type = Py_TYPE(self);
    atoll_state *state = object->state;
    PyObject_GC_UnTrack(self);
    if (object->next != NULL) {
        object->next->prev = object->prev;
    }
    if (object->prev != NULL) {
        object->prev->next = object->next;
    } else if (state != NULL) {
        state->objects = object->next;
    }
    /* What is called for them may ask for this id: nothing leads here any more. */
    if (object->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    atoll_entry *entry = object->entry;
    type->tp_free(self);
    if (entry == NULL) {
        /* nothing of Atoll's */
    } else if (state != NULL && state->entry != NULL) {
        atoll_interp_drop_user(state, entry);
    } else {
        handle_release(entry); /* this interpreter is being taken down: another one will see to it */
    }
    Py_DECREF(type);
}

void atoll_interpreter_forget(atoll_state *state) {
    atoll_interpreter *next;
    for (atoll_interpreter *object = state->objects; object != NULL; object = next) {
        next = object->next;
        object->state = NULL;
        object->prev = object->next = NULL;
    }
    state->objects = NULL;
}

static int interpreter_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static PyObject *get_name(PyObject *self, void *Py_UNUSED(closure)) {
    const atoll_entry *entry = ((atoll_interpreter *)self)->entry;
    return entry != NULL && entry->name[0] != '\0'
               ? PyUnicode_DecodeUTF8(entry->name, (Py_ssize_t)strlen(entry->name), "replace")
               : Py_NewRef(Py_None);
}

static PyObject *interpreter_repr(PyObject *self) {
    long long id = (long long)((atoll_interpreter *)self)->id;
    PyObject *name = get_name(self, NULL);
    PyObject *repr = name == NULL      ? NULL
                     : name == Py_None ? PyUnicode_FromFormat("Interpreter(%lld)", id)
                                       : PyUnicode_FromFormat("Interpreter(%lld, name=%R)", id, name);
    Py_XDECREF(name);
    return repr;
}

static Py_hash_t interpreter_hash(PyObject *self) {
    int64_t id = ((atoll_interpreter *)self)->id;
    PyObject *number = PyLong_FromLongLong(id);
    Py_hash_t hash = number != NULL ? PyObject_Hash(number) : -1;
    Py_XDECREF(number);
    return hash;
}

static PyObject *interpreter_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("O(L)", Py_TYPE(self), (long long)((atoll_interpreter *)self)->id);
}

static PyObject *get_id(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLongLong(((atoll_interpreter *)self)->id);
}

static PyObject *get_whence(PyObject *self, void *Py_UNUSED(closure)) {
    long whence = ((atoll_interpreter *)self)->whence;
    if (whence == ATOLL_WHENCE_ATOLL) {
        return PyUnicode_FromString("atoll");
    }
    bool known = whence >= 0 && whence < (long)Py_ARRAY_LENGTH(whence_words);
    return PyUnicode_FromString(whence_words[known ? whence : 0]);
}

/* ---- methods ---- */

/* The state behind self; NULL with an exception when its module was cleared. */
static atoll_state *state_of(PyObject *self) { return atoll_state_live(((atoll_interpreter *)self)->state); }

PyDoc_STRVAR(is_running_doc, "is_running($self, /)\n--\n\n"
                             "Return True while code runs in the interpreter's __main__ (PEP 734).\n\n"
                             "Threads that code in the interpreter started do not count.\n"
                             "Raises InterpreterNotFoundError when the interpreter is closed.");

static PyObject *interpreter_is_running(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = state_of(self);
    if (state == NULL) {
        return NULL;
    }
    int running = atoll_interp_running(state, ((atoll_interpreter *)self)->id);
    return running < 0 ? NULL : PyBool_FromLong(running);
}

static PyObject *interpreter_enter(PyObject *self, PyObject *Py_UNUSED(ignored)) { return Py_NewRef(self); }

PyDoc_STRVAR(
    prepare_main_doc,
    "prepare_main($self, ns=None, /, **kwargs)\n--\n\n"
    "Bind shareable objects as names in the interpreter's __main__ (PEP 734).\n\n"
    "ns is a mapping or an iterable of pairs. Either all names are bound or none.\n"
    "Raises NotShareableError for a value that is_shareable() refuses, ValueError when there is nothing to\n"
    "bind, InterpreterError when the interpreter is running or not made by Atoll.");

static PyObject *interpreter_prepare_main(PyObject *self, PyObject *args, PyObject *kwargs) {
    atoll_state *state = state_of(self);
    if (state == NULL) {
        return NULL;
    }
    PyObject *ns = Py_None;
    if (!PyArg_ParseTuple(args, "|O:prepare_main", &ns)) {
        return NULL;
    }
    atoll_entry *entry = atoll_pycontrol_entry(state, self, "update __main__ of");
    if (entry == NULL) {
        return NULL;
    }
    PyObject *values = ns == Py_None ? PyDict_New() : PyObject_CallOneArg((PyObject *)&PyDict_Type, ns);
    int rc = values == NULL ? -1 : kwargs != NULL ? PyDict_Update(values, kwargs) : 0;
    if (rc == 0) {
        rc = atoll_run_prepare_main(state, entry, values);
    }
    Py_XDECREF(values);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    exec_doc,
    "exec($self, code, /, dedent=True, *, timeout=None)\n--\n\n"
    "Execute code in the interpreter's __main__, on the current OS thread (PEP 734).\n\n"
    "code is a str, bytes, a code object, or a function without arguments, closure or return value. A\n"
    "str is dedented first unless dedent is False; bytes are source as in a file, with their encoding.\n"
    "Code that runs for longer than timeout seconds is interrupted. Returns None.\n"
    "Raises SyntaxError for source that does not compile, ExecutionFailed when the code raises,\n"
    "TimeoutError, InterpreterError when the interpreter is running or not made by Atoll.");

static PyObject *interpreter_exec(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    static const char *const keywords[] = {"", "dedent", "timeout"};
    PyObject *values[3] = {NULL};
    double seconds;
    atoll_state *state = state_of(self);
    if (state == NULL) {
        return NULL;
    }
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "exec() needs code to execute");
        return NULL;
    }
    if (atoll_parse("exec", keywords, 3, 2, 1, args, nargs, kwnames, values) < 0 ||
        atoll_timeout(values[2], &seconds) < 0) {
        return NULL;
    }
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "timeout must be non-negative, got %R", values[2]);
        return NULL;
    }
    int dedent = values[1] != NULL ? PyObject_IsTrue(values[1]) : 1;
    atoll_entry *entry = dedent >= 0 ? atoll_pycontrol_entry(state, self, "exec code in") : NULL;
    if (entry == NULL || atoll_run_exec(state, entry, values[0], dedent, seconds) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    call_doc,
    "call($self, callable, /, *args, **kwargs)\n--\n\n"
    "Call callable in the interpreter, on the current OS thread, and return its result (PEP 734).\n\n"
    "The callable, its arguments and the result cross by value, or by reference where they are shared\n"
    "objects. Works for the main interpreter too, from any other.\n"
    "Raises ExecutionFailed when the callable raises, NotShareableError for what cannot cross (naming it\n"
    "by its path), InterpreterError when the interpreter was not made by Atoll.");

static PyObject *interpreter_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    atoll_state *state = state_of(self);
    if (state == NULL) {
        return NULL;
    }
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "call() needs a callable");
        return NULL;
    }
    atoll_entry *entry = atoll_pycontrol_called(state, self, "make a call in");
    return entry == NULL ? NULL : atoll_run_call(state, entry, args[0], args + 1, nargs - 1, kwnames);
}

PyDoc_STRVAR(call_in_thread_doc,
             "call_in_thread($self, callable, /, *args, **kwargs)\n--\n\n"
             "Return a started threading.Thread that calls callable in the interpreter (PEP 734).\n\n"
             "The result is dropped; an exception goes to threading.excepthook.");

static PyObject *interpreter_call_in_thread(PyObject *self, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(PyExc_TypeError, "call_in_thread() needs a callable");
        return NULL;
    }
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *type = threading != NULL ? PyObject_GetAttrString(threading, "Thread") : NULL;
    PyObject *target = PyObject_GetAttrString(self, "call");
    PyObject *call_kwargs = kwargs != NULL ? Py_NewRef(kwargs) : PyDict_New();
    PyObject *thread = NULL;
    if (type != NULL && target != NULL && call_kwargs != NULL) {
        PyObject *empty = PyTuple_New(0);
        PyObject *named = Py_BuildValue("{sOsOsO}", "target", target, "args", args, "kwargs", call_kwargs);
        if (empty != NULL && named != NULL) {
            thread = PyObject_Call(type, empty, named);
        }
        Py_XDECREF(named);
        Py_XDECREF(empty);
    }
    size_t before;
    bool raised = thread != NULL && atoll_process_stack_raise(&before);
    PyObject *started = thread != NULL ? PyObject_CallMethod(thread, "start", NULL) : NULL;
    if (raised) {
        PyObject *exc = PyErr_GetRaisedException();
        atoll_process_stack_restore(before);
        PyErr_SetRaisedException(exc);
    }
    if (started == NULL) {
        Py_CLEAR(thread);
    }
    Py_XDECREF(started);
    Py_XDECREF(call_kwargs);
    Py_XDECREF(target);
    Py_XDECREF(type);
    Py_XDECREF(threading);
    return thread;
}

/* atoll._pool.executor.NAME(self, ...) */
static PyObject *call_pool(PyObject *self, atoll_pypool_name name, const char *what, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames) {
    atoll_state *state = state_of(self);
    if (state == NULL || atoll_pycontrol_entry(state, self, what) == NULL) {
        return NULL;
    }
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "a callable is needed");
        return NULL;
    }
    PyObject *function = atoll_pypool_name_get(state, name);
    PyObject *bound = function != NULL ? PyMethod_New(function, self) : NULL;
    PyObject *result = bound != NULL ? PyObject_Vectorcall(bound, args, (size_t)nargs, kwnames) : NULL;
    Py_XDECREF(bound);
    return result;
}

PyDoc_STRVAR(
    submit_doc,
    "submit($self, callable, /, *args, **kwargs)\n--\n\n"
    "Call callable in the interpreter, on a thread of its own; return its Future.\n\n"
    "Calls that are submitted run one after the other, in the order in which they were, by whatever\n"
    "interpreters. Exceptions come back as themselves, with\n"
    "an ExecutionFailed as their cause; what cannot cross makes the future fail. The\n"
    "future's interrupt() raises KeyboardInterrupt in the call, and so does cancel() when it is running\n"
    "(and then returns False).\n"
    "Raises InterpreterError when the interpreter was not made by Atoll.");

static PyObject *interpreter_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    return call_pool(self, ATOLL_P_SUBMIT_TO, "submit to", args, nargs, kwnames);
}

PyDoc_STRVAR(call_async_doc,
             "call_async($self, callable, /, *args, **kwargs)\n--\n\n"
             "Call callable in the interpreter, on a thread of its own; await the result.\n\n"
             "As submit(), for asyncio. When the awaiting task is cancelled, a call that has not begun is\n"
             "dropped, and in one that runs KeyboardInterrupt is raised.");

static PyObject *interpreter_call_async(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *kwnames) {
    return call_pool(self, ATOLL_P_CALL_ASYNC, "make a call in", args, nargs, kwnames);
}

/* ---- crossing ---- */

static const atoll_handle_class interpreter_class = {"interpreter", handle_retain, handle_release};

static int interpreter_encode(atoll_encoder *enc, PyObject *self) {
    atoll_interpreter *object = (atoll_interpreter *)self;
    atoll_message *msg = atoll_encoder_message(enc);
    uint32_t index = ATOLL_NO_HANDLE;
    if (object->entry != NULL) {
        atoll_entry_add_user(object->entry);
        index = atoll_message_attach(msg, &interpreter_class, object->entry);
    }
    atoll_put_u32(&msg->body, index);
    atoll_put_u64(&msg->body, (uint64_t)object->id);
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *interpreter_decode(atoll_decoder *dec) {
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint32_t index = atoll_get_u32(rd);
    int64_t id = (int64_t)atoll_get_u64(rd);
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (rd->failed || state == NULL) {
        PyErr_SetString(PyExc_ValueError, "malformed message: interpreter");
        return NULL;
    }
    if (index == ATOLL_NO_HANDLE) {
        return atoll_interpreter_get(state, id);
    }
    atoll_entry *entry = atoll_message_handle(atoll_decoder_message(dec), index, &interpreter_class);
    if (entry == NULL || entry->id != id) {
        PyErr_SetString(PyExc_ValueError, "malformed message: interpreter");
        return NULL;
    }
    long whence = ATOLL_WHENCE_ATOLL;
    if (!entry->owned && atoll_interp_exists(state, id, &whence) < 0) {
        return NULL;
    }
    return object_for(state, id, whence, entry); /* also for one that was closed meanwhile */
}

static const atoll_codec_hook interpreter_hook = {ATOLL_HOOK_INTERPRETER, interpreter_encode,
                                                  interpreter_decode};

/* ---- the type ---- */

static PyMethodDef interpreter_methods[] = {
    {"is_running", interpreter_is_running, METH_NOARGS, is_running_doc},
    {"close", (PyCFunction)(void (*)(void))atoll_pyclosing_close, METH_FASTCALL | METH_KEYWORDS,
     atoll_pyclosing_close_doc},
    {"prepare_main", (PyCFunction)(void (*)(void))interpreter_prepare_main, METH_VARARGS | METH_KEYWORDS,
     prepare_main_doc},
    {"exec", (PyCFunction)(void (*)(void))interpreter_exec, METH_FASTCALL | METH_KEYWORDS, exec_doc},
    {"call", (PyCFunction)(void (*)(void))interpreter_call, METH_FASTCALL | METH_KEYWORDS, call_doc},
    {"call_in_thread", (PyCFunction)(void (*)(void))interpreter_call_in_thread, METH_VARARGS | METH_KEYWORDS,
     call_in_thread_doc},
    {"interrupt", (PyCFunction)(void (*)(void))atoll_pycontrol_interrupt, METH_FASTCALL | METH_KEYWORDS,
     atoll_pycontrol_interrupt_doc},
    {"submit", (PyCFunction)(void (*)(void))interpreter_submit, METH_FASTCALL | METH_KEYWORDS, submit_doc},
    {"call_async", (PyCFunction)(void (*)(void))interpreter_call_async, METH_FASTCALL | METH_KEYWORDS,
     call_async_doc},
    {"stats", atoll_pystats_of, METH_NOARGS, atoll_pystats_doc},
    {"__enter__", interpreter_enter, METH_NOARGS, NULL},
    {"__exit__", atoll_pyclosing_exit, METH_VARARGS, "Close the interpreter, unless it is closed already."},
    {"__reduce__", interpreter_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef interpreter_getset[] = {
    {"id", get_id, NULL, "The number that names the interpreter in this process: never used twice.", NULL},
    {"name", get_name, NULL, "What create() was told to call it, or its pool does; None: nothing.", NULL},
    {"whence", get_whence, NULL,
     "Who made the interpreter: 'atoll', 'runtime init' for main, else CPython's words.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef interpreter_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(atoll_interpreter, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(interpreter_doc,
             "Interpreter(id, /)\n--\n\n"
             "An isolated Python interpreter of this process (PEP 734).\n\n"
             "There is one object per interpreter in each interpreter. One that create() made is closed\n"
             "when its last object, in any interpreter, is gone and no thread of its own runs any more.\n"
             "Raises TypeError for an id that is not an int, InterpreterNotFoundError for an unknown one.");

static PyType_Slot interpreter_slots[] = {
    {Py_tp_doc, (void *)interpreter_doc}, {Py_tp_new, interpreter_new},
    {Py_tp_dealloc, interpreter_dealloc}, {Py_tp_traverse, interpreter_traverse},
    {Py_tp_repr, interpreter_repr},       {Py_tp_hash, interpreter_hash},
    {Py_tp_methods, interpreter_methods}, {Py_tp_getset, interpreter_getset},
    {Py_tp_members, interpreter_members}, {0, NULL},
};

static PyType_Spec interpreter_spec = {
    .name = "atoll.Interpreter",
    .basicsize = sizeof(atoll_interpreter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = interpreter_slots,
};

int atoll_interpreter_add(atoll_state *state, PyObject *module) {
    state->interpreter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &interpreter_spec, NULL);
    if (state->interpreter_type == NULL || PyModule_AddType(module, state->interpreter_type) < 0) {
        return -1;
    }
    return atoll_codec_add_hook(state->codec, state->interpreter_type, &interpreter_hook);
}
