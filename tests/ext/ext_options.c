/* Reads a command line with getopt() and its like, as programs do that were made modules. */
#define _GNU_SOURCE
#include "ext.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32, ROOM = 64 };
static char texts[MOST + 1][ROOM] = {"ext_options"};

static const struct option longs[] = {{"all", no_argument, NULL, 'a'},
                                      {"level", required_argument, NULL, 'l'},
                                      {"color", optional_argument, NULL, 'c'},
                                      {"column", required_argument, NULL, 'C'},
                                      {NULL, 0, NULL, 0}};

/* read(kind, shorts, arguments, start): the options with their arguments, then what is left.  To start at 0 is to forget what was
 * read before. */
static PyObject *read_options(PyObject *Py_UNUSED(self), PyObject *args) {
    const char *kind, *shorts;
    PyObject *given;
    char *argv[MOST + 2] = {texts[0]};
    int argc = 1, start;
    if (!PyArg_ParseTuple(args, "ssO!i", &kind, &shorts, &PyList_Type, &given, &start)) {
        return NULL;
    }
    for (; argc <= PyList_GET_SIZE(given) && argc <= MOST; argc++) {
        const char *text = PyUnicode_AsUTF8(PyList_GET_ITEM(given, argc - 1));
        if (text == NULL) {
            return NULL;
        }
        argv[argc] = strncpy(texts[argc], text, ROOM - 1);
    }
    PyObject *found = PyList_New(0);
    optind = start;
    opterr = 0;
    for (int option = 0; found != NULL && option != -1;) {
        option = strcmp(kind, "short") == 0  ? getopt(argc, argv, shorts)
                 : strcmp(kind, "long") == 0 ? getopt_long(argc, argv, shorts, longs, NULL)
                                             : getopt_long_only(argc, argv, shorts, longs, NULL);
        PyObject *item = option == -1   ? NULL
                         : option < ' ' ? Py_BuildValue("(iz)", option, optarg)
                                        : Py_BuildValue("(Cz)", option, optarg);
        if (option != -1 && (item == NULL || PyList_Append(found, item) < 0)) {
            Py_CLEAR(found);
        }
        Py_XDECREF(item);
    }
    for (int i = optind; found != NULL && i < argc; i++) {
        PyObject *item = PyUnicode_FromString(argv[i]);
        if (item == NULL || PyList_Append(found, item) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(item);
    }
    return found;
}

static PyMethodDef methods[] = {EXT_METHODS, {"read", read_options, METH_VARARGS, NULL}, EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_options", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_options(void) { return PyModule_Create(&module); }
