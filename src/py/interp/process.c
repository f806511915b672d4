/* What an interpreter takes from the process when it is made, and what becomes of it later.
 *
 * CPython copies the environment into a dict (posix.environ, which os.environ and os.environb are made on) and the time zone into
 * constants of the module `time`.  A prewarmed interpreter has what was there when it was made; whoever takes it compares
 * two marks, which costs less than a microsecond, and renews what has changed: the dict in place, as os may have been imported.
 * The current directory, the locale, umask and limits are the process's own and need nothing.
 *
 * The mark is a hash of every string of the environment: setenv() gives a changed variable another string, but
 * putenv() lets a program write into the one it has.  Reading the environment while another thread changes it is as safe
 * as in CPython, which does the same whenever it makes an interpreter: the C library has no lock for that.
 *
 * Streams.  Where a standard stream is closed when Python begins, sys has None for it.  CPython asks the same whenever it makes an
 * interpreter; by then a file of the program's, a socket or a database, may have that number, and what the interpreter prints would be
 * written into it.  So an interpreter has those that main has.
 *
 * Stacks.  A thread gets RLIMIT_STACK's size, which may be small, and with no limit 2 MiB, of which LAPACK's routines alone
 * take more.  Threads of Atoll's own ask for enough (port.h).  An interpreter that Atoll makes has its threading.stack_size()
 * raised when the default is too small.  call_in_thread() starts a thread of its caller's threading, whose size it
 * raises for that moment.
 *
 * Every function but atoll_process_look() runs attached.  No locks.
 */
#include "py/interp/process.h"

#include "core/base/base.h"
#include "port/port.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t add_text(uint64_t hash, const char *text) {
    return atoll_mix_text(hash, text, text != NULL ? strlen(text) : 0);
}

atoll_process_mark atoll_process_look(void) {
    atoll_process_mark mark = {0};
    for (char **at = environ; at != NULL && *at != NULL; at++) {
        mark.environment = add_text(mark.environment, *at);
    }
    mark.zone = atoll_mix_word(atoll_mix_word(0, (uint64_t)timezone), (uint64_t)daylight);
    mark.zone = add_text(add_text(mark.zone, tzname[0]), tzname[1]);
    return mark;
}

/* The environment as CPython reads it: of two variables with one name the first, and none without a name and `=`. */
static PyObject *read_environment(void) {
    PyObject *dict = PyDict_New();
    for (char **at = environ; dict != NULL && at != NULL && *at != NULL; at++) {
        const char *equals = strchr(*at, '=');
        if (equals == NULL) {
            continue;
        }
        PyObject *name = PyBytes_FromStringAndSize(*at, equals - *at);
        PyObject *value = PyBytes_FromString(equals + 1);
        if (name == NULL || value == NULL || PyDict_SetDefault(dict, name, value) == NULL) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
        Py_XDECREF(name);
    }
    return dict;
}

int atoll_process_renew_environment(void) {
    PyObject *posix = PyImport_ImportModule("posix");
    PyObject *known = posix != NULL ? PyObject_GetAttrString(posix, "environ") : NULL;
    PyObject *now = known != NULL ? read_environment() : NULL;
    int rc = -1;
    if (now != NULL && !PyDict_Check(known)) {
        PyErr_SetString(PyExc_TypeError, "posix.environ is not a dict");
    } else if (now != NULL) {
        PyDict_Clear(known);
        rc = PyDict_Update(known, now);
    }
    Py_XDECREF(now);
    Py_XDECREF(known);
    Py_XDECREF(posix);
    return rc;
}

int atoll_process_renew_zone(void) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *time = modules != NULL ? PyMapping_GetItemString(modules, "time") : NULL;
    if (time == NULL) {
        PyErr_Clear(); /* it will read the zone when it is imported */
        return 0;
    }
    PyObject *done = PyObject_CallMethod(time, "tzset", NULL);
    Py_DECREF(time);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static const char *const streams[][2] = {
    {"__stdin__", "stdin"}, {"__stdout__", "stdout"}, {"__stderr__", "stderr"}};
enum { STREAMS = sizeof streams / sizeof *streams };
static _Atomic(unsigned) missing; /* a bit for each */

void atoll_process_note_streams(void) {
    unsigned found = 0;
    for (unsigned i = 0; i < STREAMS; i++) {
        /* One that the program has put there since is a sign that the number is what it should be. */
        if (PySys_GetObject(streams[i][0]) == Py_None && PySys_GetObject(streams[i][1]) == Py_None) {
            found |= 1U << i;
        }
    }
    atomic_store(&missing, found);
}

int atoll_process_settle_streams(void) {
    unsigned none = atomic_load(&missing);
    int rc = 0;
    for (unsigned i = 0; i < STREAMS && rc == 0; i++) {
        for (int k = 0; k < 2 && rc == 0 && (none & 1U << i) != 0; k++) {
            rc = PySys_SetObject(streams[i][k], Py_None);
        }
    }
    return rc;
}

/* _thread.stack_size(), or stack_size(size) when it is to be set; SIZE_MAX when that fails. */
static size_t stack_size(const size_t *set) {
    PyObject *module = PyImport_ImportModule("_thread");
    PyObject *was = NULL;
    if (module != NULL) {
        was = set != NULL ? PyObject_CallMethod(module, "stack_size", "n", (Py_ssize_t)*set)
                          : PyObject_CallMethod(module, "stack_size", NULL);
    }
    size_t size = was != NULL ? PyLong_AsSize_t(was) : SIZE_MAX;
    PyErr_Clear();
    Py_XDECREF(was);
    Py_XDECREF(module);
    return size;
}

size_t atoll_process_stack_size(void) {
    size_t size = stack_size(NULL);
    return size != SIZE_MAX ? size : 0;
}

bool atoll_process_stack_raise(size_t *before) {
    const size_t asked = ATOLL_STACK_ASKED;
    *before = atoll_process_stack_size();
    if ((*before != 0 ? *before : atoll_thread_stack_default()) >= ATOLL_STACK_LEAST) {
        return false;
    }
    return stack_size(&asked) != SIZE_MAX;
}

void atoll_process_stack_restore(size_t before) {
    if (stack_size(NULL) == ATOLL_STACK_ASKED) {
        (void)stack_size(&before);
    }
}
