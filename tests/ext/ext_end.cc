// What is told of the end of a process, and in which order: by every means that C and C++ have.  Two modules are made of
// this file.  Each has a function of the other's, and calls it in each step; it says whether its code and its
// thread-specific data are there.
#include "ext.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <pthread.h>
#include <unistd.h>

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace {

int told = -1; // a file descriptor
pthread_key_t key;
char value;
std::function<bool()> other; // the code that destroys it is the other module's

bool has_value() { return pthread_getspecific(key) == &value; }

void tell(const char *what) {
    char line[200];
    int length = std::snprintf(line, sizeof line, TEXT(NAME) " %s, value %s, the other's %s\n", what,
                               has_value() ? "there" : "GONE",
                               !other    ? "unknown"
                               : other() ? "there"
                                         : "GONE");
    if (told >= 0 && write(told, line, static_cast<size_t>(length)) != length) {
        _exit(99);
    }
}

struct Teller {
    const char *what;
    explicit Teller(const char *text) : what(text) {}
    ~Teller() { tell(what); }
};

Teller of_the_file("static object");
thread_local Teller of_the_thread("thread_local object");

void by_python() { tell("Py_AtExit"); }
void by_atexit() {
    static Teller made_at_the_end("static object made at the end");
    tell("atexit");
}
void by_on_exit(int, void *what) { tell(static_cast<const char *>(what)); }
__attribute__((destructor)) void by_library() { tell("destructor"); }

// start(fd): all that has to be registered.
PyObject *start(PyObject *, PyObject *arg) {
    static Teller of_the_function("static object of a function");
    static char text[] = "on_exit";
    told = static_cast<int>(PyLong_AsLong(arg));
    (void)of_the_thread.what;
    if (pthread_key_create(&key, nullptr) != 0 || pthread_setspecific(key, &value) != 0 ||
        Py_AtExit(by_python) != 0 || std::atexit(by_atexit) != 0 || on_exit(by_on_exit, text) != 0) {
        return PyErr_Format(PyExc_RuntimeError, "no room for a function");
    }
    Py_RETURN_NONE;
}

// give(): the address of a std::function, for the other module; take(address).
PyObject *give(PyObject *, PyObject *) {
    static std::function<bool()> own = [] { return has_value(); };
    return PyLong_FromVoidPtr(&own);
}

PyObject *take(PyObject *, PyObject *arg) {
    other = *static_cast<std::function<bool()> *>(PyLong_AsVoidPtr(arg));
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {{"start", start, METH_O, nullptr},
                         {"give", give, METH_NOARGS, nullptr},
                         {"take", take, METH_O, nullptr},
                         EXT_METHODS,
                         EXT_METHODS_END};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, TEXT(NAME), nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC INIT_NAME(void) { return PyModule_Create(&module); }
