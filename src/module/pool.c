/* The type behind InterpreterPoolExecutor: a pool (core/pool/pool.h) and what the submitting interpreter adds to it.
 * pool_submit.c has what queues calls, pool_encode.c how they are sent.
 *
 * The object belongs to its interpreter; it shuts its pool when it goes.  Futures hold it, and so does the
 * thread that delivers, so atoll._pool.executor shuts the pool itself when the executor goes.
 *
 * Everything here runs attached; waits detach (py/interp/blocking.c).  No lock is held while Python runs.
 */
#include "module/pool.h"
#include "module/control.h"
#include "module/future.h"

#include "py/interp/interp.h"
#include "py/pool/pool.h"

#include <math.h>
#include <stdlib.h>
#include <structmember.h>

#define MOST_WORKERS 10000

static atoll_pypool *cast(PyObject *self) { return (atoll_pypool *)self; }

/* ---- making one ---- */

/* The initializer cannot be sent, as the exception says: the first worker will break the pool with that.  0, or -1 with
 * an exception. */
static int keep_refusal(atoll_pool_settings *settings) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = PyObject_Str(exc);
    Py_ssize_t len;
    const char *utf8 = text != NULL ? PyUnicode_AsUTF8AndSize(text, &len) : NULL;
    if (utf8 != NULL) {
        atoll_put_bytes(&settings->refused.body, utf8, (size_t)len);
    }
    Py_XDECREF(text);
    Py_DECREF(exc);
    return utf8 != NULL ? 0 : -1;
}

static int read_settings(atoll_state *state, atoll_pool_settings *settings, PyObject *initializer,
                         PyObject *initargs, int own_args, PyObject *extensions, PyObject *guest,
                         const atoll_limits *limits) {
    atoll_interp_wishes wishes = {.limits = *limits};
    if (atoll_extensions_from(extensions, &wishes.extensions) < 0 ||
        atoll_blueprint_init(state, &wishes, &settings->print) < 0) {
        return -1;
    }
    settings->stack = atoll_process_stack_size();
    if (guest != Py_None) {
        if (!PyObject_TypeCheck(guest, state->interpreter_type) ||
            ((atoll_interpreter *)guest)->entry == NULL) {
            PyErr_SetString(state->error, "cannot work in an interpreter that Atoll did not make");
            return -1;
        }
        settings->guest = ((atoll_interpreter *)guest)->entry;
        if (!atoll_entry_is_open(settings->guest)) {
            atoll_session_raise_shut(state, settings->guest, "submit to");
            settings->guest = NULL;
            return -1;
        }
        atoll_entry_add_user(settings->guest);
        atoll_entry_retain(settings->guest);
        settings->of = settings->guest;
    }
    if (initializer == Py_None) {
        return 0;
    }
    PyObject *args = PySequence_Tuple(initargs);
    int rc = args == NULL ? -1
                          : atoll_encode_initializer(state->codec, &settings->init, initializer,
                                                     ((PyTupleObject *)args)->ob_item, PyTuple_GET_SIZE(args),
                                                     own_args);
    Py_XDECREF(args);
    settings->has_init = rc == 0;
    return rc == 0 || !PyErr_ExceptionMatches(state->not_shareable) ? rc : keep_refusal(settings);
}

static void free_settings(void *settings) { atoll_settings_free(settings); }

/* With empty settings; NULL with an exception. */
static atoll_pool *new_pool(int max_workers, int max_tasks, const char *name) {
    if (max_workers < 1 || max_workers > MOST_WORKERS || max_tasks < 0) {
        PyErr_Format(PyExc_ValueError, "max_workers must be at least 1 and at most %d, not %d", MOST_WORKERS,
                     max_workers);
        return NULL;
    }
    atoll_pool_settings *settings = calloc(1, sizeof *settings);
    atoll_pool *pool = NULL;
    if (settings != NULL && (settings->name = strdup(name)) != NULL) {
        pool = atoll_pool_new((uint32_t)max_workers, &atoll_staff_ops);
    }
    if (pool == NULL) {
        atoll_settings_free(settings);
        PyErr_NoMemory();
        return NULL;
    }
    atoll_stats_pool_name(pool->stats, name);
    pool->settings = settings;
    pool->free_settings = free_settings;
    pool->max_tasks = (uint32_t)max_tasks;
    return pool;
}

static PyObject *pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"max_workers",   "name",       "initializer", "initargs", "max_tasks",
                               "timeout",       "extensions", "spares",      "guest",    "memory_limit",
                               "inner_threads", "cpu_limit",  "own_args",    NULL};
    int max_workers;
    const char *name;
    PyObject *initializer;
    PyObject *initargs;
    int max_tasks;
    double timeout;
    PyObject *extensions;
    int spares;
    PyObject *guest;
    PyObject *memory = NULL;
    PyObject *cpu = NULL;
    int inner_threads = 0;
    int own_args = 0;
    atoll_limits limits;
    PyObject *module = PyType_GetModule(type);
    if (module == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "isOOidOpO|OiOi:_Pool", keywords, &max_workers, &name,
                                     &initializer, &initargs, &max_tasks, &timeout, &extensions, &spares,
                                     &guest, &memory, &inner_threads, &cpu, &own_args) ||
        atoll_pycontrol_limits(memory, cpu, &limits) < 0) {
        return NULL;
    }
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    if (state == NULL) {
        return NULL;
    }
    atoll_pool *pool = new_pool(max_workers, max_tasks, name);
    if (pool == NULL) {
        return NULL;
    }
    atoll_pool_settings *settings = pool->settings;
    pool->timeout = timeout > 0 ? timeout : INFINITY;
    settings->spares = spares != 0;
    settings->inner_threads = inner_threads;
    atoll_signal_mask_get(&settings->signals);
    atoll_pypool *self = NULL;
    if (read_settings(state, settings, initializer, initargs, own_args, extensions, guest, &limits) == 0) {
        self = (atoll_pypool *)type->tp_alloc(type, 0);
    }
    if (self == NULL) {
        atoll_pool_release(pool);
        return NULL;
    }
    pool->line = settings->of != NULL ? &settings->of->line : NULL;
    self->module = Py_NewRef(module);
    self->state = state;
    self->pool = pool;
    return (PyObject *)self;
}

static int pool_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(cast(op)->module);
    Py_VISIT(cast(op)->owner);
    return 0;
}

/* The weak reference has a method of the pool's to call. */
static int pool_clear(PyObject *op) {
    Py_CLEAR(cast(op)->owner);
    return 0;
}

static void pool_dealloc(PyObject *op) {
    atoll_pypool *self = cast(op);
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)pool_clear(op);
    atoll_pool_shut(self->pool);
    for (int i = 0; i < ATOLL_FUNCTIONS_KEPT; i++) {
        if (self->functions[i] != NULL) {
            atoll_pool_function_release(self->functions[i]);
        }
    }
    atoll_pool_release(self->pool);
    Py_CLEAR(self->module);
    type->tp_free(op);
    Py_DECREF(type);
}

/* ---- the end ---- */

/* Also as what the weak reference calls, which goes: it holds this pool, and keeps what it calls where the garbage collector called it. */
static PyObject *pool_shut(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    atoll_pool_shut(cast(op)->pool);
    (void)pool_clear(op);
    Py_RETURN_NONE;
}

/* Tells the futures of tasks that were cancelled, which are linked; all of them, whatever their callbacks raise.  None, or NULL with what
 * the first has raised. */
static PyObject *tell_cancelled(atoll_task *task) {
    PyObject *exc = NULL;
    while (task != NULL) {
        atoll_task *next = task->next;
        task->next = NULL;
        if (atoll_future_deliver_cancel(task) < 0) {
            if (exc == NULL) {
                exc = PyErr_GetRaisedException();
            } else {
                PyErr_WriteUnraisable(NULL);
            }
        }
        atoll_task_release(task);
        task = next;
    }
    PyErr_SetRaisedException(exc);
    return exc == NULL ? Py_NewRef(Py_None) : NULL;
}

/* Cancels everything that has not begun. */
static PyObject *pool_drain(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    atoll_pool *pool = cast(op)->pool;
    return tell_cancelled(!atoll_pool_is_foreign(pool) ? atoll_pool_drain(pool) : NULL);
}

/* kill(now): ends it by force. */
static PyObject *pool_kill(PyObject *op, PyObject *now) {
    atoll_pool *pool = cast(op)->pool;
    return tell_cancelled(!atoll_pool_is_foreign(pool) ? atoll_pool_kill(pool, now == Py_True) : NULL);
}

/* Interrupts every call that is running. */
static PyObject *pool_interrupt(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    if (!atoll_pool_is_foreign(cast(op)->pool)) {
        atoll_pool_interrupt(cast(op)->pool);
    }
    Py_RETURN_NONE;
}

/* Gives up the workers that run a call. */
static PyObject *pool_abandon(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    if (!atoll_pool_is_foreign(cast(op)->pool)) {
        atoll_pool_abandon(cast(op)->pool);
    }
    Py_RETURN_NONE;
}

/* join(timeout): whether no worker is left. */
static PyObject *pool_join(PyObject *op, PyObject *timeout) {
    atoll_pypool *self = cast(op);
    atoll_state *state = atoll_pypool_state(self);
    double deadline;
    if (state == NULL || atoll_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    atoll_blocking b;
    atoll_wait_result why;
    bool over;
    atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_POOL, 0);
    while (!(over = atoll_pool_join(self->pool, &b.waiter, b.deadline, &why)) && why != ATOLL_WAIT_TIMEOUT) {
        if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
            return NULL;
        }
    }
    atoll_blocking_end(&b);
    return PyBool_FromLong(over);
}

/* The thread that delivers: tells futures that are observed, until nothing more will come. */
static PyObject *pool_deliver(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    atoll_pypool *self = cast(op);
    atoll_state *state = atoll_pypool_state(self);
    for (bool over = false; state != NULL && !over && !atoll_pool_is_foreign(self->pool);) {
        atoll_blocking b;
        atoll_wait_result why;
        atoll_task *task;
        atoll_blocking_begin(&b, state, INFINITY, ATOLL_WAITS_POOL, 0);
        while ((task = atoll_pool_deliver(self->pool, &b.waiter, &over, &why)) == NULL && !over) {
            if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
                return NULL;
            }
        }
        atoll_blocking_end(&b);
        while (task != NULL) {
            atoll_task *next = task->next;
            task->next = NULL;
            atoll_future_deliver(task);
            atoll_task_release(task);
            task = next;
        }
    }
    Py_RETURN_NONE;
}

/* ---- questions ---- */

/* An exception that says why the pool is broken, or None. */
static PyObject *pool_why(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    atoll_pypool *self = cast(op);
    atoll_state *state = atoll_pypool_state(self);
    if (state == NULL) {
        return NULL;
    }
    if (!atomic_load(&self->pool->broken)) {
        Py_RETURN_NONE;
    }
    const atoll_message *why = &self->pool->why;
    if (self->pool->why_is_text) {
        const atoll_pool_settings *settings = self->pool->settings;
        PyObject *type = settings->refused.body.len != 0 ? state->not_shareable : state->error;
        return PyObject_CallFunction(type, "s#", (const char *)why->body.data, (Py_ssize_t)why->body.len);
    }
    atoll_excinfo_raise(state, why);
    return PyErr_GetRaisedException();
}

static PyObject *get_broken(PyObject *op, void *Py_UNUSED(closure)) {
    const atoll_pool *pool = cast(op)->pool;
    return PyBool_FromLong(atoll_pool_is_foreign(pool) || atomic_load(&pool->broken));
}

static PyObject *get_is_foreign(PyObject *op, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(atoll_pool_is_foreign(cast(op)->pool));
}

static PyObject *get_killed(PyObject *op, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(atomic_load(&cast(op)->pool->killed));
}

static PyObject *get_is_shut(PyObject *op, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(atomic_load(&cast(op)->pool->shut));
}

static PyObject *get_max_workers(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(cast(op)->pool->max_workers);
}

static PyObject *get_workers(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(atomic_load(&cast(op)->pool->workers));
}

static PyObject *get_finished(PyObject *op, void *Py_UNUSED(closure)) {
    atoll_pool *pool = cast(op)->pool;
    return PyBool_FromLong(atoll_pool_is_foreign(pool) ||
                           (atomic_load(&pool->shut) && atomic_load(&pool->live) == 0));
}

static PyObject *get_open(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(atomic_load(&cast(op)->pool->open));
}

static int set_delivers(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    cast(op)->delivers = value == Py_True;
    return 0;
}

static PyObject *get_delivers(PyObject *op, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(cast(op)->delivers);
}

static PyGetSetDef pool_getset[] = {
    {"broken", get_broken, NULL, "Whether no worker could be made ready, or the process was forked.", NULL},
    {"is_foreign", get_is_foreign, NULL, "Whether it belongs to the process that this one was forked from.",
     NULL},
    {"killed", get_killed, NULL, "Whether kill() was called.", NULL},
    {"is_shut", get_is_shut, NULL, "Whether shut() was called.", NULL},
    {"max_workers", get_max_workers, NULL, "How many workers there may be.", NULL},
    {"workers", get_workers, NULL, "How many workers there are.", NULL},
    {"finished", get_finished, NULL, "Whether it is shut and no worker is left.", NULL},
    {"open", get_open, NULL, "How many calls have not ended.", NULL},
    {"delivers", get_delivers, set_delivers, "Whether a thread was started to deliver.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef pool_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))atoll_pypool_method_submit, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"prepare", atoll_pypool_method_prepare, METH_O, NULL},
    {"submit_chunk", (PyCFunction)(void (*)(void))atoll_pypool_method_submit_chunk, METH_FASTCALL, NULL},
    {"shut", pool_shut, METH_VARARGS, NULL},
    {"drain", pool_drain, METH_NOARGS, NULL},
    {"interrupt", pool_interrupt, METH_NOARGS, NULL},
    {"abandon", pool_abandon, METH_NOARGS, NULL},
    {"kill", pool_kill, METH_O, NULL},
    {"join", pool_join, METH_O, NULL},
    {"deliver", pool_deliver, METH_NOARGS, NULL},
    {"why", pool_why, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pool_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(atoll_pypool, weakrefs), READONLY, NULL},
    {"owner", T_OBJECT, offsetof(atoll_pypool, owner), 0,
     "A weak reference to what it belongs to, which calls shut(); None afterwards."},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(pool_doc, "What InterpreterPoolExecutor is made of: see atoll._pool.executor.");

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, (void *)pool_doc},
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_traverse, pool_traverse},
    {Py_tp_clear, pool_clear},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_getset},
    {Py_tp_members, (void *)pool_members},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "atoll._atoll._Pool",
    .basicsize = sizeof(atoll_pypool),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

int atoll_pypool_add(atoll_state *state, PyObject *module) {
    atoll_pools_init();
    PyObject *type = PyType_FromModuleAndSpec(module, &pool_spec, NULL);
    int rc = type != NULL ? PyModule_AddObjectRef(module, "_Pool", type) : -1;
    Py_XDECREF(type);
    rc = rc < 0 ? -1 : atoll_pyrow_add(state, module);
    return rc < 0 || atoll_results_add(module) < 0 ? -1 : atoll_future_add(module, atoll_future_getset);
}
