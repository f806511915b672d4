/* What the C library goes on using when it is given it: memory of this library, and functions in it.
 *
 * With HOOKS, functions that it calls later, or keys that it compares, without a way to take them back.
 */
#define _GNU_SOURCE
#include "ext.h"

#include <errno.h>
#include <marshal.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#ifdef HOOKS
#include <aio.h>
#include <search.h>
#endif

static char name[] = "ext_lends";
static char states[2][256];
static char stack[1 << 16];
static char memory[100];
static char *variables[4096];
static struct _frozen frozen[2]; /* the last is empty */
static FILE *stream;

static ssize_t write_out(void *Py_UNUSED(cookie), const char *bytes, size_t size) {
    return write(STDERR_FILENO, bytes, size);
}

static int open_stream(FILE *opened) {
    stream = opened;
    return stream != NULL && fputs("text", stream) >= 0 ? 0 : -1;
}

static int lend_environment(void) {
    int n = 0;
    while (environ[n] != NULL && n < 4095) {
        variables[n] = environ[n];
        n++;
    }
    environ = variables;
    return 0;
}

/* The numbers go on where they were when a state is set again. */
static int lend_states(void) {
    char *before = initstate(1, states[0], sizeof states[0]);
    long first = random();
    long second = random();
    if (before == NULL || initstate(1, states[1], sizeof states[1]) == NULL || random() != first ||
        setstate(states[0]) == NULL || random() == first || setstate(states[1]) == NULL) {
        return -1;
    }
    return random() == second ? 0 : -1;
}

static int lend_modules(void) {
    PyObject *code = Py_CompileString("print('frozen')", "frozen", Py_file_input);
    PyObject *bytes = code != NULL ? PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION) : NULL;
    static unsigned char copy[1000];
    Py_ssize_t size = bytes != NULL ? PyBytes_GET_SIZE(bytes) : 0;
    Py_XDECREF(code);
    if (size == 0 || size > (Py_ssize_t)sizeof copy) {
        return -1;
    }
    memcpy(copy, PyBytes_AS_STRING(bytes), (size_t)size);
    Py_DECREF(bytes);
    frozen[0] = (struct _frozen){.name = "ext_lends_frozen", .code = copy, .size = (int)size};
    PyImport_FrozenModules = frozen;
    return 0;
}

#if defined(HOOKS) && PY_VERSION_HEX >= 0x030D0000

static int trace(PyObject *Py_UNUSED(object), PyRefTracerEvent Py_UNUSED(event), void *traced) {
    ++*(long *)traced;
    return 0;
}

static int lend_tracer(void) {
    static long traced;
    return PyRefTracer_SetTracer(trace, &traced);
}

#else

static int lend_tracer(void) { return -1; }

#endif

/* lend(what) */
static PyObject *lend(PyObject *Py_UNUSED(self), PyObject *arg) {
    const char *what = PyUnicode_AsUTF8(arg);
    int rc = -1;
    if (what == NULL) {
        return NULL;
    }
    if (strcmp(what, "log") == 0) {
        openlog(name, 0, LOG_USER);
        rc = 0;
    } else if (strcmp(what, "random numbers") == 0) {
        rc = lend_states();
    } else if (strcmp(what, "signal stack") == 0) {
        rc = sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    } else if (strcmp(what, "environment") == 0) {
        rc = lend_environment();
    } else if (strcmp(what, "variable") == 0) {
        static char variable[] = "EXT_LENDS=literal";
        environ[0] = variable;
        rc = 0;
    } else if (strcmp(what, "program name") == 0) {
        program_invocation_name = name;
        rc = 0;
    } else if (strcmp(what, "cookie stream") == 0) {
        rc = open_stream(fopencookie(memory, "w", (cookie_io_functions_t){.write = write_out}));
    } else if (strcmp(what, "memory stream") == 0) {
        rc = open_stream(fmemopen(memory, sizeof memory, "w"));
    } else if (strcmp(what, "closed stream") == 0) {
        rc = fclose(stream);
    } else if (strcmp(what, "frozen modules") == 0) {
        rc = lend_modules();
    } else if (strcmp(what, "tracer of references") == 0) {
        rc = lend_tracer();
#ifdef HOOKS
    } else if (strcmp(what, "table of keys") == 0) {
        rc = hcreate(10) != 0 && hsearch((ENTRY){name, NULL}, ENTER) != NULL ? 0 : -1;
#endif
    }
    return rc == 0 ? Py_NewRef(Py_None) : PyErr_Format(PyExc_OSError, "%s cannot be lent: %d", what, errno);
}

static long twice(long number) { return 2 * number; }

/* function(): the address of one of this library's, for a library that calls it. */
static PyObject *function(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromVoidPtr((void *)(uintptr_t)twice);
}

#ifdef HOOKS

static void hear(union sigval value) { ext_count += value.sival_int; }

/* wait(): reads a byte in the background, after which a function is called; the descriptor to write it to. */
static PyObject *await(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    static struct aiocb control;
    int ends[2];
    if (pipe(ends) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    control.aio_fildes = ends[0];
    control.aio_buf = memory;
    control.aio_nbytes = 1;
    control.aio_sigevent.sigev_notify = SIGEV_THREAD;
    control.aio_sigevent.sigev_notify_function = hear;
    control.aio_sigevent.sigev_value.sival_int = 1;
    return aio_read(&control) == 0 ? PyLong_FromLong(ends[1]) : PyErr_SetFromErrno(PyExc_OSError);
}

#define MORE {"await", await, METH_NOARGS, NULL},
#define NAME "ext_lends_hooks"
#define INIT PyInit_ext_lends_hooks
#else
#define MORE
#define NAME "ext_lends"
#define INIT PyInit_ext_lends
#endif

static PyMethodDef methods[] = {EXT_METHODS,
                                {"lend", lend, METH_O, NULL},
                                {"function", function, METH_NOARGS, NULL},
                                MORE EXT_METHODS_END};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME, NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT(void) { return PyModule_Create(&module); }
