// thread_local objects with destructors, which run when a thread ends: perhaps after this copy's interpreter is gone.
#include "ext.h"

#include <atomic>
#include <string>
#include <unistd.h>

namespace {

std::atomic<long> constructed, destroyed;

struct Noisy {
    std::string text = "a string that is too long to be kept within the object";
    long number = 0;
    int told = 0; // a file descriptor that the destructor writes to

    Noisy() { constructed++; }
    ~Noisy() {
        destroyed++;
        if (told > 0 && write(told, "!", 1) != 1) {
            _exit(98);
        }
    }
};

thread_local Noisy noisy;

// touch(fd=0): this thread's number.
PyObject *touch(PyObject *, PyObject *args) {
    int told = noisy.told;
    if (!PyArg_ParseTuple(args, "|i", &told)) {
        return nullptr;
    }
    noisy.told = told;
    return PyLong_FromLong(++noisy.number);
}

PyObject *counts(PyObject *, PyObject *) { return Py_BuildValue("ll", constructed.load(), destroyed.load()); }

PyMethodDef methods[] = {EXT_METHODS,
                         {"touch", touch, METH_VARARGS, nullptr},
                         {"counts", counts, METH_NOARGS, nullptr},
                         EXT_METHODS_END};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_thread_local", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_ext_thread_local(void) { return PyModule_Create(&module); }
