/* Which signals wait for their handlers written in Python.
 *
 * CPython keeps one record for each signal, in _PyRuntime: whether it has arrived, and its handler.  Where these records
 * lie is private, so they are looked for by what is in them: the handlers of all signals, which getsignal() gives, in a row.
 * That many words in their places are nothing else.  Without them nobody knows; then the watcher asks without
 * knowing (signals.c), and system calls are not interrupted.
 *
 * Found once, attached to the main interpreter, in which no handler changes meanwhile; read by any thread.
 */
#include "py/interp/tripped.h"

#include "port/port.h"

#include <string.h>

static _Atomic(const atoll_signal_record *) records;

/* The handlers, as borrowed pointers that are only compared: Py_None where there is none.  0, or -1 with an exception. */
static int collect(PyObject *handlers[ATOLL_SIGNALS]) {
    PyObject *module = PyImport_ImportModule("_signal");
    int rc = module != NULL ? 0 : -1;
    for (int number = 1; rc == 0 && number < ATOLL_SIGNALS; number++) {
        handlers[number] = PyObject_CallMethod(module, "getsignal", "i", number);
        rc = handlers[number] != NULL ? 0 : -1;
        Py_XDECREF(handlers[number]); /* CPython keeps it */
    }
    Py_XDECREF(module);
    return rc;
}

static bool fits(const char *place, PyObject *const handlers[ATOLL_SIGNALS]) {
    int known = 0;
    for (int number = 1; number < ATOLL_SIGNALS; number++) {
        atoll_signal_record record;
        memcpy(&record, place + (size_t)number * sizeof record, sizeof record);
        if (record.tripped != 0 && record.tripped != 1) {
            return false;
        }
        if (record.handler != handlers[number] && !(record.handler == NULL && handlers[number] == Py_None)) {
            return false;
        }
        known += record.handler != NULL && record.handler != Py_None;
    }
    return known > 0;
}

void atoll_tripped_init(void) {
    static bool done;
    if (done) {
        return;
    }
    done = true;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *handlers[ATOLL_SIGNALS] = {NULL};
    size_t size = atoll_dl_symbol_size(atoll_runtime);
    size_t need = ATOLL_SIGNALS * sizeof(atoll_signal_record);
    if (collect(handlers) == 0) {
        for (size_t at = 0; at + need <= size; at += sizeof(void *)) {
            if (fits(atoll_runtime + at, handlers)) {
                atomic_store(&records, (const void *)(atoll_runtime + at));
                break;
            }
        }
    }
    PyErr_Clear();
    PyErr_SetRaisedException(exc);
}

bool atoll_tripped_is_known(void) { return atomic_load_explicit(&records, memory_order_acquire) != NULL; }

bool atoll_tripped(void) {
    const atoll_signal_record *record = atomic_load_explicit(&records, memory_order_acquire);
    bool tripped = false;
    for (int number = 1; record != NULL && number < ATOLL_SIGNALS; number++) {
        tripped |= ((const volatile atoll_signal_record *)record)[number].tripped != 0;
    }
    return tripped;
}
