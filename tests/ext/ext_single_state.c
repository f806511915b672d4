/* Single-phase initialisation with module state (m_size > 0), found by PyState_FindModule(): the module has to be
 * registered for its definition, and its state is freed with it. */
#include "ext.h"
#include <unistd.h>

typedef struct {
    long count;
    PyObject *list;
    int notify; /* a file descriptor that is told when the state is freed; 0: none */
} state;

static struct PyModuleDef module;

static state *find(void) {
    PyObject *found = PyState_FindModule(&module);
    if (found == NULL) {
        PyErr_SetString(PyExc_LookupError, "PyState_FindModule() found nothing");
        return NULL;
    }
    return (state *)PyModule_GetState(found);
}

static PyObject *count_in_state(PyObject *self, PyObject *Py_UNUSED(unused)) {
    state *at = find();
    if (at == NULL) {
        return NULL;
    }
    if (at != PyModule_GetState(self)) {
        PyErr_SetString(PyExc_LookupError, "PyState_FindModule() found another module");
        return NULL;
    }
    return PyLong_FromLong(++at->count);
}

static PyObject *append(PyObject *Py_UNUSED(self), PyObject *item) {
    state *at = find();
    if (at == NULL || PyList_Append(at->list, item) < 0) {
        return NULL;
    }
    return Py_NewRef(at->list);
}

static PyObject *notify(PyObject *Py_UNUSED(self), PyObject *arg) {
    state *at = find();
    if (at == NULL) {
        return NULL;
    }
    at->notify = (int)PyLong_AsLong(arg);
    Py_RETURN_NONE;
}

static PyObject *remove_module(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyState_RemoveModule(&module) < 0 ? NULL : PyBool_FromLong(PyState_FindModule(&module) == NULL);
}

static PyObject *add_module(PyObject *self, PyObject *Py_UNUSED(unused)) {
    return PyState_AddModule(self, &module) < 0 ? NULL : PyBool_FromLong(PyState_FindModule(&module) == self);
}

static int traverse(PyObject *self, visitproc visit, void *arg) {
    state *at = (state *)PyModule_GetState(self);
    Py_VISIT(at->list);
    return 0;
}

static int clear(PyObject *self) {
    state *at = (state *)PyModule_GetState(self);
    Py_CLEAR(at->list);
    return 0;
}

static void free_state(void *self) {
    state *at = (state *)PyModule_GetState((PyObject *)self);
    Py_CLEAR(at->list);
    if (at->notify > 0 && write(at->notify, "!", 1) != 1) {
        perror("ext_single_state");
    }
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"count_in_state", count_in_state, METH_NOARGS, NULL},
                                {"append", append, METH_O, NULL},
                                {"notify", notify, METH_O, NULL},
                                {"remove_module", remove_module, METH_NOARGS, NULL},
                                {"add_module", add_module, METH_NOARGS, NULL},
                                EXT_METHODS_END};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT,
                                    "ext_single_state",
                                    NULL,
                                    sizeof(state),
                                    methods,
                                    NULL,
                                    traverse,
                                    clear,
                                    free_state};

PyMODINIT_FUNC PyInit_ext_single_state(void) {
    PyObject *made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    state *at = (state *)PyModule_GetState(made);
    at->list = PyList_New(0);
    if (at->list == NULL) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
