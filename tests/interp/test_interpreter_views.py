"""PEP 788 in a cloned extension: whose interpreter main's view is, and what a guard does to close()."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig

import pytest

from helpers import VERSION, check_ended, run_python

pytestmark = pytest.mark.skipif(VERSION < (3, 15), reason="PEP 788 is new in 3.15")

EXTENSION = r"""
#include <Python.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>
static long long seen = -1;
static PyInterpreterGuard *guard;
static int reader;
static void *enter(void *view) {
    if (view == NULL) {
        view = PyInterpreterView_FromMain();
    }
    PyThreadStateToken *token = PyThreadState_EnsureFromView(view);
    if (token != NULL) {
        seen = PyInterpreterState_GetID(PyInterpreterState_Get());
        PyThreadState_Release(token);
    }
    PyInterpreterView_Close(view);
    return NULL;
}
static PyObject *go(PyObject *self, PyObject *inside) {
    void *view = PyObject_IsTrue(inside) ? PyInterpreterView_FromMain() : NULL;
    pthread_t thread;
    seen = -1;
    Py_BEGIN_ALLOW_THREADS
    pthread_create(&thread, NULL, enter, view);
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    return PyLong_FromLongLong(seen);
}
static void *give_back(void *unused) {
    char byte;
    (void)!read(reader, &byte, 1);
    PyInterpreterGuard_Close(guard);
    return NULL;
}
static PyObject *hold(PyObject *self, PyObject *fd) {
    pthread_t thread;
    reader = (int)PyLong_AsLong(fd);
    guard = PyInterpreterGuard_FromCurrent();
    pthread_create(&thread, NULL, give_back, NULL);
    pthread_detach(thread);
    Py_RETURN_NONE;
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t locked;
static void *ask_locked(void *unused) {
    pthread_mutex_lock(&mutex);
    sem_post(&locked);
    PyInterpreterView_Close(PyInterpreterView_FromMain());
    pthread_mutex_unlock(&mutex);
    return NULL;
}
/* With the GIL: waits for a mutex, which another thread has that asks for the view. */
static PyObject *await_mutex(PyObject *self, PyObject *unused) {
    pthread_t thread;
    sem_init(&locked, 0, 0);
    pthread_create(&thread, NULL, ask_locked, NULL);
    sem_wait(&locked);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    Py_RETURN_NONE;
}
static int writer;
static void *enter_until_gone(void *unused) {
    char byte;
    (void)!read(reader, &byte, 1);
    PyInterpreterView *view = PyInterpreterView_FromMain();
    PyThreadStateToken *token = PyThreadState_EnsureFromView(view);
    byte = view == NULL ? 'v' : token != NULL ? 't' : 'n';
    PyInterpreterView_Close(view);
    (void)!write(writer, &byte, 1);
    return NULL;
}
/* enter_later((fd, fd)): a thread that enters when it can read, and writes whether there was nothing to enter. */
static PyObject *enter_later(PyObject *self, PyObject *files) {
    pthread_t thread;
    if (!PyArg_ParseTuple(files, "ii", &reader, &writer)) {
        return NULL;
    }
    pthread_create(&thread, NULL, enter_until_gone, NULL);
    pthread_detach(thread);
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"go", go, METH_O, 0},
                                {"hold", hold, METH_O, 0},
                                {"await_mutex", await_mutex, METH_NOARGS, 0},
                                {"enter_later", enter_later, METH_O, 0},
                                {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "guarded", 0, -1, methods};
PyMODINIT_FUNC PyInit_guarded(void) { return PyModule_Create(&definition); }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("guarded")
    (path / "guarded.c").write_text(EXTENSION)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    include = sysconfig.get_path("include")
    subprocess.run(
        [*compiler, "-shared", "-fPIC", "-w", f"-I{include}", path / "guarded.c", "-o", path / "guarded.so"],
        check=True,
    )
    return {"PYTHONPATH": os.pathsep.join([str(path), *filter(None, sys.path)])}


def test_the_view_of_main_is_the_owners(folder):
    source = """
        import atoll
        for _ in range(2):
            with atoll.create() as interp:
                interp.exec("import guarded")
                for inside in True, False:
                    assert interp.call(eval, f"guarded.go({inside})") == interp.id
        print("right")
        """
    check_ended(run_python(source, environment=folder), out="right\n", clean=True)


def test_a_guard_delays_nobody_else(folder):
    source = """
        import atoll, os, threading
        r, w = os.pipe()
        interp = atoll.create()
        interp.exec(f"import guarded; guarded.hold({r})")
        closer = threading.Thread(target=interp.close)
        closer.start()
        for _ in range(3):
            atoll.create().close()
        os.write(w, b"!")
        closer.join()
        print("right")
        """
    check_ended(run_python(source, environment=folder), out="right\n", clean=True)


def test_nobody_needs_a_gil_for_the_view(folder):
    source = """
        import atoll
        with atoll.create() as interp:
            interp.exec("import guarded; guarded.await_mutex()")
        print("right")
        """
    check_ended(run_python(source, environment=folder), out="right\n", clean=True)


def test_a_view_of_one_that_is_gone(folder):
    """A thread that is still there, as it sits in a system call, gets a view as ever, and finds nobody by it."""
    source = """
        import atoll, os
        begin, ended = os.pipe(), os.pipe()
        interp = atoll.create()
        interp.exec(f"import guarded; guarded.enter_later({begin[0], ended[1]})")
        interp.close()
        print(len(atoll.kept_extensions()))
        os.write(begin[1], b"!")
        print(os.read(ended[0], 1))
        """
    check_ended(run_python(source, environment=folder), out="1\nb'n'\n", clean=True)
