// What C++'s runtime library is to call when memory is short, and for exceptions that nobody catches; where its streams write to.
#include "ext.h"

#include <cstdlib>
#include <exception>
#include <iostream>
#include <locale>
#include <new>
#include <sstream>
#include <string>

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

std::terminate_handler terminates;
std::new_handler allocates;

// replace(): in place of the ones that there are, which are kept; put_back(): those again.
PyObject *replace(PyObject *, PyObject *) {
    terminates = std::set_terminate(uncaught);
    allocates = std::set_new_handler(no_memory);
    Py_RETURN_NONE;
}

PyObject *put_back(PyObject *, PyObject *) {
    std::set_terminate(terminates);
    std::set_new_handler(allocates);
    Py_RETURN_NONE;
}

// Takes what is written, and forgets it.
class Sink : public std::streambuf {
    int overflow(int c) override { return c; }
    std::streamsize xsputn(const char *, std::streamsize n) override { return n; }
};

std::stringbuf text;
std::ostream stream(&text);

// A way to write numbers, which a locale has.
class Numbers : public std::num_put<char> {
    iter_type do_put(iter_type out, std::ios_base &, char, long) const override {
        *out++ = '#';
        return out;
    }
};

void changed(std::ios_base::event, std::ios_base &, int) {}

// lead(to): a standard stream leads here in other ways.
bool lead(const std::string &to) {
    std::ostream *before = std::cin.tie();
    std::locale usual = std::cout.getloc();
    if (to == "tie") {
        std::cin.tie(&stream);
    } else if (to == "tied buffer") {
        std::cin.tie(new std::ostream(new Sink));
    } else if (to == "facet") {
        std::cout.imbue(std::locale(usual, new Numbers));
    } else if (to == "callback") {
        std::cout.register_callback(changed, 0);
    } else if (to == "led back") {
        std::cin.tie(&stream);
        std::cin.tie(before);
        std::cout.imbue(std::locale(usual, new Numbers));
        std::cout.imbue(usual);
    } else {
        return false;
    }
    return true;
}

// redirect(where): a standard stream writes to an object of this library's, or to one of a class of this library's.
PyObject *redirect(PyObject *, PyObject *arg) {
    const char *name = PyUnicode_AsUTF8(arg);
    std::string where = name != nullptr ? name : "";
    std::streambuf *before = std::cout.rdbuf();
    if (where == "object") {
        std::cout.rdbuf(&text);
    } else if (where == "class") {
        std::cout.rdbuf(new Sink);
    } else if (where == "error") {
        std::cerr.rdbuf(new Sink);
    } else if (where == "back") {
        std::cout.rdbuf(&text);
        std::cout << "unseen" << std::endl;
        std::cout.rdbuf(before);
    } else if (name != nullptr && !lead(where)) {
        return PyErr_Format(PyExc_ValueError, "no such place: %s", name);
    }
    return name != nullptr ? Py_NewRef(Py_None) : nullptr;
}

// say(text): to both of them.
PyObject *say(PyObject *, PyObject *arg) {
    const char *said = PyUnicode_AsUTF8(arg);
    if (said == nullptr) {
        return nullptr;
    }
    std::cout << said << std::endl;
    std::cerr << said << std::endl;
    Py_RETURN_NONE;
}

// use(): standard streams, in all these ways.
PyObject *use(PyObject *, PyObject *) {
    int number = 0;
    std::cin >> number;
    std::cout << 12L << std::endl;
    std::cout.imbue(std::locale::classic());
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {EXT_METHODS,
                         {"set", set, METH_NOARGS, nullptr},
                         {"own", own, METH_NOARGS, nullptr},
                         {"replace", replace, METH_NOARGS, nullptr},
                         {"put_back", put_back, METH_NOARGS, nullptr},
                         {"redirect", redirect, METH_O, nullptr},
                         {"say", say, METH_O, nullptr},
                         {"use", use, METH_NOARGS, nullptr},
                         EXT_METHODS_END};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext_handlers", nullptr, -1, methods};

} // namespace

PyMODINIT_FUNC PyInit_ext_handlers() { return PyModule_Create(&module); }
