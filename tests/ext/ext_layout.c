/* One module for each way in which a linker lays a file out: the build passes INIT_NAME and the linker's options.  The
 * variables cover every kind of section that is written to or relocated. */
#include "ext.h"

#include <link.h>
#include <stdbool.h>

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static const char *const names[] = {"one", "two", "three"}; /* relocated, then read-only */
static const char **writable = (const char *[]){"four", "five"};
static long large[3000];                       /* .bss of several pages */
static long initialised[700] = {1, 2, 3};      /* .data of more than one */
static const char constant[9000] = "constant"; /* .rodata */

/* Whether the program headers are where the ELF header says, in memory too. */
static bool has_headers(void) {
    const char *start = (const char *)&__ehdr_start;
    const ElfW(Phdr) *headers = (const void *)(start + __ehdr_start.e_phoff);
    bool found = false;
    for (int i = 0; i < __ehdr_start.e_phnum; i++) {
        found |= headers[i].p_type == PT_DYNAMIC && headers[i].p_memsz > 0;
    }
    return found;
}

static PyObject *check(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    const volatile char *last = &constant[sizeof(constant) - 1];
    for (size_t i = 0; i < 3000; i++) {
        if (large[i] != 0) {
            return PyErr_Format(PyExc_RuntimeError, "large[%zu] is %ld", i, large[i]);
        }
    }
    if (initialised[0] != 1 || initialised[2] != 3 || initialised[699] != 0 || *last != 0) {
        return PyErr_Format(PyExc_RuntimeError, "wrong initial values");
    }
    if (!has_headers()) {
        return PyErr_Format(PyExc_RuntimeError, "the ELF header leads elsewhere");
    }
    large[2999] = 1;
    initialised[699] = 1;
    PyObject *result = Py_BuildValue("sssss", names[0], names[2], writable[0], writable[1], constant);
    large[2999] = 0;
    initialised[699] = 0;
    writable[0] = names[1];
    return result;
}

static PyMethodDef methods[] = {EXT_METHODS, {"check", check, METH_NOARGS, NULL}, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_layout", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT_NAME(void);
PyMODINIT_FUNC INIT_NAME(void) { return PyModule_Create(&module); }
