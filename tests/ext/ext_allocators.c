/* Saves CPython's allocators and puts them back later, as profilers of memory do; or puts its own in front of one. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static PyMemAllocatorEx saved[Py_ARRAY_LENGTH(domains)];

static PyObject *restore(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(domains); i++) {
        PyMem_SetAllocator(domains[i], &saved[i]);
    }
    Py_RETURN_NONE;
}

static void *own_malloc(void *Py_UNUSED(ctx), size_t size) { return saved[0].malloc(saved[0].ctx, size); }

static void *own_calloc(void *Py_UNUSED(ctx), size_t count, size_t size) {
    return saved[0].calloc(saved[0].ctx, count, size);
}

static void *own_realloc(void *Py_UNUSED(ctx), void *ptr, size_t size) {
    return saved[0].realloc(saved[0].ctx, ptr, size);
}

static void own_free(void *Py_UNUSED(ctx), void *ptr) { saved[0].free(saved[0].ctx, ptr); }

/* What leads from a thread's variables to this library itself. */
static _Thread_local void *(*volatile mine)(void *, size_t);

static PyObject *save(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(domains); i++) {
        PyMem_GetAllocator(domains[i], &saved[i]);
    }
    mine = own_malloc;
    Py_RETURN_NONE;
}

/* After save(). */
static PyObject *wrap(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    PyMem_SetAllocator(domains[0], &(PyMemAllocatorEx){NULL, own_malloc, own_calloc, own_realloc, own_free});
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"save", save, METH_NOARGS, NULL},
                                {"restore", restore, METH_NOARGS, NULL},
                                {"wrap", wrap, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_allocators", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_allocators(void) { return PyModule_Create(&module); }
