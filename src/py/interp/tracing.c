/* tracemalloc beside interpreters.
 *
 * tracemalloc hooks into the process's allocators.  Before CPython 3.15 its tables are guarded by the GIL, of which every
 * interpreter here has one of its own, and it enters the main interpreter from wherever memory is allocated: the tables are
 * damaged or two threads wait for each other, in CPython's own interpreters as well.  So tracing and interpreters of Atoll's
 * exclude each other: with the one, the other is refused.
 *
 * Tracing is switched on by Python code, by -X tracemalloc or by PYTHONTRACEMALLOC.  The latter two come before Atoll does.
 * Code is stopped where it begins: the functions `start` and `stop` of _tracemalloc in the main interpreter are replaced, also
 * where `tracemalloc` has got them by then.  Between the look at the list of interpreters and the start, another thread may create one, which
 * looks whether tracing is on; it is the GIL of main that both need, but for a pool's workers, which look twice.
 * (In an interpreter start() is never allowed: atoll._extension.quirks.)
 *
 * Since 3.15 they go together.  But tracing that was started before Atoll puts back the allocators from before Atoll when it stops, so that the
 * memory of interpreters is not counted any more, nor limited: in main `stop` then has that seen to at once (memory/blocks.c).
 */
#include "py/interp/tracing.h"

#include "core/registry/registry.h"
#include "py/facade.h"
#include "py/memory/memory.h"

const char atoll_tracing_refusal[] =
    "no interpreter can be created while tracemalloc is tracing: before Python 3.15 it cannot trace a "
    "process that has "
    "several (call tracemalloc.stop(); run without -X tracemalloc and PYTHONTRACEMALLOC)";

/* What is known.  CPython is asked by threads with a thread state only: on any other it would wait for the main
 * interpreter's GIL to answer, which workers must not, and in a forked child's that may never be given back. */
static _Atomic(bool) is_at_work;

bool atoll_tracing_refuses(void) {
    if (!ATOLL_TRACES_ONE_GIL) {
        return false;
    }
    if (atoll_thread_state_attached() != NULL) {
        atomic_store(&is_at_work, atoll_is_tracing());
    }
    return atomic_load(&is_at_work);
}

static bool is_owned(const atoll_entry *entry) { return entry->owned; }

static PyObject *start(PyObject *original, PyObject *args) {
    atoll_entry *entry = atoll_registry_newest(INT64_MAX, is_owned);
    if (entry != NULL) {
        atoll_entry_release(entry);
        PyErr_SetString(PyExc_RuntimeError,
                        "tracemalloc cannot be started while there are interpreters: before Python 3.15 it "
                        "cannot trace a "
                        "process that has several (close them, shut down pools, call atoll.prewarm(0))");
        return NULL;
    }
    PyObject *result = PyObject_Call(original, args, NULL);
    (void)atoll_tracing_refuses(); /* it is known now */
    return result;
}

static PyObject *stop(PyObject *original, PyObject *Py_UNUSED(unused)) {
    PyObject *result = PyObject_CallNoArgs(original);
    (void)atoll_tracing_refuses();
    atoll_blocks_check();
    return result;
}

static PyMethodDef guarded_stop = {"stop", stop, METH_NOARGS, NULL};
static PyMethodDef guarded_start = {"start", start, METH_VARARGS, NULL};

/* Puts one in the place of the module's function, also where `tracemalloc` has got that by now.  0, or -1. */
static int guard(PyObject *low, PyMethodDef *definition) {
    PyObject *original = PyObject_GetAttrString(low, definition->ml_name);
    PyObject *does = original != NULL ? PyCFunction_New(definition, original) : NULL;
    PyObject *guarded = does != NULL ? atoll_facade_new(original, does) : NULL;
    int rc = guarded != NULL ? PyObject_SetAttrString(low, definition->ml_name, guarded) : -1;
    PyObject *high =
        rc == 0 ? PyDict_GetItemString(PyImport_GetModuleDict(), "tracemalloc") : NULL; /* borrowed */
    if (high != NULL) {
        rc = PyObject_SetAttrString(high, definition->ml_name, guarded);
    }
    Py_XDECREF(guarded);
    Py_XDECREF(does);
    Py_XDECREF(original);
    return rc;
}

/* Whether what atoll_is_tracing() relies on holds: `low` is asked as well.  0, or -1 with an exception. */
static int prove(PyObject *low) {
    PyObject *asked = PyObject_CallMethod(low, "is_tracing", NULL);
    int rc = asked != NULL ? 0 : -1;
    if (rc == 0 && (asked == Py_True) != atoll_is_tracing()) {
        PyErr_SetString(PyExc_ImportError,
                        "atoll does not know this build of Python: PyTraceMalloc_Untrack() and "
                        "tracemalloc.is_tracing() disagree");
        rc = -1;
    }
    Py_XDECREF(asked);
    return rc;
}

int atoll_tracing_init(void) {
    PyObject *low = PyImport_ImportModule("_tracemalloc");
    int rc = low != NULL ? guard(low, &guarded_stop) : -1;
    if (rc == 0 && ATOLL_TRACES_ONE_GIL) {
        rc = prove(low) < 0 ? -1 : guard(low, &guarded_start);
    }
    Py_XDECREF(low);
    (void)atoll_tracing_refuses();
    return rc;
}
