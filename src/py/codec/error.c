/* Naming the offending object: "args[1]['model'].lock: _thread.lock is not shareable".
 *
 * The encoder leaves a chain of frames on the C stack; nothing is computed until an error is certain.  What is named is the
 * outermost object that is the standard library's or of a known kind (a pool and not the lock in it), with what to do about it:
 * atoll._crossing.refusals chooses.  An
 * exception that a user's code raised becomes the cause of NotShareableError, except those that
 * speak of the process and not of the object (MemoryError, RecursionError, KeyboardInterrupt and their like).
 */
#include "py/codec/internal.h"

enum { KEY_SHOWN = 40, STEPS_SHOWN = 100 };

bool atoll_error_is_urgent(void) {
    return PyErr_Occurred() &&
           (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError));
}

bool atoll_error_comes_again(void) {
    return atoll_error_is_urgent() || (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_RecursionError));
}

void atoll_error_ensure(void) {
    if (!PyErr_Occurred()) {
        PyErr_NoMemory();
    }
}

/* Clears what a user's code raised while an error was described: it only costs detail.  False, and nothing is cleared,
 * when it must not be lost. */
static bool without_detail(void) {
    if (atoll_error_is_urgent()) {
        return false;
    }
    PyErr_Clear();
    return true;
}

/* repr(key), shortened. */
static PyObject *short_repr(PyObject *key) {
    PyObject *text = PyObject_Repr(key);
    if (text == NULL) {
        if (!without_detail()) {
            return NULL;
        }
        return PyUnicode_FromFormat("<%s>", Py_TYPE(key)->tp_name);
    }
    if (PyUnicode_GET_LENGTH(text) > KEY_SHOWN) {
        PyObject *head = PyUnicode_Substring(text, 0, KEY_SHOWN - 3);
        Py_SETREF(text, head != NULL ? PyUnicode_FromFormat("%U...", head) : NULL);
        Py_XDECREF(head);
    }
    return text;
}

/* What somebody who has written func calls the element of a tuple of its parts: a variable, a parameter; NULL, maybe with an
 * exception, for another tuple. */
static PyObject *part_name(const atoll_frame *parts, Py_ssize_t index) {
    PyCodeObject *code = (PyCodeObject *)((PyFunctionObject *)parts->obj)->func_code;
    bool closure = strcmp(parts->word, "__closure__") == 0;
    if (!closure && strcmp(parts->word, "__defaults__") != 0) {
        return NULL;
    }
    PyObject *names = closure ? PyCode_GetFreevars(code) : PyCode_GetVarnames(code);
    PyObject *defaults = ((PyFunctionObject *)parts->obj)->func_defaults;
    if (!closure && defaults != NULL) {
        index += code->co_argcount - PyTuple_GET_SIZE(defaults);
    }
    PyObject *name = names != NULL && index >= 0 && index < PyTuple_GET_SIZE(names)
                         ? PyUnicode_FromFormat("[%R]", PyTuple_GET_ITEM(names, index))
                         : NULL;
    Py_XDECREF(names);
    return name;
}

static bool is_partial(PyObject *obj) {
    return obj != NULL && strcmp(Py_TYPE(obj)->tp_name, "functools.partial") == 0;
}

/* Of what makes a class (atoll._crossing.classes): what a user knows it as, or NULL. */
static const char *class_part(const atoll_frame *fr) {
    static const char *const parts[] = {NULL,         "__class__", "__name__", "__qualname__",
                                        "__module__", "__bases__", "__dict__"};
    PyObject *kind = fr->obj != NULL && PyTuple_CheckExact(fr->obj) && PyTuple_GET_SIZE(fr->obj) != 0
                         ? PyTuple_GET_ITEM(fr->obj, 0)
                         : NULL;
    bool copied = kind != NULL && PyUnicode_Check(kind) &&
                  PyUnicode_CompareWithASCIIString(kind, "statement") != 0 &&
                  PyUnicode_CompareWithASCIIString(kind, "call") != 0;
    return copied && fr->index < (Py_ssize_t)(sizeof parts / sizeof parts[0]) ? parts[fr->index] : NULL;
}

/* An element of a tuple or the like; up: what has that, or NULL. */
static PyObject *index_text(const atoll_frame *fr, const atoll_frame *up) {
    static const char *const partial_parts[] = {"func", "args", "keywords"};
    PyObject *text = NULL;
    if (up != NULL && up->step == AT_WORD && up->obj != NULL && PyFunction_Check(up->obj)) {
        text = part_name(up, fr->index);
    } else if (up != NULL && up->step == AT_SELF && is_partial(up->obj) && fr->index < 3) {
        text = PyUnicode_FromFormat(".%s", partial_parts[fr->index]);
    } else if (up != NULL && up->step == AT_SELF && up->obj != NULL && PyType_Check(up->obj) &&
               class_part(fr) != NULL) {
        text = PyUnicode_FromFormat(".%s", class_part(fr));
    }
    return text != NULL || PyErr_Occurred() ? text : PyUnicode_FromFormat("[%zd]", fr->index);
}

/* up: the frame around fr, or NULL. */
static PyObject *step_text(const atoll_frame *fr, const atoll_frame *up) {
    PyObject *shown = NULL;
    PyObject *text = NULL;
    switch (fr->step) {
    case AT_CALLABLE:
        return PyUnicode_FromString(fr->word);
    case AT_ARG:
        return PyUnicode_FromFormat("%s[%zd]", fr->word, fr->index);
    case AT_INDEX:
        return index_text(fr, up);
    case AT_WORD: /* the cell of a variable is the variable */
        return fr->obj != NULL && PyCell_Check(fr->obj) ? PyUnicode_FromString("")
                                                        : PyUnicode_FromFormat(".%s", fr->word);
    case AT_ELEMENT:
        return PyUnicode_FromString("{…}");
    case AT_ATTR:
        return fr->key != NULL && PyUnicode_Check(fr->key) ? PyUnicode_FromFormat(".%U", fr->key)
                                                           : PyUnicode_FromString("");
    case AT_KWARG:
    case AT_KEY:
    case AT_GLOBAL:
        shown = fr->key != NULL ? short_repr(fr->key) : PyUnicode_FromString("?");
        if (shown != NULL) {
            const char *before = fr->step == AT_KWARG    ? "kwargs"
                                 : fr->step == AT_GLOBAL ? ".__globals__"
                                                         : "";
            text = PyUnicode_FromFormat("%s[%U]", before, shown);
            Py_DECREF(shown);
        }
        return text;
    default:
        return PyUnicode_FromString("");
    }
}

/* The path of the current object. */
static PyObject *path_text(atoll_encoder *enc) {
    const atoll_frame *chain[STEPS_SHOWN];
    size_t depth = 0;
    size_t left_out = 0;
    for (const atoll_frame *fr = enc->top; fr != NULL; fr = fr->up) {
        if (depth == STEPS_SHOWN) {
            /* Keep the outermost and innermost: drop from the middle outwards. */
            memmove(&chain[STEPS_SHOWN / 2], &chain[STEPS_SHOWN / 2 + 1],
                    (STEPS_SHOWN / 2 - 1) * sizeof chain[0]);
            depth--;
            left_out++;
        }
        chain[depth++] = fr;
    }
    const size_t count = depth;
    PyObject *path = PyUnicode_FromString(enc->root != NULL ? enc->root : "");
    while (depth > 0 && path != NULL) {
        depth--;
        PyObject *step = step_text(chain[depth], depth + 1 < count ? chain[depth + 1] : NULL);
        Py_SETREF(path, step != NULL ? PyUnicode_Concat(path, step) : NULL);
        Py_XDECREF(step);
        if (path != NULL && left_out != 0 && depth == STEPS_SHOWN / 2) {
            Py_SETREF(path, PyUnicode_FromFormat("%U...", path));
        }
    }
    return path;
}

/* Raises NotShareableError "PATH: what" with `cause` (stolen, may be NULL). */
static void raise_not_shareable(atoll_encoder *enc, PyObject *what, PyObject *cause) {
    PyObject *path = what != NULL ? path_text(enc) : NULL;
    PyObject *text = path != NULL ? PyUnicode_FromFormat("%U: %U", path, what) : NULL;
    PyObject *exc = text != NULL ? PyObject_CallOneArg(enc->codec->not_shareable, text) : NULL;
    Py_XDECREF(path);
    Py_XDECREF(text);
    if (exc == NULL) {
        Py_XDECREF(cause);
        return;
    }
    if (cause != NULL) {
        PyException_SetContext(exc, Py_NewRef(cause));
        PyException_SetCause(exc, cause);
    }
    PyErr_SetRaisedException(exc);
}

int atoll_encoder_refuse(atoll_encoder *enc, const char *why) {
    PyErr_Clear();
    PyObject *what = PyUnicode_FromString(why);
    raise_not_shareable(enc, what, NULL);
    Py_XDECREF(what);
    return -1;
}

int atoll_refuse_with_cause(atoll_encoder *enc, const char *why) {
    PyObject *cause = PyErr_GetRaisedException();
    PyObject *what = PyUnicode_FromString(why);
    raise_not_shareable(enc, what, cause);
    Py_XDECREF(what);
    return -1;
}

/* "module.qualname" of a type, without builtins, whatever the type's own code may do. */
static PyObject *type_text(PyTypeObject *type) {
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyObject *name = module != NULL ? PyType_GetQualName(type) : NULL;
    PyObject *text = NULL;
    if (name != NULL && PyUnicode_Check(module) &&
        PyUnicode_CompareWithASCIIString(module, "builtins") != 0) {
        text = PyUnicode_FromFormat("%U.%U", module, name);
    } else if (name != NULL) {
        text = Py_NewRef(name);
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    if (text == NULL && without_detail()) {
        text = PyUnicode_FromString(type->tp_name);
    }
    return text;
}

static bool is_container(PyObject *obj) {
    return PyDict_CheckExact(obj) || PyList_CheckExact(obj) || PyTuple_CheckExact(obj) ||
           PyAnySet_CheckExact(obj);
}

/* What is being written, outermost first, and obj last: a new list. */
static PyObject *nested_objects(const atoll_encoder *enc, PyObject *obj) {
    PyObject *nested = PyList_New(0);
    int rc = nested != NULL ? PyList_Append(nested, obj) : -1;
    PyObject *last = obj;
    for (const atoll_frame *fr = enc->top; fr != NULL && rc == 0; fr = fr->up) {
        if (fr->obj != NULL && fr->obj != last && !is_container(fr->obj)) {
            last = fr->obj;
            rc = PyList_Append(nested, last);
        }
    }
    if (rc < 0 || PyList_Reverse(nested) < 0) {
        Py_CLEAR(nested);
    }
    return nested;
}

/* Which object an error about obj is to name, and what it says of that one besides (atoll._crossing.refusals).  NULL with an exception; with
 * *advice (None, or a str) it is a new reference. */
static PyObject *choose(const atoll_encoder *enc, PyObject *obj, PyObject **advice) {
    PyObject *nested = nested_objects(enc, obj);
    PyObject *helper = nested != NULL ? PyImport_ImportModule("atoll._crossing.refusals") : NULL;
    PyObject *answer = helper != NULL ? PyObject_CallMethod(helper, "choose", "(O)", nested) : NULL;
    PyObject *chosen = NULL;
    Py_ssize_t index;
    if (answer != NULL && PyArg_ParseTuple(answer, "nO", &index, advice) && index >= 0 &&
        index < PyList_GET_SIZE(nested)) {
        chosen = Py_NewRef(PyList_GET_ITEM(nested, index));
        Py_INCREF(*advice);
    }
    Py_XDECREF(answer);
    Py_XDECREF(helper);
    Py_XDECREF(nested);
    return chosen;
}

/* What becomes of obj; NULL with an exception that must not be lost, or without one. */
static PyObject *refusal_text(PyObject *obj, PyObject *advice) {
    PyObject *type = type_text(Py_TYPE(obj));
    PyObject *what = NULL;
    if (type != NULL && (PyFunction_Check(obj) || PyType_Check(obj))) {
        PyObject *qualname = PyObject_GetAttrString(obj, "__qualname__");
        if (qualname != NULL || without_detail()) {
            what = PyUnicode_FromFormat("%U %V is not shareable", type,
                                        qualname != NULL && PyUnicode_Check(qualname) ? qualname : NULL, "?");
        }
        Py_XDECREF(qualname);
    } else if (type != NULL && advice != NULL && PyUnicode_Check(advice)) {
        what = PyUnicode_FromFormat("%U is not shareable: %U", type, advice);
    } else if (type != NULL) {
        what = PyUnicode_FromFormat("%U is not shareable", type);
    }
    Py_XDECREF(type);
    return what;
}

int atoll_refuse_type(atoll_encoder *enc, PyObject *obj) {
    PyObject *cause = PyErr_GetRaisedException();
    atoll_frame *top = enc->top;
    PyObject *advice = NULL;
    PyObject *chosen = choose(enc, obj, &advice);
    if (chosen == NULL && !without_detail()) {
        Py_XDECREF(cause);
        return -1;
    }
    if (chosen != NULL && chosen != obj) {
        for (atoll_frame *fr = enc->top; fr != NULL; fr = fr->up) {
            top = fr->obj == chosen ? fr->up : top; /* the outermost */
        }
        Py_CLEAR(cause); /* it speaks of what is inside */
    }
    PyObject *what = refusal_text(chosen != NULL ? chosen : obj, advice);
    atoll_frame *innermost = enc->top;
    enc->top = top;
    raise_not_shareable(enc, what, cause);
    enc->top = innermost;
    Py_XDECREF(chosen);
    Py_XDECREF(advice);
    Py_XDECREF(what);
    return -1;
}

bool atoll_passes_through(atoll_codec *codec) {
    return PyErr_ExceptionMatches(codec->not_shareable) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
           PyErr_ExceptionMatches(PyExc_RecursionError) || !PyErr_ExceptionMatches(PyExc_Exception);
}
