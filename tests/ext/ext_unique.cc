// Static variables of templates and of inline functions, which g++ marks STB_GNU_UNIQUE: the dynamic linker would make
// them one for all copies.  Objects with constructors and destructors, too.
#include "ext.h"

#include <map>
#include <memory>
#include <string>
#include <typeinfo>

template <class T> struct Registry {
    inline static long count = 0;
    inline static PyObject *list = nullptr;
    static std::map<long, std::string> &table() {
        static std::map<long, std::string> made;
        return made;
    }
};

inline long &shared_by_inline_function() {
    static long value = 10;
    return value;
}

inline std::unique_ptr<std::string> global_object = std::make_unique<std::string>("constructed");

// unique_bump(): the number of the call in this copy, from three static variables that have to agree.
static PyObject *unique_bump(PyObject *, PyObject *) {
    long number = ++Registry<int>::count;
    Registry<int>::table()[number] = std::to_string(number);
    if (shared_by_inline_function()++ != number + 9 ||
        Registry<int>::table().size() != static_cast<size_t>(number) || *global_object != "constructed") {
        return PyErr_Format(PyExc_RuntimeError, "the static variables do not agree at %ld", number);
    }
    return PyLong_FromLong(number);
}

static PyObject *unique_append(PyObject *, PyObject *item) {
    PyObject *&list = Registry<std::string>::list;
    if (list == nullptr && (list = PyList_New(0)) == nullptr) {
        return nullptr;
    }
    return PyList_Append(list, item) < 0 ? nullptr : Py_NewRef(list);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"unique_bump", unique_bump, METH_NOARGS, nullptr},
                                {"unique_append", unique_append, METH_O, nullptr},
                                EXT_METHODS_END};
static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_unique", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_ext_unique(void) { return PyModule_Create(&module); }
