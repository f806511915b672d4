/* What is shown in __main__ while a class statement of another __main__ runs here: what its hooks look up in that module is found.
 *
 * The names are those of the namespace that stands for the module (codec/space.c).  Each making has its own note of what it shows; a
 * name that several show, as the same, is there until the last has ended.  Other threads see the names meanwhile, as they see what code in
 * the middle of something has bound; but for receiving they are not there: what __main__'s own code binds goes before what
 * comes (codec/globals.c), and these come.
 *
 * Under the GIL, which nothing here gives up: names that are no plain str are not shown.  In a forked child, what other threads showed goes
 * with what they were making.
 */
#include "py/codec/internal.h"

/* Where the names of a class statement come from: borrowed, or NULL, none is to be shown. */
static PyObject *namespace_of(atoll_codec *codec, PyObject *skeleton) {
    enum { KIND, NAMING = 4, MODULE = 6 }; /* python/atoll/_crossing/statements.py: make() */
    if (!PyTuple_Check(skeleton) || PyTuple_GET_SIZE(skeleton) <= MODULE ||
        !PyUnicode_Check(PyTuple_GET_ITEM(skeleton, KIND)) ||
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(skeleton, KIND), "statement") != 0 ||
        !PyFunction_Check(PyTuple_GET_ITEM(skeleton, NAMING)) ||
        !atoll_is_main_name(codec, PyTuple_GET_ITEM(skeleton, MODULE))) {
        return NULL;
    }
    return PyFunction_GET_GLOBALS(PyTuple_GET_ITEM(skeleton, NAMING));
}

bool atoll_is_shown(const atoll_codec *codec, PyObject *dict, PyObject *name, PyObject *value) {
    for (const atoll_making *m = codec->making; m != NULL; m = m->next) {
        if (m->shown != NULL && m->shown_in == dict && PyDict_GetItem(m->shown, name) == value) {
            return true;
        }
    }
    return false;
}

static bool may_show(const atoll_codec *codec, PyObject *dict, PyObject *name, PyObject *value) {
    bool plain = PyUnicode_CheckExact(name) &&
                 (PyUnicode_GET_LENGTH(name) < 2 || PyUnicode_READ_CHAR(name, 0) != '_' ||
                  PyUnicode_READ_CHAR(name, 1) != '_');
    PyObject *there = plain ? PyDict_GetItemWithError(dict, name) : NULL;
    return plain && !PyErr_Occurred() &&
           (there == NULL || (there == value && atoll_is_shown(codec, dict, name, value)));
}

int atoll_show(atoll_codec *codec, atoll_making *making, PyObject *skeleton) {
    PyObject *namespace = namespace_of(codec, skeleton);
    PyObject *dict = namespace != NULL ? atoll_main_dict(codec) : NULL;
    if (dict == NULL || dict == namespace) {
        Py_XDECREF(dict);
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *copy = PyDict_Copy(namespace);
    PyObject *shown = copy != NULL ? PyDict_New() : NULL;
    int rc = shown != NULL ? 0 : -1;
    making->shown = shown;
    making->shown_in = dict;
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    while (rc == 0 && PyDict_Next(copy, &pos, &name, &value)) {
        if (may_show(codec, dict, name, value)) {
            /* First: from when it is there on, it is known for what it is. */
            rc = PyDict_SetItem(shown, name, value) < 0 || PyDict_SetItem(dict, name, value) < 0 ? -1 : 0;
        }
        rc = PyErr_Occurred() ? -1 : rc;
    }
    Py_XDECREF(copy);
    if (rc < 0) {
        atoll_hide(codec, making);
    }
    return rc;
}

void atoll_hide(const atoll_codec *codec, atoll_making *making) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *shown = making->shown;
    PyObject *dict = making->shown_in;
    making->shown = NULL;
    making->shown_in = NULL;
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    while (shown != NULL && PyDict_Next(shown, &pos, &name, &value)) {
        if (PyDict_GetItemWithError(dict, name) == value && !atoll_is_shown(codec, dict, name, value)) {
            (void)PyDict_DelItem(dict, name);
        }
        PyErr_Clear();
    }
    Py_XDECREF(shown);
    Py_XDECREF(dict);
    PyErr_SetRaisedException(exc);
}
