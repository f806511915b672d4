/* Receiving classes by value (codec_class.c has how they are written).
 *
 * A class is there before its attributes are, which may lead back to it.  So may those of its bases and of its metaclass
 * (a base that knows its subclasses): classes that come in the skeleton of another are filled after that other one is there.
 * Unless code runs to make that one, which needs them whole: then the class itself is left out of the globals of functions
 * until it is there.
 * Reading attributes may run Python code, and so other threads: one that receives the class meanwhile waits until it is
 * whole.  One that cannot be had as a whole is forgotten.
 *
 * A class that is there already, in another version, is changed in place, under the eyes of whoever uses it.
 */
#include "py/codec_internal.h"

#include "py/blocking.h"

#include <limits.h>

/* What the sender's module has under the class's own name is found under it where pickle looks: in a stand-in (codec_module.c) or,
 * if that is its __main__, in the __main__ of an interpreter that was made for work.  A name that is taken stays what it is, unless
 * an older class that was received has it. */
static int bind(atoll_codec *codec, PyObject *cls) {
    PyObject *where = PyObject_GetAttr(cls, codec->names[N_MODULE]);
    bool elsewhere = where != NULL && !atoll_is_main_name(codec, where);
    Py_XDECREF(where);
    if (where == NULL || elsewhere) {
        return where == NULL ? -1 : atoll_bind_class(codec, cls);
    }
    PyObject *main = PyImport_AddModule("__main__"); /* borrowed */
    PyObject *dict = main != NULL ? PyModule_GetDict(main) : NULL;
    PyObject *name = dict != NULL ? PyType_GetQualName((PyTypeObject *)cls) : NULL;
    PyObject *bound = name != NULL ? PyDict_GetItemWithError(dict, name) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (bound != NULL) {
        rc = PyType_Check(bound) ? atoll_class_is_received(codec, bound) : 0;
        rc = rc < 0 ? -1 : rc == 0;
    }
    if (rc == 0) {
        rc = PyDict_SetItem(dict, name, cls);
    }
    Py_XDECREF(name);
    return rc < 0 ? -1 : 0;
}

/* ---- classes that are being made ---- */

/* A thread that gave up waiting goes on with what there is: who makes the class may need something of that thread's. */
#define PATIENCE 10.0

static void begin_making(atoll_codec *codec, atoll_making *making, uint64_t number) {
    *making = (atoll_making){codec->making, number, PyThread_get_thread_ident()};
    codec->making = making;
}

static void end_making(atoll_codec *codec, const atoll_making *making) {
    atoll_making **link = &codec->making;
    while (*link != making) {
        link = &(*link)->next;
    }
    *link = making->next;
    atomic_fetch_add(&codec->made, 1);
    atoll_word_wake(&codec->made, INT_MAX);
}

/* Whether another thread makes it, and this one makes none: else each might wait for the other. */
static bool is_made_elsewhere(const atoll_codec *codec, uint64_t number) {
    unsigned long self = PyThread_get_thread_ident();
    bool found = false;
    for (const atoll_making *m = codec->making; m != NULL; m = m->next) {
        if (m->thread == self) {
            return false;
        }
        found |= m->number == number;
    }
    return found;
}

/* Until the class is whole, or what made it has failed.  0, or -1 with an exception. */
static int wait_for_maker(atoll_codec *codec, uint64_t number) {
    double limit = atoll_clock() + PATIENCE;
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    while (state != NULL && is_made_elsewhere(codec, number) && atoll_clock() < limit) {
        uint32_t made = atomic_load(&codec->made);
        atoll_blocking b;
        atoll_blocking_begin(&b, state, limit);
        atoll_wait_result why = atoll_word_wait(&codec->made, made, atoll_clock() + 0.05);
        why = atomic_load(&b.waiter.interrupted) ? ATOLL_WAIT_SIGNAL : why;
        if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
            return -1;
        }
        atoll_blocking_end(&b);
    }
    return 0;
}

/* The class of this number: a new reference, or NULL, maybe with an exception. */
static PyObject *known_class(atoll_codec *codec, uint64_t number) {
    if (codec->making != NULL && wait_for_maker(codec, number) < 0) {
        return NULL;
    }
    PyObject *cls = atoll_weak_get(codec->class_refs, number);
    if (cls != NULL && !PyType_Check(cls)) {
        Py_CLEAR(cls);
    }
    return cls;
}

/* A class that could not be filled is nobody's: it is made again when it comes again. */
static void forget(atoll_codec *codec, PyObject *cls, uint64_t number) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *address = PyLong_FromVoidPtr(cls);
    PyErr_Clear();
    PyErr_SetRaisedException(exc);
    atoll_weak_drop(codec->class_refs, key);
    atoll_weak_drop(codec->class_numbers, address);
    Py_XDECREF(key);
    Py_XDECREF(address);
}

/* What a skeleton describes.  NULL with an exception. */
static PyObject *make_class(PyObject *byvalue, PyObject *skeleton) {
    PyObject *cls = PyObject_CallMethod(byvalue, "make_class", "(O)", skeleton);
    if (cls != NULL && !PyType_Check(cls)) {
        Py_CLEAR(cls);
        atoll_malformed("a class that is not a class");
    }
    return cls;
}

/* Takes out of cls what was taken into it and did not come again.  met: names. */
static int drop_gone(atoll_codec *codec, PyObject *cls, PyObject *seen, PyObject *met) {
    PyObject *names = PyDict_Keys(seen);
    int rc = names != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(names); i++) {
        PyObject *name = PyList_GET_ITEM(names, i);
        int there = name == Py_None ? 1 : PySet_Contains(met, name);
        if (there != 0) {
            rc = there < 0 ? -1 : 0;
            continue;
        }
        atoll_note_bound(codec, 1);
        rc = PyDict_DelItem(seen, name);
        if (rc == 0 && PyType_Type.tp_setattro(cls, name, NULL) < 0) {
            rc = PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError) ? 0
                                                                                                         : -1;
            if (rc == 0) {
                PyErr_Clear(); /* the receiver's own code has deleted it, or it cannot be */
            }
        }
    }
    Py_XDECREF(names);
    return rc;
}

/* Some attributes that follow: those whose version is another than what was taken are put into `others`. */
static int read_attributes(atoll_decoder *dec, PyObject *seen, PyObject *met, PyObject *others) {
    Py_ssize_t n = atoll_get_count(dec, 2);
    int rc = n < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        atoll_named named;
        rc = atoll_decode_named(dec, &named);
        if (rc < 0) {
            break;
        }
        PyUnicode_InternInPlace(&named.name);
        int taken = atoll_taken(seen, named.name, named.version);
        rc = taken < 0 ? -1 : PySet_Add(met, named.name);
        if (rc == 0 && taken != ATOLL_SAME) {
            rc = atoll_take(seen, named.name, named.version);
            rc = rc == 0 ? PyDict_SetItem(others, named.name, named.value) : -1;
        }
        Py_DECREF(named.name);
        Py_DECREF(named.value);
    }
    return rc;
}

/* The attributes that follow, in two parts.  changed: cls has others, which are made these.  0, or -1 with an exception. */
static int fill_class(atoll_decoder *dec, PyObject *byvalue, PyObject *cls, PyObject *seen, bool changed) {
    PyObject *met = PySet_New(NULL);
    int rc = met != NULL ? 0 : -1;
    for (int i = 0; i < 2 && rc == 0; i++) {
        PyObject *others = PyDict_New();
        rc = others != NULL ? read_attributes(dec, seen, met, others) : -1;
        if (rc == 0 && (!changed || PyDict_GET_SIZE(others) != 0)) {
            atoll_note_bound(dec->codec, changed);
            PyObject *done = PyObject_CallMethod(byvalue, "fill_class", "OO", cls, others);
            rc = done != NULL ? 0 : -1;
            Py_XDECREF(done);
        }
        Py_XDECREF(others);
    }
    if (rc == 0 && dec->rd.at != dec->rd.end) {
        atoll_malformed("a class of the wrong size");
        rc = -1;
    }
    rc = rc == 0 && changed ? drop_gone(dec->codec, cls, seen, met) : rc;
    Py_XDECREF(met);
    return rc;
}

/* A class that is coming. */
typedef struct arrival {
    struct arrival *next;
    atoll_decoder part; /* reads what has come of it */
    atoll_making making;
    uint64_t number;
    uint64_t version;
    PyObject *cls;  /* NULL until it is there */
    PyObject *seen; /* what was taken of it */
    bool bound;     /* its module is to have it under its name */
} arrival;

struct atoll_arrivals {
    arrival *first;
    arrival **end;
};

static arrival *begin_arrival(atoll_decoder *dec, uint64_t number, uint64_t version, uint32_t size) {
    arrival *arr = PyMem_RawCalloc(1, sizeof *arr);
    PyObject *seen = arr != NULL ? PyDict_New() : NULL;
    if (seen == NULL) {
        PyErr_NoMemory();
        PyMem_RawFree(arr);
        return NULL;
    }
    arr->number = number;
    arr->version = version;
    arr->seen = seen;
    begin_making(dec->codec, &arr->making, number);
    atoll_decoder_begin_part(&arr->part, dec, size);
    return arr;
}

static void end_arrival(arrival *arr, bool whole) {
    if (!whole && arr->cls != NULL) {
        forget(arr->part.codec, arr->cls, arr->number);
    }
    atoll_decoder_end_part(&arr->part);
    end_making(arr->part.codec, &arr->making);
    Py_XDECREF(arr->cls);
    Py_DECREF(arr->seen);
    PyMem_RawFree(arr);
}

/* New reference.  Classes that come in it enter `others`, unless code is to run, for which they have to be whole. */
static PyObject *read_skeleton(atoll_decoder *part, struct atoll_arrivals *others) {
    part->arrivals = atoll_get_u8(&part->rd) == 0 ? others : NULL;
    PyObject *skeleton =
        part->rd.failed ? atoll_malformed("a class without contents") : atoll_decode_value(part);
    part->arrivals = NULL;
    return skeleton;
}

/* From its skeleton: the class is there afterwards.  Others that come in the skeleton enter `others`. */
static int make_arrived(arrival *arr, PyObject *byvalue, struct atoll_arrivals *others) {
    PyObject *skeleton = read_skeleton(&arr->part, others);
    arr->cls = skeleton != NULL ? make_class(byvalue, skeleton) : NULL;
    if (arr->cls == NULL) {
        Py_XDECREF(skeleton);
        return -1;
    }
    arr->bound = PyTuple_Check(skeleton) && PyTuple_GET_SIZE(skeleton) > 0 &&
                 PyTuple_GET_ITEM(skeleton, PyTuple_GET_SIZE(skeleton) - 1) == Py_True;
    Py_DECREF(skeleton);
    return atoll_class_give_number(arr->part.codec, arr->cls, arr->number, arr->seen);
}

static int fill_arrived(arrival *arr, PyObject *byvalue) {
    if (fill_class(&arr->part, byvalue, arr->cls, arr->seen, false) < 0 ||
        atoll_take(arr->seen, Py_None, arr->version) < 0) {
        return -1;
    }
    return arr->bound && arr->part.codec->interp_id != 0 ? bind(arr->part.codec, arr->cls) : 0;
}

/* A class that nobody has here, of the `size` bytes that follow.  New reference. */
static PyObject *receive_class(atoll_decoder *dec, uint64_t number, uint64_t version, uint32_t size) {
    struct atoll_arrivals own = {NULL, &own.first};
    struct atoll_arrivals *outer = dec->arrivals;
    PyObject *byvalue = atoll_codec_byvalue(dec->codec);
    arrival *arr = byvalue != NULL ? begin_arrival(dec, number, version, size) : NULL;
    if (arr == NULL) {
        return NULL;
    }
    bool whole = make_arrived(arr, byvalue, outer != NULL ? outer : &own) == 0;
    PyObject *cls = Py_XNewRef(arr->cls);
    if (whole && outer != NULL) {
        *outer->end = arr;
        outer->end = &arr->next;
        return cls;
    }
    while (own.first != NULL) {
        arrival *next = own.first->next;
        whole = whole && fill_arrived(own.first, byvalue) == 0;
        end_arrival(own.first, whole);
        own.first = next;
    }
    whole = whole && fill_arrived(arr, byvalue) == 0;
    end_arrival(arr, whole);
    if (!whole) {
        Py_CLEAR(cls);
    }
    return cls;
}

static int read_again(atoll_decoder *part, PyObject *cls, PyObject *seen) {
    PyObject *byvalue = atoll_codec_byvalue(part->codec);
    PyObject *skeleton = byvalue != NULL ? read_skeleton(part, NULL) : NULL;
    Py_XDECREF(skeleton); /* how cls was made stays */
    return skeleton != NULL ? fill_class(part, byvalue, cls, seen, true) : -1;
}

/* Makes a class that is there what it has become at home.  0, or -1 with an exception. */
static int make_same(atoll_decoder *dec, PyObject *cls, uint64_t version, size_t size) {
    PyObject *seen = Py_XNewRef(atoll_class_seen(dec->codec, cls));
    int taken = seen == NULL || seen == Py_None ? ATOLL_SAME : atoll_taken(seen, Py_None, version);
    int rc = taken < 0 || PyErr_Occurred() ? -1 : 0;
    if (rc == 0 && taken != ATOLL_SAME) {
        rc = atoll_take(seen, Py_None, version); /* before: the contents may lead back here */
        atoll_decoder part;
        atoll_decoder_begin_part(&part, dec, size);
        rc = rc == 0 ? read_again(&part, cls, seen) : -1;
        atoll_decoder_end_part(&part);
        taken = rc == 0 ? atoll_taken(seen, Py_None, version) : ATOLL_OTHER;
        rc = taken < 0 ? -1 : rc;
        if (taken != ATOLL_SAME) {
            /* It failed, or another thread has taken another version meanwhile: all of it is taken again. */
            PyDict_Clear(seen);
        }
    }
    Py_XDECREF(seen);
    return rc;
}

PyObject *atoll_decode_class(atoll_decoder *dec, uint8_t tag) {
    atoll_codec *codec = dec->codec;
    uint64_t number = atoll_get_u64(&dec->rd);
    if (atoll_codec_byvalue(codec) == NULL) { /* first: importing it lets others make the class */
        return NULL;
    }
    PyObject *cls = dec->rd.failed ? NULL : known_class(codec, number);
    if (cls == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (tag == T_CLASS_NUMBER) {
        if (cls == NULL) {
            return atoll_malformed("a class that was not sent");
        }
    } else {
        uint64_t version = atoll_get_u64(&dec->rd);
        uint32_t size = atoll_get_u32(&dec->rd);
        if (dec->rd.failed || size > atoll_reader_left(&dec->rd)) {
            Py_XDECREF(cls);
            return atoll_malformed("a class goes past the end");
        }
        if (cls == NULL) {
            cls = receive_class(dec, number, version, size);
        } else if (make_same(dec, cls, version, size) < 0) {
            Py_CLEAR(cls);
        }
        if (cls == NULL) {
            return NULL;
        }
        dec->rd.at += size;
    }
    if (atoll_remember(dec, cls) < 0) {
        Py_CLEAR(cls);
    }
    return cls;
}
