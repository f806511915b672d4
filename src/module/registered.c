/* register_shareable() and what belongs to it: py/codec/registered.c has the essay. */
#include "module/module.h"

/* The arguments of register_shareable(), checked.  0, or -1 with an exception. */
static int check(PyObject *cls, PyObject *encode, PyObject *decode) {
    if (!PyType_Check(cls)) {
        PyErr_Format(PyExc_TypeError, "cls must be a class, not %R", cls);
        return -1;
    }
    if (!PyCallable_Check(encode) || !PyCallable_Check(decode)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable, not %R",
                     PyCallable_Check(encode) ? "decode" : "encode",
                     PyCallable_Check(encode) ? decode : encode);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(
    register_doc,
    "register_shareable($module, /, cls, encode, decode)\n--\n\n"
    "Say how instances of cls cross between interpreters.\n\n"
    "encode(obj) returns what is sent in the object's place; decode(value) makes an object of it again, "
    "where it\n"
    "arrives. Both go with each object, as functions do that are sent, so cls need not be registered there; "
    "it\n"
    "is from then on, unless code there has registered it. The registration is for exactly this class, not "
    "for\n"
    "its subclasses, and for this interpreter; a later one takes its place.\n"
    "Raises TypeError for what is no class, what cannot be called, and classes that cross as they are.");

static PyObject *module_register(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"cls", "encode", "decode", NULL};
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    PyObject *cls;
    PyObject *encode;
    PyObject *decode;
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:register_shareable", keywords, &cls, &encode,
                                     &decode) ||
        check(cls, encode, decode) < 0 ||
        atoll_codec_register(state->codec, cls, encode, decode, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(unregister_doc, "unregister_shareable($module, cls, /)\n--\n\n"
                             "Undo register_shareable() of cls in this interpreter.\n\nRaises ValueError "
                             "when cls is not registered.");

static PyObject *module_unregister(PyObject *module, PyObject *cls) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    if (state == NULL || atoll_codec_unregister(state->codec, cls) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(arrive_doc, "_arrive($module, cls, encode, decode, value, /)\n--\n\n"
                         "Return decode(value) where an instance of a registered class arrives.");

static PyObject *module_arrive(PyObject *module, PyObject *args) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    PyObject *cls;
    PyObject *encode;
    PyObject *decode;
    PyObject *value;
    if (state == NULL || !PyArg_ParseTuple(args, "OOOO:_arrive", &cls, &encode, &decode, &value) ||
        (cls != Py_None && encode != Py_None &&
         (check(cls, encode, decode) < 0 ||
          atoll_codec_register(state->codec, cls, encode, decode, true) < 0))) {
        return NULL;
    }
    /* A reference, since it may take its own registration back. */
    decode = encode == Py_None ? atoll_codec_decode_of(state->codec, cls) : Py_NewRef(decode);
    PyObject *arrived = decode != NULL ? PyObject_CallOneArg(decode, value) : NULL;
    Py_XDECREF(decode);
    return arrived;
}

static PyMethodDef functions[] = {
    {"register_shareable", (PyCFunction)(void (*)(void))module_register, METH_VARARGS | METH_KEYWORDS,
     register_doc},
    {"unregister_shareable", module_unregister, METH_O, unregister_doc},
    {"_arrive", module_arrive, METH_VARARGS, arrive_doc},
    {NULL, NULL, 0, NULL},
};

int atoll_pyregistered_add(atoll_state *state, PyObject *module) {
    if (PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    PyObject *arrive = PyObject_GetAttrString(module, "_arrive");
    if (arrive == NULL) {
        return -1;
    }
    atoll_codec_set_arrive(state->codec, arrive);
    Py_DECREF(arrive);
    return 0;
}
