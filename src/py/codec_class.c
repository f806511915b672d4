/* Classes: by import path, else, those of a __main__, by value.
 *
 *   T_CLASS
 *   u64    the class's number, process-wide
 *   u32    size of what follows
 *   value  skeleton: what makes the class (atoll._classes.describe_class)
 *   -- the class exists from here --
 *   value  dict of what belongs to its definition (annotations, dataclass fields)
 *   value  dict of its other attributes
 *
 * The part after the size has a memo of its own, so that a receiver that knows the number (because it
 * got the class before, or because it is the class's home) skips it.  Inside, the class names itself by its number, and
 * so does whatever leads back to it.
 *
 * The sender keeps the bytes of a class as long as nothing in them can have changed (codec_kept.c).
 *
 * Numbers are kept in weak maps: number to class in every interpreter that has it, class to number in each
 * that sent or received it.
 *
 * A class is there before its attributes are, which may lead back to it.  So may those of its bases and of its metaclass
 * (a base that knows its subclasses): classes that come in the skeleton of another are filled after that other one is there.
 * Reading attributes may run Python code, and so other threads: one that receives the class meanwhile waits until it is
 * whole.  One that cannot be had as a whole is forgotten.
 */
#include "py/codec_internal.h"

#include "py/blocking.h"

#include <limits.h>

enum { C_REF, C_NUMBER, C_RECEIVED };

/* The number of cls, given to it now where it had none; 0 with an exception. */
static uint64_t number_of(atoll_codec *codec, PyObject *cls) {
    PyObject *key = PyLong_FromVoidPtr(cls);
    PyObject *entry = key != NULL ? atoll_weak_entry(codec->class_numbers, key, cls) : NULL;
    Py_XDECREF(key);
    if (entry != NULL) {
        return PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, C_NUMBER));
    }
    return PyErr_Occurred() ? 0 : atoll_next_number();
}

static int give_number(atoll_codec *codec, PyObject *cls, uint64_t number, bool received) {
    PyObject *key = PyLong_FromVoidPtr(cls);
    PyObject *more[] = {PyLong_FromUnsignedLongLong(number), received ? Py_True : Py_False};
    int rc = key != NULL && more[0] != NULL ? atoll_weak_store(codec->class_numbers, key, cls, more, 2) : -1;
    Py_XDECREF(key);
    Py_XDECREF(more[0]);
    return rc < 0 ? -1 : atoll_weak_put(codec->class_refs, number, cls);
}

/* Before the contents of a class are written: they may lead back to it. */
static int ensure_number(atoll_codec *codec, PyObject *cls, uint64_t number) {
    PyObject *there = atoll_weak_get(codec->class_refs, number);
    int rc = there == cls ? 0 : PyErr_Occurred() ? -1 : give_number(codec, cls, number, false);
    Py_XDECREF(there);
    return rc;
}

/* ---- sending ---- */

/* pair[i] of what describes a class; `exempt` when it is part of the definition, whatever it is made of. */
static int encode_described(atoll_encoder *enc, PyObject *described, Py_ssize_t i, bool exempt) {
    enc->exempt += exempt;
    int rc = atoll_encode_state(enc, PyTuple_GET_ITEM(described, i));
    enc->exempt -= exempt;
    return rc;
}

static int encode_contents(atoll_encoder *enc, PyObject *cls) {
    PyObject *byvalue = atoll_codec_byvalue(enc->codec);
    PyObject *described = byvalue != NULL ? PyObject_CallMethod(byvalue, "describe_class", "(O)", cls) : NULL;
    if (described == NULL || !PyTuple_Check(described) || PyTuple_GET_SIZE(described) != 3) {
        Py_XDECREF(described);
        return PyErr_Occurred() && atoll_passes_through(enc->codec) ? -1 : atoll_refuse_type(enc, cls);
    }
    int rc = encode_described(enc, described, 0, true);
    if (rc == 0) {
        rc = encode_described(enc, described, 1, true);
    }
    if (rc == 0) {
        rc = encode_described(enc, described, 2, false);
    }
    Py_DECREF(described);
    return rc;
}

static int write_part(atoll_encoder *enc, atoll_encoder *part, PyObject *cls) {
    int rc = atoll_encoder_begin_part(part, enc);
    part->witnesses = NULL;
    if (rc < 0) {
        return -1;
    }
    part->exempt = 0;
    part->impure = !atoll_kept_watch_class(enc->codec, cls);
    part->witnesses = PyList_New(0);
    rc = part->witnesses != NULL && atoll_witness(part, cls) == 0 ? encode_contents(part, cls) : -1;
    atoll_encoder_end_part(part);
    return rc;
}

static int write_anew(atoll_encoder *enc, PyObject *cls, uint64_t number) {
    size_t size_at = enc->msg->body.len;
    uint64_t epoch = atoll_definitions_epoch(enc->codec);
    uint8_t *at = atoll_reserve(enc, 4);
    if (at == NULL) {
        return -1;
    }
    atoll_commit(enc, at + 4);
    atoll_class_frame fr = {enc->classes, cls, number, enc->classes != NULL ? enc->classes->depth + 1 : 1};
    atoll_encoder part;
    atoll_class_frame *outer = enc->classes;
    unsigned lowest = enc->lowest;
    enc->classes = &fr; /* the part has them from here */
    enc->lowest = fr.depth;
    int rc = write_part(enc, &part, cls);
    enc->classes = outer;
    enc->lowest = lowest;
    size_t size = enc->msg->body.len - size_at - 4;
    if (rc == 0 && size > UINT32_MAX) {
        rc = atoll_encoder_refuse(enc, "a class of more than 4 GiB is not shareable");
    }
    if (rc == 0) {
        uint8_t *start = enc->msg->body.data + size_at;
        atoll_store_u32(start, (uint32_t)size);
        enc->impure |= part.impure;
        enc->lowest = part.lowest < enc->lowest ? part.lowest : enc->lowest;
        if (!part.impure && part.lowest >= fr.depth && epoch == atoll_definitions_epoch(enc->codec)) {
            rc = atoll_kept_store(enc->codec, cls, number, part.witnesses, start + 4, size);
            rc = rc < 0 ? -1 : 0;
        }
        if (rc == 0) {
            rc = atoll_witness_all(enc, part.witnesses);
        }
    }
    Py_XDECREF(part.witnesses);
    return rc;
}

PyObject *atoll_class_of_namespace(const atoll_encoder *enc, const PyObject *dict) {
    for (const atoll_class_frame *fr = enc->classes; fr != NULL; fr = fr->up) {
        PyObject *own = PyType_GetDict((PyTypeObject *)fr->cls);
        Py_XDECREF(own); /* the class has it */
        if (own == dict) {
            return fr->cls;
        }
    }
    return NULL;
}

static int encode_by_value(atoll_encoder *enc, PyObject *cls) {
    for (atoll_class_frame *fr = enc->classes; fr != NULL; fr = fr->up) {
        if (fr->cls == cls) {
            enc->lowest = fr->depth < enc->lowest ? fr->depth : enc->lowest;
            return atoll_put_tag(enc, T_CLASS_NUMBER | ATOLL_MEMO) < 0 ||
                           atoll_put_u64_checked(enc, fr->number) < 0
                       ? -1
                       : atoll_memo_add(enc, cls);
        }
    }
    uint64_t number = number_of(enc->codec, cls);
    if (number == 0 || atoll_put_tag(enc, T_CLASS | ATOLL_MEMO) < 0 ||
        atoll_put_u64_checked(enc, number) < 0) {
        return -1;
    }
    int rc = atoll_kept_write(enc, cls, number);
    if (rc == 0) {
        rc = ensure_number(enc->codec, cls, number) < 0 ? -1 : write_anew(enc, cls, number);
    }
    return rc < 0 ? -1 : atoll_memo_add(enc, cls);
}

/* The types of None, Ellipsis and NotImplemented have names but no path: type(None) says it all. */
static int encode_singleton_type(atoll_encoder *enc, PyObject *cls, PyObject *instance) {
    if (atoll_put_tag(enc, T_REDUCE | ATOLL_MEMO) < 0 || atoll_put_tag(enc, 0) < 0 ||
        atoll_encode_shared(enc, (PyObject *)&PyType_Type) < 0 || atoll_put_count(enc, 1) < 0 ||
        atoll_encode_shared(enc, instance) < 0) {
        return -1;
    }
    return atoll_memo_add(enc, cls);
}

bool atoll_is_made_by_code(const atoll_codec *codec, const PyTypeObject *cls) {
    return (cls->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 && (cls->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) == 0 &&
           ((const PyHeapTypeObject *)cls)->ht_module == NULL &&
           cls->tp_dealloc == ((PyTypeObject *)codec->not_shareable)->tp_dealloc;
}

int atoll_encode_class(atoll_encoder *enc, PyObject *cls) {
    PyObject *const singletons[] = {Py_None, Py_Ellipsis, Py_NotImplemented};
    for (int i = 0; i < 3; i++) {
        if (cls == (PyObject *)Py_TYPE(singletons[i])) {
            return encode_singleton_type(enc, cls, singletons[i]);
        }
    }
    int rc = atoll_try_global(enc, cls);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    PyObject *module = PyObject_GetAttr(cls, enc->codec->names[N_MODULE]);
    if (module == NULL) {
        if (atoll_passes_through(enc->codec)) {
            return -1;
        }
        PyErr_Clear();
    }
    bool mine = atoll_is_made_by_code(enc->codec, (PyTypeObject *)cls) ||
                (module != NULL && atoll_is_main_name(enc->codec, module) &&
                 (((PyTypeObject *)cls)->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0);
    Py_XDECREF(module);
    return mine ? encode_by_value(enc, cls) : atoll_encode_fallback(enc, cls);
}

/* ---- receiving ---- */

/* What the sender's __main__ has under the class's own name is found under it in the __main__ of an interpreter that was made
 * for work, so that pickle, and the names in annotations, work as at home.  A name that is taken stays what it is, unless
 * an older class that was received has it. */
static int bind_in_main(atoll_codec *codec, PyObject *cls) {
    PyObject *main = PyImport_AddModule("__main__"); /* borrowed */
    PyObject *dict = main != NULL ? PyModule_GetDict(main) : NULL;
    PyObject *name = dict != NULL ? PyType_GetQualName((PyTypeObject *)cls) : NULL;
    PyObject *bound = name != NULL ? PyDict_GetItemWithError(dict, name) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (bound != NULL) {
        PyObject *key = PyLong_FromVoidPtr(bound);
        PyObject *entry = key != NULL ? atoll_weak_entry(codec->class_numbers, key, bound) : NULL;
        Py_XDECREF(key);
        rc = PyErr_Occurred() ? -1 : entry != NULL && PyTuple_GET_ITEM(entry, C_RECEIVED) == Py_True ? 0 : 1;
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

/* The two dicts of attributes that follow.  0, or -1 with an exception. */
static int fill_class(atoll_decoder *dec, PyObject *byvalue, PyObject *cls) {
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        PyObject *attributes = atoll_decode_value(dec);
        PyObject *done =
            attributes != NULL ? PyObject_CallMethod(byvalue, "fill_class", "OO", cls, attributes) : NULL;
        rc = done != NULL ? 0 : -1;
        Py_XDECREF(attributes);
        Py_XDECREF(done);
    }
    if (rc == 0 && dec->rd.at != dec->rd.end) {
        atoll_malformed("a class of the wrong size");
        rc = -1;
    }
    return rc;
}

/* A class that is coming. */
typedef struct arrival {
    struct arrival *next;
    atoll_decoder part; /* reads what has come of it */
    atoll_making making;
    uint64_t number;
    PyObject *cls; /* NULL until it is there */
    bool bound;    /* __main__ is to have it under its name */
} arrival;

struct atoll_arrivals {
    arrival *first;
    arrival **end;
};

static arrival *begin_arrival(atoll_decoder *dec, uint64_t number, uint32_t size) {
    arrival *arr = PyMem_RawCalloc(1, sizeof *arr);
    if (arr == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    arr->number = number;
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
    PyMem_RawFree(arr);
}

/* From its skeleton: the class is there afterwards.  Others that come in the skeleton enter `others`. */
static int make_arrived(arrival *arr, PyObject *byvalue, struct atoll_arrivals *others) {
    arr->part.arrivals = others;
    PyObject *skeleton = atoll_decode_value(&arr->part);
    arr->part.arrivals = NULL;
    arr->cls = skeleton != NULL ? make_class(byvalue, skeleton) : NULL;
    if (arr->cls == NULL) {
        Py_XDECREF(skeleton);
        return -1;
    }
    arr->bound = PyTuple_Check(skeleton) && PyTuple_GET_SIZE(skeleton) > 0 &&
                 PyTuple_GET_ITEM(skeleton, PyTuple_GET_SIZE(skeleton) - 1) == Py_True;
    Py_DECREF(skeleton);
    return give_number(arr->part.codec, arr->cls, arr->number, true);
}

static int fill_arrived(arrival *arr, PyObject *byvalue) {
    if (fill_class(&arr->part, byvalue, arr->cls) < 0) {
        return -1;
    }
    return arr->bound && arr->part.codec->interp_id != 0 ? bind_in_main(arr->part.codec, arr->cls) : 0;
}

/* A class that nobody has here, of the `size` bytes that follow.  New reference. */
static PyObject *receive_class(atoll_decoder *dec, uint64_t number, uint32_t size) {
    struct atoll_arrivals own = {NULL, &own.first};
    struct atoll_arrivals *outer = dec->arrivals;
    PyObject *byvalue = atoll_codec_byvalue(dec->codec);
    arrival *arr = byvalue != NULL ? begin_arrival(dec, number, size) : NULL;
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

PyObject *atoll_decode_class(atoll_decoder *dec, uint8_t tag) {
    atoll_codec *codec = dec->codec;
    uint64_t number = atoll_get_u64(&dec->rd);
    PyObject *cls = dec->rd.failed ? NULL : known_class(codec, number);
    if (cls == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (tag == T_CLASS_NUMBER) {
        if (cls == NULL) {
            return atoll_malformed("a class that was not sent");
        }
    } else {
        uint32_t size = atoll_get_u32(&dec->rd);
        if (dec->rd.failed || size > atoll_reader_left(&dec->rd)) {
            Py_XDECREF(cls);
            return atoll_malformed("a class goes past the end");
        }
        if (cls == NULL) {
            cls = receive_class(dec, number, size);
            if (cls == NULL) {
                return NULL;
            }
        }
        dec->rd.at += size;
    }
    if (atoll_remember(dec, cls) < 0) {
        Py_CLEAR(cls);
    }
    return cls;
}
