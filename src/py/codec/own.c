/* What a module has, and the receiver's module has as well: it crosses by its path, and is the receiver's own there.
 *
 *   a bound method that a module has under the method's own name   random.randint, numpy.random.rand: a function of that module;
 *                                                                  but not one of an object that Python code has made, which
 *                                                                  the program may have put there
 *   an object that a module of the standard library has            os.environ, sys.path, the generator of random
 *
 * A copy of such an object would be of no use, or worse: what is put into it is nowhere seen, and whoever draws from a copy of a
 * generator draws the same numbers again.  So what a method is bound to is the receiver's own (os.environ.get, sys.path.append), and so
 * is an object behind a global or an attribute of a class, whose names are those of the module (`from os import environ`).  As an argument, a
 * result or an item it is a copy, unless there is only one (sys.version_info): who sends os.environ sends what is in it.
 *
 * The module is that of the object's class; what is no object of a class of a module's, a list or a dict, is looked for in sys, and only
 * for its methods: a global may be sys.argv for the sake of what is in it.
 */
#include "py/codec/internal.h"

/* Where something was found: new references. */
typedef struct {
    PyObject *module;
    PyObject *name; /* of the module */
    PyObject *word; /* in it */
} place;

static void drop_place(place *at) {
    Py_CLEAR(at->module);
    Py_CLEAR(at->name);
    Py_CLEAR(at->word);
}

/* The module of this name, if it is there: new reference, or NULL, maybe with an exception. */
static PyObject *module_of(PyObject *name) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = PyDict_CheckExact(modules) ? PyDict_GetItemWithError(modules, name) : NULL;
    return module != NULL && PyModule_Check(module) ? Py_NewRef(module) : NULL;
}

/* What a builtin method, or one of a class, is bound to: borrowed, or NULL for what is a function of a module, or of a type. */
static PyObject *owner_of(PyObject *obj) {
    if (Py_IS_TYPE(obj, &PyMethod_Type)) {
        return PyMethod_GET_SELF(obj);
    }
    PyObject *owner = PyCFunction_Check(obj) ? PyCFunction_GET_SELF(obj) : NULL;
    return owner != NULL && !PyModule_Check(owner) && !PyType_Check(owner) ? owner : NULL;
}

/* Whether what a module has of this object, it has when it was imported. */
static int is_of_import(atoll_codec *codec, const PyObject *owner, PyObject *name) {
    return atoll_is_made_by_code(codec, Py_TYPE(owner)) ? atoll_is_standard(codec, name) : 1;
}

/* The module that has this very method under its name.  1, 0, or -1 with an exception. */
static int find_method(atoll_codec *codec, PyObject *obj, place *at) {
    PyObject *owner = owner_of(obj);
    if (owner == NULL) {
        return 0;
    }
    at->word = atoll_text_attr(codec, obj, N_NAME);
    at->name = PyErr_Occurred() ? NULL : atoll_text_attr(codec, obj, N_MODULE);
    if (at->name == NULL && !PyErr_Occurred()) { /* a builtin one says nothing */
        at->name = atoll_text_attr(codec, (PyObject *)Py_TYPE(owner), N_MODULE);
    }
    if (at->word != NULL && at->name != NULL && !atoll_is_main_name(codec, at->name)) {
        at->module = module_of(at->name);
    }
    PyObject *found =
        at->module != NULL ? PyDict_GetItemWithError(PyModule_GetDict(at->module), at->word) : NULL;
    int rc = found == obj ? is_of_import(codec, owner, at->name) : 0;
    return PyErr_Occurred() ? -1 : rc;
}

/* The name that a module has for an object: new reference, or NULL, without an exception. */
static PyObject *word_for(PyObject *module, const PyObject *obj) {
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    while (PyDict_Next(PyModule_GetDict(module), &pos, &name, &value)) {
        if (value == obj && PyUnicode_CheckExact(name)) {
            return Py_NewRef(name);
        }
    }
    return NULL;
}

static bool is_container(PyObject *obj) {
    return PyList_CheckExact(obj) || PyDict_CheckExact(obj) || PyAnySet_CheckExact(obj);
}

/* The module of the standard library that has this object.  1, 0, or -1 with an exception. */
static int find_object(atoll_codec *codec, PyObject *obj, place *at) {
    at->name = is_container(obj) ? PyUnicode_FromString("sys")
                                 : atoll_text_attr(codec, (PyObject *)Py_TYPE(obj), N_MODULE);
    if (at->name == NULL || PyUnicode_CompareWithASCIIString(at->name, "builtins") == 0) {
        return PyErr_Occurred() ? -1 : 0; /* nothing of what it has is of a class of its own */
    }
    int rc = atoll_is_standard(codec, at->name);
    at->module = rc > 0 ? module_of(at->name) : NULL;
    at->word = at->module != NULL ? word_for(at->module, obj) : NULL;
    return PyErr_Occurred() ? -1 : at->word != NULL;
}

static int write_place(atoll_encoder *enc, PyObject *obj, int found, place *at) {
    int rc = found > 0 ? atoll_write_path(enc, at->module, at->name, at->word) : found;
    if (rc > 0 && atoll_memo_add(enc, obj) < 0) {
        rc = -1;
    }
    drop_place(at);
    return rc;
}

int atoll_try_own(atoll_encoder *enc, PyObject *obj) {
    place at = {0};
    return write_place(enc, obj, find_object(enc->codec, obj, &at), &at);
}

int atoll_is_own(atoll_codec *codec, PyObject *obj) {
    if (is_container(obj)) {
        return 0;
    }
    place at = {0};
    int rc = owner_of(obj) != NULL ? find_method(codec, obj, &at) : find_object(codec, obj, &at);
    drop_place(&at);
    return rc;
}

int atoll_encode_bound(atoll_encoder *enc, PyObject *obj, int (*encode)(atoll_encoder *enc, PyObject *obj)) {
    place at = {0};
    int rc = write_place(enc, obj, find_method(enc->codec, obj, &at), &at);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    const PyObject *outer = enc->bound;
    enc->bound = owner_of(obj);
    rc = encode(enc, obj);
    enc->bound = outer;
    return rc;
}
