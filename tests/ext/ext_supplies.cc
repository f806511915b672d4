// An object of this library's that C++'s runtime library gets memory from, for all that asks it for the usual one.
#include "ext.h"

#include <memory_resource>
#include <vector>

namespace {

class Supplier : public std::pmr::memory_resource {
    void *do_allocate(std::size_t size, std::size_t align) override {
        ++ext_count;
        return std::pmr::new_delete_resource()->allocate(size, align);
    }
    void do_deallocate(void *ptr, std::size_t size, std::size_t align) override {
        std::pmr::new_delete_resource()->deallocate(ptr, size, align);
    }
    bool do_is_equal(const memory_resource &other) const noexcept override { return this == &other; }
};
Supplier supplier;

PyObject *supply(PyObject *, PyObject *) {
    std::pmr::set_default_resource(&supplier);
    Py_RETURN_NONE;
}

// fill(): a container that has memory from whoever supplies it.
PyObject *fill(PyObject *, PyObject *) {
    std::pmr::vector<int> numbers(1000);
    return PyLong_FromSize_t(numbers.size());
}

PyMethodDef methods[] = {EXT_METHODS,
                         {"supply", supply, METH_NOARGS, nullptr},
                         {"fill", fill, METH_NOARGS, nullptr},
                         EXT_METHODS_END};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "ext_supplies", nullptr, -1, methods};

} // namespace

PyMODINIT_FUNC PyInit_ext_supplies() { return PyModule_Create(&module); }
