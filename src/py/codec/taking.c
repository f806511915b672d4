/* What is taken into globals while classes come: for good when these are whole.
 *
 * The functions of a class bring values for globals (codec/globals.c).  If the class cannot be had as a whole, it is forgotten, and what
 * was bound meanwhile may be that class, have instances of it, or be a list that was never filled: it is taken again
 * when it comes again.  So are classes that came as a whole in an instance of it: they may have it for a base.  A list, dict or set that is filled last (codec/later.c) counts as taken from then on only: a function that
 * another thread receives meanwhile brings its own.  For the thread that fills it, it is taken.
 *
 * Likewise, code that makes instances may put them into lists and dicts that were filled before: in the end these have what they have at
 * home.
 *
 * Under the GIL.  The notes belong to the part of a message that is one class, and each thread has a list of its own: nothing of
 * another's is left in a forked child.
 */
#include "py/codec/internal.h"

typedef struct taking {
    struct taking *next;
    PyObject *dict; /* owned, as the others: the globals */
    PyObject *seen;
    PyObject *name;  /* interned */
    PyObject *value; /* what is bound, and waits; or NULL */
    uint64_t version;
    bool waits; /* for what it is filled with */
} taking;

static _Thread_local atoll_takings *innermost;

void atoll_takings_begin(atoll_takings *list, const atoll_decoder *dec) {
    *list = (atoll_takings){.outer = innermost, .reading = dec->reading};
    innermost = list;
}

static void end_taking(const taking *item, bool whole) {
    uint64_t now = item->waits ? ATOLL_NONE_YET : item->version;
    if ((whole && !item->waits) || atoll_taken(item->seen, item->name, now) != ATOLL_SAME) {
        return; /* as it is; or another thread has taken another */
    }
    if (whole && item->value != NULL && PyDict_SetItem(item->dict, item->name, item->value) < 0) {
        return; /* another thread may have bound what it is still filling */
    }
    (void)atoll_take(item->seen, item->name, whole ? item->version : ATOLL_NONE_YET);
}

int atoll_takings_keep(atoll_takings *list, PyObject *obj, PyObject *whole) {
    if (list->kept == NULL && (list->kept = PyList_New(0)) == NULL) {
        return -1;
    }
    return PyList_Append(list->kept, obj) < 0 ? -1 : PyList_Append(list->kept, whole);
}

/* Tried again after Ctrl-C and the like, which stays for later; what else fails leaves obj as it is. */
static void settle(atoll_codec *codec, PyObject *obj, PyObject *whole, PyObject **urgent) {
    if (atoll_filled_settle(codec, obj, whole) == 0) {
        return;
    }
    if (atoll_error_is_urgent() && *urgent == NULL) {
        *urgent = PyErr_GetRaisedException();
        (void)atoll_filled_settle(codec, obj, whole);
    }
    PyErr_Clear();
}

/* Each has what it has at home, whatever code that ran after it was filled has put into it; with what this came in, if it came in
 * something.  What has to reach the user is returned: a new reference, or NULL. */
static PyObject *end_kept(atoll_takings *list, atoll_codec *codec, bool whole, atoll_takings *outer) {
    PyObject *kept = list->kept;
    PyObject *urgent = NULL;
    list->kept = NULL;
    if (kept != NULL && whole && outer != NULL) {
        if (outer->kept == NULL) {
            outer->kept = kept;
            return NULL;
        }
        (void)PyList_SetSlice(outer->kept, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, kept);
    }
    for (Py_ssize_t i = 0; kept != NULL && whole && outer == NULL && i + 1 < PyList_GET_SIZE(kept); i += 2) {
        settle(codec, PyList_GET_ITEM(kept, i), PyList_GET_ITEM(kept, i + 1), &urgent);
    }
    PyErr_Clear();
    Py_XDECREF(kept);
    return urgent;
}

void atoll_takings_class(atoll_takings *list, PyObject *cls, uint64_t number, PyObject *seen, bool is_new) {
    PyObject *entry =
        Py_BuildValue("(OKOO)", cls, (unsigned long long)number, seen, is_new ? Py_True : Py_False);
    list->classes = list->classes != NULL || entry == NULL ? list->classes : PyList_New(0);
    if (entry != NULL && list->classes != NULL) {
        (void)PyList_Append(list->classes, entry);
    }
    PyErr_Clear();
    Py_XDECREF(entry);
}

/* They are there for good, unless what they came in fails. */
static void end_classes(atoll_takings *list, atoll_codec *codec, bool whole, atoll_takings *outer) {
    PyObject *classes = list->classes;
    list->classes = NULL;
    if (classes != NULL && whole && outer != NULL) {
        if (outer->classes == NULL) {
            outer->classes = Py_NewRef(classes);
        } else {
            (void)PyList_SetSlice(outer->classes, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, classes);
        }
    }
    for (Py_ssize_t i = 0; classes != NULL && !whole && i < PyList_GET_SIZE(classes); i++) {
        PyObject *entry = PyList_GET_ITEM(classes, i);
        if (PyTuple_GET_ITEM(entry, 3) == Py_True) {
            atoll_class_forget(codec, PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, 1)),
                               PyTuple_GET_ITEM(entry, 0));
        } else {
            atoll_take_again(PyTuple_GET_ITEM(entry, 2));
        }
    }
    PyErr_Clear();
    Py_XDECREF(classes);
}

/* What this came in, and may fail yet: of the same message, or of one around it that it leans on; or NULL. */
static atoll_takings *around(const atoll_takings *list, const atoll_codec *codec) {
    atoll_takings *outer = list->outer;
    while (outer != NULL && outer->reading != list->reading &&
           !(list->reading->leans && outer->reading->codec == codec)) {
        outer = outer->outer;
    }
    return outer;
}

void atoll_takings_end(atoll_takings *list, atoll_codec *codec, bool whole) {
    atoll_takings **link = &innermost;
    while (*link != list) {
        link = &(*link)->outer;
    }
    *link = list->outer;
    atoll_takings *outer = around(list, codec);
    bool part = outer != NULL && outer->reading == list->reading;
    PyObject *urgent = end_kept(list, codec, whole, part ? outer : NULL);
    end_classes(list, codec, whole, outer);
    while (list->first != NULL) {
        taking *item = list->first;
        list->first = item->next;
        end_taking(item, whole);
        PyErr_Clear(); /* without memory it is taken once more than it need be, or stays */
        if (whole && outer != NULL) {
            item->waits = false;
            item->next = outer->first;
            outer->first = item;
            continue;
        }
        Py_DECREF(item->dict);
        Py_DECREF(item->seen);
        Py_XDECREF(item->value);
        Py_DECREF(item->name);
        PyMem_RawFree(item);
    }
    PyErr_SetRaisedException(urgent);
}

int atoll_take_global(atoll_takings *list, const atoll_globals *to, const atoll_named *named) {
    if (list == NULL) {
        return atoll_take(to->seen, named->name, named->version);
    }
    PyObject *bound = list->filling ? PyDict_GetItemWithError(to->dict, named->name) : NULL;
    taking *item = PyMem_RawMalloc(sizeof *item);
    if (item == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *item = (taking){.next = list->first,
                     .dict = Py_NewRef(to->dict),
                     .seen = Py_NewRef(to->seen),
                     .name = Py_NewRef(named->name),
                     .value = bound == named->value ? Py_XNewRef(bound) : NULL,
                     .version = named->version,
                     .waits = list->filling};
    list->first = item;
    return atoll_take(to->seen, named->name, list->filling ? ATOLL_NONE_YET : named->version);
}

bool atoll_is_taking(const atoll_decoder *dec, PyObject *seen, PyObject *name, uint64_t version) {
    for (const atoll_takings *list = innermost; list != NULL; list = list->outer) {
        for (const taking *item = list->reading->codec == dec->codec ? list->first : NULL; item != NULL;
             item = item->next) {
            if (item->waits && item->version == version && item->name == name && item->seen == seen) {
                atoll_reading_lean(dec, list->reading);
                return true;
            }
        }
    }
    return false;
}

int atoll_await_global(PyObject *seen, PyObject *name) { return atoll_take(seen, name, ATOLL_NONE_YET); }
