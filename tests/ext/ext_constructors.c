/* Code that runs when the library is loaded: constructors with and without priorities, one of the old kind (DT_INIT,
 * which the build names), in their order, once, and with the arguments that glibc passes. */
#include "ext.h"

static char order[32];
static int length, arguments = -1;
static char **environment;

static void ran(char letter) {
    if (length < (int)sizeof(order) - 1) {
        order[length++] = letter;
    }
}

void ext_constructors_init(void);
void ext_constructors_init(void) { ran('i'); }
__attribute__((constructor)) static void plain(int argc, char **Py_UNUSED(argv), char **envp) {
    ran('c');
    arguments = argc;
    environment = envp;
}
__attribute__((constructor(201))) static void second(void) { ran('2'); }
__attribute__((constructor(101))) static void first(void) { ran('1'); }

/* result(): the order, the number of the process's arguments, whether there was an environment. */
static PyObject *result(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return Py_BuildValue("siN", order, arguments,
                         PyBool_FromLong(environment != NULL && environment[0] != NULL));
}

static PyMethodDef methods[] = {EXT_METHODS, {"result", result, METH_NOARGS, NULL}, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_constructors", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_constructors(void) { return PyModule_Create(&module); }
