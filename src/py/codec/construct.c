/* Making an object by what its reduction says: a call, __new__, or neither.
 *
 * A class's own __new__ and __init__ may make something else of what they are given than what was sent.  Exceptions that need none
 * are made without; instances of classes that derive from int, str and the like have the value that they have at home.
 *
 * A __new__ that wants arguments, of which the class says nothing, is done without: all that is in the instance comes with it.
 *
 * In the attributes of a class there may be instances of it (the one instance, a cache), whose making looks for that very
 * attribute.  What needs no arguments is made by object.__new__ then.  What else looks for an attribute that is still to come
 * (codec/later.c) finds None, if it does not take the attribute's absence for an answer: the call is made again.
 */
#include "py/codec/internal.h"

/* Whether it is the method of named tuples, which says what is in one, item by item. */
static bool is_of_namedtuple(const atoll_codec *codec, PyObject *says) {
    PyObject *home = PyFunction_Check(says)
                         ? PyDict_GetItemWithError(PyFunction_GET_GLOBALS(says), codec->names[N_NAME])
                         : NULL;
    PyErr_Clear();
    return home != NULL && PyUnicode_Check(home) &&
           PyUnicode_CompareWithASCIIString(home, "collections") == 0;
}

/* The builtin class that an instance of `type` is a value of, when that class says what it is made of; or NULL, maybe with an
 * exception that must reach the user.  *items: it is a named tuple, of these arguments. */
static PyTypeObject *value_class_of(atoll_codec *codec, PyTypeObject *type, bool *items) {
    *items = false;
    PyTypeObject *base = type;
    while ((base->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0) {
        base = base->tp_base;
    }
    bool known = base == &PyLong_Type || base == &PyFloat_Type || base == &PyComplex_Type ||
                 base == &PyUnicode_Type || base == &PyBytes_Type || base == &PyTuple_Type;
    if (!known || type->tp_new == base->tp_new || !atoll_is_made_by_code(codec, type)) {
        return NULL;
    }
    PyObject *says = PyObject_GetAttr((PyObject *)type, codec->names[N_GETNEWARGS]);
    *items = says != NULL && base == &PyTuple_Type && is_of_namedtuple(codec, says);
    bool own = *items || (says != NULL && Py_IS_TYPE(says, &PyMethodDescr_Type));
    Py_XDECREF(says);
    if (says == NULL && !atoll_error_is_urgent()) {
        PyErr_Clear(); /* the class's own code decides */
    }
    return own ? base : NULL;
}

/* Whether obj is the value of these arguments: 1, 0, or -1 with an exception. */
static int has_value(atoll_codec *codec, PyTypeObject *base, PyObject *obj, PyObject *args) {
    PyObject *says = PyObject_GetAttr((PyObject *)base, codec->names[N_GETNEWARGS]);
    PyObject *value = says != NULL ? PyObject_CallOneArg(says, obj) : NULL;
    int same = value != NULL ? PyObject_RichCompareBool(value, args, Py_EQ) : -1;
    Py_XDECREF(says);
    Py_XDECREF(value);
    return same;
}

/* obj (stolen, or NULL with an exception) is what the class's own __new__ has made of a value: it is that, or the value is made by the
 * builtin class, for a __new__ that takes something else, or makes something else of it. */
static PyObject *as_it_was(atoll_codec *codec, PyTypeObject *type, PyObject *obj, PyObject *args) {
    if (obj == NULL && (!PyErr_ExceptionMatches(PyExc_Exception) || atoll_error_is_urgent())) {
        return NULL;
    }
    PyObject *why = PyErr_GetRaisedException();
    bool items;
    PyTypeObject *base = value_class_of(codec, type, &items);
    PyObject *rest = base != NULL ? PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args)) : NULL;
    if (rest != NULL && items) {
        Py_SETREF(rest, PyTuple_Pack(1, rest));
    }
    int same = PyErr_Occurred()                                                  ? -1
               : rest == NULL || (obj != NULL && !PyObject_TypeCheck(obj, type)) ? 1
               : obj == NULL ? 0
                             : has_value(codec, base, obj, rest);
    if (same < 0 && !atoll_error_is_urgent()) {
        PyErr_Clear();
        same = 0;
    }
    if (same == 0 && rest != NULL) {
        Py_XDECREF(obj);
        Py_CLEAR(why);
        obj = base->tp_new(type, rest, NULL);
    } else if (same < 0) {
        Py_CLEAR(obj);
    } else if (obj == NULL && !PyErr_Occurred()) {
        PyErr_SetRaisedException(Py_XNewRef(why));
    }
    Py_XDECREF(why);
    Py_XDECREF(rest);
    return obj;
}

PyObject *atoll_object_new(PyTypeObject *type) {
    PyObject *empty = PyTuple_New(0);
    PyObject *obj = empty != NULL ? PyBaseObject_Type.tp_new(type, empty, NULL) : NULL;
    Py_XDECREF(empty);
    return obj;
}

/* Whether there are only classes made by code between it and object. */
static bool is_of_object(const atoll_codec *codec, const PyTypeObject *type) {
    while (type != &PyBaseObject_Type && atoll_is_made_by_code(codec, type)) {
        type = type->tp_base;
    }
    return type == &PyBaseObject_Type;
}

PyObject *atoll_object_without_new(const atoll_codec *codec, PyTypeObject *type) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) && is_of_object(codec, type) &&
        (type->tp_flags & Py_TPFLAGS_IS_ABSTRACT) == 0) {
        PyErr_Clear();
        return atoll_object_new(type);
    }
    return NULL;
}

/* copyreg.__newobj__(*args). */
static PyObject *make_new(atoll_codec *codec, PyObject *make, PyObject *args) {
    PyTypeObject *type = (PyTypeObject *)PyTuple_GET_ITEM(args, 0);
    if (PyTuple_GET_SIZE(args) == 1 && atoll_is_being_made(codec, type) && is_of_object(codec, type) &&
        (type->tp_flags & Py_TPFLAGS_IS_ABSTRACT) == 0) {
        return atoll_object_new(type);
    }
    PyObject *obj = PyObject_Call(make, args, NULL);
    if (obj == NULL && PyTuple_GET_SIZE(args) == 1) {
        obj = atoll_object_without_new(codec, type);
    }
    return as_it_was(codec, type, obj, args);
}

static PyObject *call_constructor(atoll_decoder *dec, uint8_t tag, PyObject *func, PyObject *args,
                                  bool plain) {
    if (plain) {
        return tag == T_REDUCE && PyExceptionClass_Check(func)
                   ? atoll_exception_new((PyTypeObject *)func, args)
                   : atoll_malformed("a plain exception that is none");
    }
    if (tag == T_REDUCE) {
        return PyObject_Call(func, args, NULL);
    }
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    if (n < 1 || !PyType_Check(PyTuple_GET_ITEM(args, 0)) ||
        (tag == T_NEWOBJ_EX &&
         (n != 3 || !PyTuple_Check(PyTuple_GET_ITEM(args, 1)) || !PyDict_Check(PyTuple_GET_ITEM(args, 2))))) {
        return atoll_malformed("a construction without a class");
    }
    PyObject *type = PyTuple_GET_ITEM(args, 0);
    PyObject *make = PyObject_GetAttr(type, dec->codec->names[N_NEW]);
    if (make == NULL) {
        return NULL;
    }
    PyObject *obj = NULL;
    if (tag == T_NEWOBJ) {
        obj = make_new(dec->codec, make, args);
    } else {
        PyObject *first = PyTuple_Pack(1, type);
        PyObject *all = first != NULL ? PySequence_Concat(first, PyTuple_GET_ITEM(args, 1)) : NULL;
        obj = all != NULL ? PyObject_Call(make, all, PyTuple_GET_ITEM(args, 2)) : NULL;
        Py_XDECREF(first);
        Py_XDECREF(all);
    }
    Py_DECREF(make);
    return obj;
}

PyObject *atoll_construct(atoll_decoder *dec, uint8_t tag, PyObject *func, PyObject *args, bool plain) {
    PyObject *obj = call_constructor(dec, tag, func, args, plain);
    for (int i = 0; obj == NULL && i < ATOLL_STAND_INS && atoll_stand_in(dec->codec); i++) {
        obj = call_constructor(dec, tag, func, args, plain);
    }
    return obj;
}
