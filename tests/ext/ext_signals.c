/* Handlers of signals that lie in the library, installed in every way that there is. */
#define _GNU_SOURCE
#include "ext.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

/* sigset() is old, and still called. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

typedef void (*handler)(int number);

extern handler sysv_signal(int number, handler function);
extern handler bsd_signal(int number, handler function);
extern handler ssignal(int number, handler function);
extern handler __sysv_signal(int number, handler function);
extern int __sigaction(int number, const struct sigaction *action, struct sigaction *old);

static volatile sig_atomic_t heard;
static volatile sig_atomic_t informed;
static struct sigaction before;

/* As a good citizen: whoever was there hears it, too. */
static void pass_on(int number, siginfo_t *info, void *context) {
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    }
}

static void simple(int number) {
    heard++;
    if ((before.sa_flags & SA_SIGINFO) == 0) {
        pass_on(number, NULL, NULL);
    }
}

static void with_info(int number, siginfo_t *info, void *context) {
    heard++;
    informed += info != NULL && info->si_signo == number && context != NULL;
    pass_on(number, info, context);
}

static handler installed_by(const char *how, int number, handler function) {
    if (strcmp(how, "signal") == 0) {
        return signal(number, function);
    }
    if (strcmp(how, "bsd_signal") == 0) {
        return bsd_signal(number, function);
    }
    if (strcmp(how, "ssignal") == 0) {
        return ssignal(number, function);
    }
    if (strcmp(how, "sysv_signal") == 0) {
        return sysv_signal(number, function);
    }
    if (strcmp(how, "__sysv_signal") == 0) {
        return __sysv_signal(number, function);
    }
    if (strcmp(how, "sigset") == 0) {
        return sigset(number, function);
    }
    if (strcmp(how, "PyOS_setsig") == 0) {
        return PyOS_setsig(number, function);
    }
    errno = ENOSYS;
    return SIG_ERR;
}

/* install(number, how): what is returned tells what was there: "default", "ignored", "own" or "other". */
static PyObject *install(PyObject *Py_UNUSED(self), PyObject *args) {
    int number;
    const char *how;
    if (!PyArg_ParseTuple(args, "is", &number, &how)) {
        return NULL;
    }
    struct sigaction action = {.sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    struct sigaction old = {.sa_handler = SIG_DFL};
    int rc;
    if (strcmp(how, "sigaction") == 0 || strcmp(how, "once") == 0) {
        action.sa_sigaction = with_info;
        action.sa_flags |= SA_SIGINFO | (strcmp(how, "once") == 0 ? (int)SA_RESETHAND : 0);
        rc = sigaction(number, &action, &old);
    } else if (strcmp(how, "__sigaction") == 0) {
        action.sa_handler = simple;
        rc = __sigaction(number, &action, &old);
    } else {
        old.sa_handler = installed_by(how, number, simple);
        rc = old.sa_handler == SIG_ERR ? -1 : 0;
    }
    if (rc != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (old.sa_handler == simple || old.sa_sigaction == with_info) {
        return PyUnicode_FromString("own");
    }
    before = old;
    return PyUnicode_FromString(old.sa_handler == SIG_DFL   ? "default"
                                : old.sa_handler == SIG_IGN ? "ignored"
                                                            : "other");
}

/* What is installed, as install() tells it. */
static PyObject *installed(PyObject *Py_UNUSED(self), PyObject *arg) {
    struct sigaction now;
    if (sigaction((int)PyLong_AsLong(arg), NULL, &now) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    int own = now.sa_handler == simple || now.sa_sigaction == with_info;
    if (PyOS_getsig((int)PyLong_AsLong(arg)) != now.sa_handler) {
        return PyErr_Format(PyExc_AssertionError, "PyOS_getsig() disagrees");
    }
    return PyUnicode_FromString(own                         ? "own"
                                : now.sa_handler == SIG_DFL ? "default"
                                : now.sa_handler == SIG_IGN ? "ignored"
                                                            : "other");
}

/* How many bytes of the mask of what is installed, beyond what the kernel knows of, are not 0, when it was installed and is asked for
 * with such: the kernel leaves them alone. */
static PyObject *rest_of_mask(PyObject *Py_UNUSED(self), PyObject *arg) {
    int number = (int)PyLong_AsLong(arg);
    struct sigaction action;
    struct sigaction now;
    memset(&action, 0xab, sizeof action);
    memset(&now, 0, sizeof now);
    action.sa_handler = simple;
    action.sa_flags = SA_RESTART;
    memset(&action.sa_mask, 0, (NSIG - 1 + 7) / 8);
    if (sigaction(number, &action, NULL) != 0 || sigaction(number, NULL, &now) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    long rest = 0;
    for (size_t i = (NSIG - 1 + 7) / 8; i < sizeof now.sa_mask; i++) {
        rest += ((const unsigned char *)&now.sa_mask)[i] != 0;
    }
    return PyLong_FromLong(rest);
}

/* put_back(number): what install() found. */
static PyObject *put_back(PyObject *Py_UNUSED(self), PyObject *arg) {
    if (sigaction((int)PyLong_AsLong(arg), &before, NULL) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/* send(number): (how often a handler has been called since the library was loaded, how often with what it is to get). */
static PyObject *send(PyObject *Py_UNUSED(self), PyObject *arg) {
    if (raise((int)PyLong_AsLong(arg)) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("ii", (int)heard, (int)informed);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"install", install, METH_VARARGS, NULL},
                                {"installed", installed, METH_O, NULL},
                                {"rest_of_mask", rest_of_mask, METH_O, NULL},
                                {"put_back", put_back, METH_O, NULL},
                                {"send", send, METH_O, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_signals", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_signals(void) { return PyModule_Create(&module); }
