// C++ exceptions: thrown in a library and caught here, thrown here through a library's frames, thrown and caught here.
#include "ext.h"
#include "libs.h"

#include <new>
#include <stdexcept>
#include <string>

namespace {

struct Own : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void throw_own() { throw Own("own"); }
void throw_number() { throw 5; }

PyObject *caught(const std::string &what, long code) { return Py_BuildValue("sl", what.c_str(), code); }

// catch_one(how): what was caught.
PyObject *catch_one(PyObject *, PyObject *arg) {
    long how = PyLong_AsLong(arg);
    try {
        switch (how) {
        case 0:
            lib::fail(0);
            break;
        case 1:
            lib::fail(7);
            break;
        case 2:
            lib::call_back(throw_own);
            break;
        case 3:
            lib::call_back(throw_number);
            break;
        case 4:
            (void)std::string().at(5); // thrown in libstdc++
            break;
        case 5:
            try {
                throw_own();
            } catch (...) {
                lib::call_back([] { throw; }); // again, from within the library
            }
            break;
        default:
            throw std::bad_alloc();
        }
    } catch (const Own &error) {
        return caught(error.what(), how);
    } catch (const lib::Error &error) {
        return caught(error.what(), error.code);
    } catch (const std::out_of_range &) {
        return caught("out_of_range", how);
    } catch (const std::runtime_error &error) {
        return caught(error.what(), how);
    } catch (int number) {
        return caught("int", number);
    } catch (const std::exception &) {
        return caught("exception", how);
    }
    return caught("nothing", how);
}

// constructed(): what the library's constructor and this extension get from the function that both have.
PyObject *constructed(PyObject *, PyObject *) {
    return Py_BuildValue("ll", lib::constructed(), lib::weak<long>(4));
}

PyMethodDef methods[] = {EXT_METHODS,
                         {"catch_one", catch_one, METH_O, nullptr},
                         {"constructed", constructed, METH_NOARGS, nullptr},
                         EXT_METHODS_END};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_throw", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_ext_throw(void) { return PyModule_Create(&module); }
