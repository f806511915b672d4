// What C++'s runtime library is to call when memory is short, and for exceptions that nobody catches.
#include "ext.h"

#include <cstdlib>
#include <exception>
#include <new>

namespace {

void no_memory() { std::abort(); }
void uncaught() { std::abort(); }

// set(): whether there were others before.
PyObject *set(PyObject *, PyObject *) {
    return PyBool_FromLong(std::set_new_handler(no_memory) != nullptr ||
                           std::set_terminate(uncaught) == nullptr);
}

// own(): whether these are there.
PyObject *own(PyObject *, PyObject *) {
    return PyBool_FromLong(std::get_new_handler() == no_memory && std::get_terminate() == uncaught);
}

PyMethodDef methods[] = {
    EXT_METHODS, {"set", set, METH_NOARGS, nullptr}, {"own", own, METH_NOARGS, nullptr}, EXT_METHODS_END};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext_handlers", nullptr, -1, methods};

} // namespace

PyMODINIT_FUNC PyInit_ext_handlers() { return PyModule_Create(&module); }
