/* Asks the dynamic linker for everything that it has to say about libraries, as C code does. */
#define _GNU_SOURCE
#include "ext.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

/* Exported, so that whoever opens this library can find and call it: what was set last. */
static long value;
__attribute__((visibility("default"))) long ext_dl_value(void) { return value; }

static PyObject *set(PyObject *Py_UNUSED(self), PyObject *arg) {
    value = PyLong_AsLong(arg);
    Py_RETURN_NONE;
}

/* open(file, flags): a handle, or what dlerror() says, and then that there is no more. */
static PyObject *open_library(PyObject *Py_UNUSED(self), PyObject *args) {
    const char *file;
    int flags;
    if (!PyArg_ParseTuple(args, "zi", &file, &flags)) {
        return NULL;
    }
    (void)dlerror();
    void *handle = dlopen(file, flags);
    if (handle != NULL) {
        return PyLong_FromVoidPtr(handle);
    }
    const char *first = dlerror();
    PyObject *text = Py_BuildValue("z", first);
    const char *second = dlerror();
    return text != NULL ? Py_BuildValue("Nz", text, second) : NULL;
}

static void *open_it(void *raw) {
    char *file = raw;
    (void)dlopen(file, RTLD_NOW);
    free(file);
    return NULL;
}

/* open_in_thread(file): on a thread of the library's own, for which nobody waits. */
static PyObject *open_in_thread(PyObject *Py_UNUSED(self), PyObject *file) {
    const char *text = PyUnicode_AsUTF8(file);
    char *own = text != NULL ? strdup(text) : NULL;
    pthread_t thread;
    if (own == NULL || pthread_create(&thread, NULL, open_it, own) != 0) {
        free(own);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    pthread_detach(thread);
    Py_RETURN_NONE;
}

static PyObject *close_library(PyObject *Py_UNUSED(self), PyObject *handle) {
    return PyLong_FromLong(dlclose(PyLong_AsVoidPtr(handle)));
}

/* call(handle, name): of a function that takes nothing and returns a long. */
static PyObject *call(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *handle;
    const char *name;
    if (!PyArg_ParseTuple(args, "Os", &handle, &name)) {
        return NULL;
    }
    void *symbol = dlsym(PyLong_AsVoidPtr(handle), name);
    if (symbol == NULL) {
        PyErr_SetString(PyExc_LookupError, dlerror());
        return NULL;
    }
    long (*function)(void);
    memcpy(&function, &symbol, sizeof function);
    return PyLong_FromLong(function());
}

/* keep(handle, object): gives the object to lib_keeper_keep(). */
static PyObject *give(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *handle, *object;
    if (!PyArg_ParseTuple(args, "OO", &handle, &object)) {
        return NULL;
    }
    void *symbol = dlsym(PyLong_AsVoidPtr(handle), "lib_keeper_keep");
    if (symbol == NULL) {
        PyErr_SetString(PyExc_LookupError, dlerror());
        return NULL;
    }
    void (*function)(void *);
    memcpy(&function, &symbol, sizeof function);
    function(Py_NewRef(object));
    Py_RETURN_NONE;
}

static int find_own(struct dl_phdr_info *info, size_t size, void *raw) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (uintptr_t)raw >= start &&
            (uintptr_t)raw - start < info->dlpi_phdr[i].p_memsz) {
            PyObject **found = raw;
            *found = PyUnicode_DecodeFSDefault(info->dlpi_name);
            return 7;
        }
    }
    return 0;
}

static PyObject *found_by_phdr;

/* Every way to the name of this library: dladdr, dladdr1, dlinfo's link map and its directory, dl_iterate_phdr. */
static PyObject *names(PyObject *Py_UNUSED(self), PyObject *handle) {
    Dl_info info, more;
    struct link_map *map, *of_handle;
    char origin[4096];
    void *own = PyLong_AsVoidPtr(handle);
    if (own == NULL || dladdr((void *)&value, &info) == 0 ||
        dladdr1((void *)&value, &more, (void **)&map, RTLD_DL_LINKMAP) == 0 ||
        dlinfo(own, RTLD_DI_LINKMAP, (void *)&of_handle) != 0 || dlinfo(own, RTLD_DI_ORIGIN, origin) != 0) {
        return PyErr_Format(PyExc_RuntimeError, "%s", dlerror());
    }
    if (map->l_addr != of_handle->l_addr || map->l_ld != of_handle->l_ld) {
        return PyErr_Format(PyExc_RuntimeError, "two link maps");
    }
    if (dl_iterate_phdr(find_own, (void *)&found_by_phdr) != 7) {
        return PyErr_Format(PyExc_RuntimeError, "not found by its segments");
    }
    return Py_BuildValue("sssssN", info.dli_fname, more.dli_fname, map->l_name, of_handle->l_name, origin,
                         found_by_phdr);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"set", set, METH_O, NULL},
                                {"open", open_library, METH_VARARGS, NULL},
                                {"open_in_thread", open_in_thread, METH_O, NULL},
                                {"close", close_library, METH_O, NULL},
                                {"call", call, METH_VARARGS, NULL},
                                {"give", give, METH_VARARGS, NULL},
                                {"names", names, METH_O, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_dl", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_dl(void) { return PyModule_Create(&module); }
