// Threads of C++'s std::thread, which libstdc++ starts, not this library.
#include "ext.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace {

std::atomic<long> ended;

struct AtEnd {
    ~AtEnd() { ended++; }
};

// start(reader): a thread that ends when nothing more comes from the pipe.
PyObject *start(PyObject *, PyObject *arg) {
    int reader = static_cast<int>(PyLong_AsLong(arg));
    try {
        std::thread([reader] {
            static thread_local AtEnd at_end;
            (void)&at_end;
            char byte;
            while (read(reader, &byte, 1) == 1) {
            }
        }).detach();
    } catch (const std::system_error &error) {
        return PyErr_Format(PyExc_RuntimeError, "%s", error.what());
    }
    Py_RETURN_NONE;
}

// run(n): the sum of what n threads were given, who are gone then.
PyObject *run(PyObject *, PyObject *arg) {
    std::atomic<long> sum{0};
    for (long i = PyLong_AsLong(arg); i > 0; i--) {
        std::thread thread([&sum, i] { sum += i; });
        thread.join();
    }
    return PyLong_FromLong(sum);
}

PyObject *count_ended(PyObject *, PyObject *) { return PyLong_FromLong(ended); }

PyObject *concurrency(PyObject *, PyObject *) { return PyLong_FromLong(std::thread::hardware_concurrency()); }

PyMethodDef methods[] = {EXT_METHODS,
                         {"start", start, METH_O, nullptr},
                         {"run", run, METH_O, nullptr},
                         {"ended", count_ended, METH_NOARGS, nullptr},
                         {"concurrency", concurrency, METH_NOARGS, nullptr},
                         EXT_METHODS_END};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_std_thread", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_ext_std_thread(void) { return PyModule_Create(&module); }
