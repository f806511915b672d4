/* tracemalloc beside interpreters.
 *
 * tracemalloc hooks into the process's allocators.  Before CPython 3.15 its tables are guarded by the GIL, of which every
 * interpreter here has one of its own, and it enters the main interpreter from wherever memory is allocated: the tables are
 * damaged or two threads wait for each other, in CPython's own interpreters as well.  So tracing and interpreters of Atoll's
 * exclude each other: with the one, the other is refused.
 *
 * Tracing is switched on by Python code, by -X tracemalloc or by PYTHONTRACEMALLOC.  The latter two come before Atoll does.
 * Code is stopped where it begins: the function `start` of _tracemalloc in the main interpreter is replaced, also
 * where `tracemalloc` has got it by then.  Between the look at the list of interpreters and the start, another thread may create one, which
 * looks whether tracing is on; it is the GIL of main that both need, but for a pool's workers, which look twice.
 * (In an interpreter start() is never allowed: atoll._quirks.)
 */
#include "py/tracing.h"

#include "core/registry.h"

const char atoll_tracing_refusal[] =
    "no interpreter can be created while tracemalloc is tracing: before Python 3.15 it cannot trace a "
    "process that has "
    "several (call tracemalloc.stop(); run without -X tracemalloc and PYTHONTRACEMALLOC)";

bool atoll_tracing_refuses(void) { return ATOLL_TRACES_ONE_GIL && atoll_is_tracing(); }

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
    return PyObject_Call(original, args, NULL);
}

static PyMethodDef start_def = {"start", start, METH_VARARGS,
                                "start($module, nframe=1, /)\n--\n\n"
                                "Start tracing Python memory allocations."};

int atoll_tracing_init(void) {
    if (!ATOLL_TRACES_ONE_GIL) {
        return 0;
    }
    PyObject *low = PyImport_ImportModule("_tracemalloc");
    PyObject *original = low != NULL ? PyObject_GetAttrString(low, "start") : NULL;
    bool is_first =
        original != NULL && !(PyCFunction_Check(original) && PyCFunction_GetFunction(original) == start);
    PyObject *guarded = is_first ? PyCFunction_New(&start_def, original) : NULL;
    int rc = guarded != NULL                 ? PyObject_SetAttrString(low, "start", guarded)
             : original != NULL && !is_first ? 0
                                             : -1;
    PyObject *high =
        guarded != NULL ? PyDict_GetItemString(PyImport_GetModuleDict(), "tracemalloc") : NULL; /* borrowed */
    if (rc == 0 && high != NULL) {
        rc = PyObject_SetAttrString(high, "start", guarded);
    }
    Py_XDECREF(guarded);
    Py_XDECREF(original);
    Py_XDECREF(low);
    return rc;
}
