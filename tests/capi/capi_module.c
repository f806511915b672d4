/* An extension module that uses atoll.h, for the tests.  Compiled twice: with DECLARES it says that it may be shared by interpreters, else each
 * interpreter has a clone. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <atoll.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capi_data.h"

/* PyGILState_GetThisThreadState(), which a module that interpreters share must not be linked with: it would be cloned. */
static PyThreadState *kept_state(void) {
    PyThreadState *(*function)(void);
    *(void **)&function = dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
    return function();
}

/* What the functions of the API return, as (code, message). */
static PyObject *outcome(int code) { return Py_BuildValue("is", code, code != 0 ? atoll_message() : ""); }

static int capi_run(const char *source) {
    PyObject *module = PyImport_AddModule("__main__"); /* borrowed */
    PyObject *dict = module != NULL ? PyModule_GetDict(module) : NULL;
    PyObject *done = dict != NULL ? PyRun_String(source, Py_file_input, dict, dict) : NULL;
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int capi_visit(atoll_interp *interp, const char *source) {
    atoll_visit *visit;
    int code = atoll_enter(interp, &visit);
    if (code == 0) {
        (void)capi_run(source); /* what it raises is what comes of the visit */
        code = atoll_leave(visit);
    }
    return code;
}

/* visit(interp, source): from here.  The code and message; raises what is raised. */
static PyObject *visit(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *object;
    const char *source;
    atoll_interp *interp;
    if (!PyArg_ParseTuple(args, "Os", &object, &source) || atoll_from_object(object, &interp) < 0) {
        return NULL;
    }
    PyThreadState *before = PyThreadState_Get();
    int code = capi_visit(interp, source);
    atoll_release(interp);
    if (PyThreadState_Get() != before || kept_state() != before) {
        Py_FatalError("another thread state is attached");
    }
    return code < 0 ? NULL : outcome(code);
}

/* visit_released(interp, source): with the GIL given back. */
static PyObject *visit_released(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *object;
    const char *source;
    atoll_interp *interp;
    if (!PyArg_ParseTuple(args, "Os", &object, &source) || atoll_from_object(object, &interp) < 0) {
        return NULL;
    }
    PyThreadState *here = PyEval_SaveThread();
    int code = capi_visit(interp, source);
    char text[200];
    snprintf(text, sizeof text, "%s", code < 0 ? atoll_message() : "");
    bool same = atoll_current_id() == -1 && kept_state() == here;
    PyEval_RestoreThread(here);
    atoll_release(interp);
    return Py_BuildValue("isO", code, text, same ? Py_True : Py_False);
}

/* What a thread does that knows no Python. */
typedef struct {
    atoll_interp *interp;
    const char *source;
    int times;
    int code;
    bool same; /* nothing was attached afterwards */
    char text[2000];
} work;

static void *run_work(void *raw) {
    work *w = raw;
    w->same = true;
    for (int i = 0; i < w->times && w->code == 0; i++) {
        w->code = capi_visit(w->interp, w->source);
        w->same = w->same && atoll_current_id() == -1 && kept_state() == NULL;
    }
    snprintf(w->text, sizeof w->text, "%s", w->code < 0 ? atoll_message() : "");
    return NULL;
}

/* visit_in_threads(interps, source, times): each from a thread of its own: a list of (code, message, nothing was left). */
static PyObject *visit_in_threads(PyObject *Py_UNUSED(self), PyObject *args) {
    enum { MOST = 32 };
    PyObject *objects;
    const char *source;
    int times;
    static const work none;
    work works[MOST];
    pthread_t threads[MOST];
    if (!PyArg_ParseTuple(args, "O!si", &PyList_Type, &objects, &source, &times)) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(objects);
    for (Py_ssize_t i = 0; i < n && i < MOST; i++) {
        works[i] = none;
        works[i].source = source;
        works[i].times = times;
        if (atoll_from_object(PyList_GET_ITEM(objects, i), &works[i].interp) < 0) {
            return NULL;
        }
    }
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t i = 0; i < n; i++) {
        pthread_create(&threads[i], NULL, run_work, &works[i]);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        atoll_release(works[i].interp);
    }
    Py_END_ALLOW_THREADS;
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyObject *item =
            Py_BuildValue("isO", works[i].code, works[i].text, works[i].same ? Py_True : Py_False);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

/* nest(interps): enters one inside the other; the ids that were current on the way in and out. */
static PyObject *nest(PyObject *Py_UNUSED(self), PyObject *args) {
    enum { MOST = 16 };
    PyObject *objects;
    atoll_interp *interps[MOST];
    atoll_visit *visits[MOST];
    long long ids[2 * MOST + 1];
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &objects)) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(objects);
    int found = 0;
    for (Py_ssize_t i = 0; i < n && i < MOST; i++) {
        if (atoll_from_object(PyList_GET_ITEM(objects, i), &interps[i]) < 0) {
            return NULL;
        }
    }
    int code = 0;
    Py_ssize_t depth = 0;
    while (depth < n && code == 0) {
        code = atoll_enter(interps[depth], &visits[depth]);
        if (code == 0) {
            ids[found++] = (long long)atoll_current_id();
            depth++;
        }
    }
    if (code == 0 && n > 1 && atoll_leave(visits[0]) != ATOLL_INVALID) { /* the outermost first */
        Py_FatalError("the outermost visit could be left first");
    }
    PyErr_Clear();
    while (depth > 0) {
        depth--;
        code = atoll_leave(visits[depth]);
        ids[found++] = (long long)atoll_current_id();
        PyObject *raised = PyErr_GetRaisedException();
        if (atoll_leave(visits[depth]) != ATOLL_INVALID || atoll_leave(NULL) != ATOLL_INVALID) {
            Py_FatalError("a visit could be left twice");
        }
        PyErr_SetRaisedException(raised);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        atoll_release(interps[i]);
    }
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < found; i++) {
        PyObject *item = PyLong_FromLongLong(ids[i]);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return code < 0 ? NULL : list;
}

/* create(name, extensions, flags, memory_limit, cpu_limit, size): the object; size 0: as it is to be. */
static PyObject *create(PyObject *Py_UNUSED(self), PyObject *args) {
    atoll_options options = {.size = sizeof options};
    Py_ssize_t size = 0;
    unsigned long long memory_limit = 0;
    if (!PyArg_ParseTuple(args, "|zzIKdn", &options.name, &options.extensions, &options.flags, &memory_limit,
                          &options.cpu_limit, &size)) {
        return NULL;
    }
    options.memory_limit = memory_limit;
    options.size = size != 0 ? (size_t)size : sizeof options;
    atoll_interp *interp;
    if (atoll_create(&options, &interp) < 0) {
        return NULL;
    }
    PyObject *object = atoll_object(interp);
    atoll_release(interp);
    return object;
}

/* close(interp, timeout, force) */
static PyObject *close_interp(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *object;
    double timeout = -1;
    int force = 0;
    atoll_interp *interp;
    if (!PyArg_ParseTuple(args, "O|dp", &object, &timeout, &force) ||
        atoll_from_object(object, &interp) < 0) {
        return NULL;
    }
    int code = atoll_close(interp, timeout, force);
    atoll_release(interp);
    return code < 0 ? NULL : outcome(code);
}

/* find(id): the code, and the id of what was found. */
static PyObject *find(PyObject *Py_UNUSED(self), PyObject *args) {
    long long id;
    atoll_interp *interp;
    if (!PyArg_ParseTuple(args, "L", &id)) {
        return NULL;
    }
    int code = atoll_find(id, &interp);
    long long found = code == 0 ? (long long)atoll_id(interp) : -1;
    if (code < 0) {
        PyErr_Clear();
    }
    atoll_release(interp);
    return Py_BuildValue("iL", code, found);
}

/* create_in_thread(): a thread that knows no Python makes an interpreter, uses it and closes it: (code, message). */
static void *make_one(void *raw) {
    work *w = raw;
    atoll_interp *interp;
    w->code = atoll_create(NULL, &interp);
    if (w->code == 0) {
        w->code = capi_visit(interp, w->source);
        int code = atoll_close(interp, -1, 0);
        w->code = w->code == 0 ? code : w->code;
    }
    atoll_release(interp);
    w->same = atoll_current_id() == -1 && kept_state() == NULL;
    snprintf(w->text, sizeof w->text, "%s", w->code < 0 ? atoll_message() : "");
    return NULL;
}

static PyObject *create_in_thread(PyObject *Py_UNUSED(self), PyObject *args) {
    work w = {0};
    pthread_t thread;
    if (!PyArg_ParseTuple(args, "s", &w.source)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    pthread_create(&thread, NULL, make_one, &w);
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS;
    return Py_BuildValue("isO", w.code, w.text, w.same ? Py_True : Py_False);
}

/* adopted(shares_gil, function): an interpreter that CPython's function has made is adopted; function gets its id; it is ended. */
static PyObject *adopted(PyObject *Py_UNUSED(self), PyObject *args) {
    int shares_gil;
    PyObject *function;
    if (!PyArg_ParseTuple(args, "pO", &shares_gil, &function)) {
        return NULL;
    }
    const PyInterpreterConfig config = {
        .use_main_obmalloc = shares_gil,
        .allow_threads = 1,
        .allow_daemon_threads = 1,
        .check_multi_interp_extensions = !shares_gil,
        .gil = shares_gil ? PyInterpreterConfig_SHARED_GIL : PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *here = PyThreadState_Get();
    PyThreadState *there;
    PyStatus status = Py_NewInterpreterFromConfig(&there, &config);
    if (PyStatus_Exception(status)) {
        PyErr_SetString(PyExc_RuntimeError, status.err_msg);
        return NULL;
    }
    atoll_interp *interp;
    int code = atoll_import();
    code = code == 0 ? atoll_adopt(&interp) : code;
    if (code < 0) {
        PyErr_Print();
        Py_FatalError("cannot adopt");
    }
    long long id = (long long)atoll_id(interp);
    PyThreadState_Swap(here);
    PyObject *result = PyObject_CallFunction(function, "L", id);
    PyThreadState_Swap(there);
    Py_EndInterpreter(there);
    PyThreadState_Swap(here);
    atoll_visit *visit;
    if (result != NULL && atoll_enter(interp, &visit) != ATOLL_NOT_FOUND) {
        Py_FatalError("an interpreter that has ended can be entered");
    }
    if (result != NULL) {
        PyErr_Clear();
    }
    atoll_release(interp);
    return result;
}

/* stay(interp, entered, go): a thread that knows no Python enters, writes to the one descriptor, and stays, without the GIL, until it can read from the
 * other one; it is not waited for. */
typedef struct {
    atoll_interp *interp;
    int entered;
    int go;
    int code;
    bool with_gil;
} guest;

static void *be_guest(void *raw) {
    guest *g = raw;
    atoll_visit *visit;
    char byte = '!';
    g->code = atoll_enter(g->interp, &visit);
    if (g->code == 0) {
        PyThreadState *tstate = g->with_gil ? NULL : PyEval_SaveThread();
        byte = write(g->entered, &byte, 1) == 1 && read(g->go, &byte, 1) == 1 ? byte : '?';
        if (tstate != NULL) {
            PyEval_RestoreThread(tstate);
        }
        g->code = atoll_leave(visit);
    }
    byte = g->code == 0 ? 'y' : g->code == ATOLL_INTERRUPTED ? 'i' : 'n';
    (void)!write(g->entered, &byte, 1);
    return NULL;
}

static PyObject *stay(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *object;
    pthread_t thread;
    guest *g = calloc(1, sizeof *g); /* never freed */
    int with_gil = 0;
    if (!PyArg_ParseTuple(args, "Oii|p", &object, &g->entered, &g->go, &with_gil) ||
        atoll_from_object(object, &g->interp) < 0) {
        return NULL;
    }
    g->with_gil = with_gil;
    pthread_create(&thread, NULL, be_guest, g);
    pthread_detach(thread);
    Py_RETURN_NONE;
}

/* A thread that knows no Python ends inside of an interpreter, with the GIL given back. */
static void *end_inside(void *raw) {
    atoll_visit *visit;
    if (atoll_enter(raw, &visit) == 0) {
        (void)capi_run("x = 1");
        (void)PyEval_SaveThread();
    }
    return NULL;
}

/* thread_ends_in(interp) */
static PyObject *thread_ends_in(PyObject *Py_UNUSED(self), PyObject *object) {
    atoll_interp *interp;
    pthread_t thread;
    if (atoll_from_object(object, &interp) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    pthread_create(&thread, NULL, end_inside, interp);
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS;
    atoll_release(interp);
    Py_RETURN_NONE;
}

/* enter(interp): what that returns, and the exception or None. */
static PyObject *enter(PyObject *Py_UNUSED(self), PyObject *object) {
    atoll_interp *interp;
    atoll_visit *visit;
    if (atoll_from_object(object, &interp) < 0) {
        return NULL;
    }
    int code = atoll_enter(interp, &visit);
    if (code == 0) {
        (void)atoll_leave(visit);
    }
    atoll_release(interp);
    PyObject *raised = PyErr_GetRaisedException();
    return Py_BuildValue("iN", code, raised != NULL ? raised : Py_NewRef(Py_None));
}

static PyObject *current_id(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromLongLong((long long)atoll_current_id());
}

static PyMethodDef methods[] = {
    {"visit", visit, METH_VARARGS, NULL},
    {"visit_released", visit_released, METH_VARARGS, NULL},
    {"visit_in_threads", visit_in_threads, METH_VARARGS, NULL},
    {"nest", nest, METH_VARARGS, NULL},
    {"create", create, METH_VARARGS, NULL},
    {"close", close_interp, METH_VARARGS, NULL},
    {"find", find, METH_VARARGS, NULL},
    {"create_in_thread", create_in_thread, METH_VARARGS, NULL},
    {"adopted", adopted, METH_VARARGS, NULL},
    {"stay", stay, METH_VARARGS, NULL},
    {"thread_ends_in", thread_ends_in, METH_O, NULL},
    {"enter", enter, METH_O, NULL},
    {"current_id", current_id, METH_NOARGS, NULL},
    {"released", count_released, METH_NOARGS, NULL},
    {"put", put, METH_VARARGS, NULL},
    {"get", get, METH_VARARGS, NULL},
    {"put_stream", put_stream, METH_O, NULL},
    {"put_in_thread", put_in_thread, METH_VARARGS, NULL},
    {"keep_putting", keep_putting, METH_O, NULL},
    {"get_in_thread", get_in_thread, METH_VARARGS, NULL},
    {"look", look, METH_O, NULL},
    {"queue", new_queue, METH_VARARGS, NULL},
    {"find_queue", find_queue, METH_VARARGS, NULL},
    {"shutdown", shut_queue, METH_VARARGS, NULL},
    {"share", share, METH_VARARGS, NULL},
    {"increase", increase, METH_O, NULL},
    {"register", register_any, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int begin(PyObject *module) {
    if (atoll_import() < 0) {
        return -1;
    }
    PyObject *type = PyType_FromSpec(&point_spec);
    int rc = type != NULL ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    if (rc == 0) {
        rc = atoll_register(type, encode_point, decode_point);
    }
    Py_XDECREF(type);
    return rc;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)begin},
#ifdef DECLARES
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "capi_module", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC INIT_NAME(void) { return PyModuleDef_Init(&definition); }
