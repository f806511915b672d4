/* Receiving classes by value (codec/class.c has how they are written).
 *
 * A class is there before its attributes are, which may lead back to it.  So may those of its bases and of its metaclass
 * (a base that knows its subclasses), and of what its functions use: classes that come in the skeleton of another, or while
 * its code does, are made at once and filled together with it, stage by stage (codec/later.c).
 * Unless code runs to make that one, which needs them whole: then the class itself is left out of the globals of functions
 * until it is there.
 * Reading attributes may run Python code, and so other threads: one that receives the class meanwhile waits until it is
 * whole.  One that cannot be had as a whole is forgotten; in a forked child, so is what other threads were making.
 *
 * A class that is there already, in another version, is changed in place, in the same stages, under the eyes of whoever uses it.
 * So is one that is there in this version, but from before something else was changed: what it leads to is in its version, and may have been
 * made another by what came since (codec->bound counts such changes, as for functions: codec/number.c).
 */
#include "py/codec/internal.h"

/* What the sender's module has under the class's own name is found under it where pickle looks: in a stand-in (codec/module.c) or,
 * if that is its __main__, in the __main__ of an interpreter that was made for work.  A name that is taken stays what it is, unless
 * an older class that was received has it. */
static int bind(atoll_codec *codec, PyObject *cls) {
    PyObject *where = PyObject_GetAttr(cls, codec->names[N_MODULE]);
    bool elsewhere = where != NULL && !atoll_is_main_name(codec, where);
    Py_XDECREF(where);
    if (where == NULL || elsewhere) {
        return where == NULL ? -1 : atoll_bind_class(codec, cls);
    }
    PyObject *dict = atoll_main_dict(codec);
    PyObject *name = dict != NULL ? PyType_GetQualName((PyTypeObject *)cls) : NULL;
    PyObject *bound = name != NULL ? PyDict_GetItemWithError(dict, name) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (bound != NULL && !atoll_is_shown(codec, dict, name, bound)) {
        rc = PyType_Check(bound) ? atoll_class_is_received(codec, bound) : 0;
        rc = rc < 0 ? -1 : rc == 0;
    }
    if (rc == 0) {
        rc = PyDict_SetItem(dict, name, cls);
    }
    Py_XDECREF(name);
    Py_XDECREF(dict);
    return rc < 0 ? -1 : 0;
}

/* In __main__ another may have its name then. */
static void unbind(const atoll_codec *codec, PyObject *cls) {
    PyObject *dict = atoll_main_dict(codec);
    PyObject *name = dict != NULL ? PyType_GetQualName((PyTypeObject *)cls) : NULL;
    if (name != NULL && PyDict_GetItemWithError(dict, name) == cls) {
        (void)PyDict_DelItem(dict, name);
    }
    Py_XDECREF(name);
    Py_XDECREF(dict);
}

void atoll_class_forget(atoll_codec *codec, uint64_t number, PyObject *cls) {
    PyObject *exc = PyErr_GetRaisedException();
    atoll_weak_forget(codec->class_refs, number, codec->class_numbers, cls);
    if (codec->interp_id != 0) {
        unbind(codec, cls);
    }
    PyErr_SetRaisedException(exc);
}

/* The class of this number: a new reference, or NULL, maybe with an exception. */
static PyObject *known_class(const atoll_decoder *dec, uint64_t number) {
    atoll_codec *codec = dec->codec;
    if (codec->making != NULL && atoll_wait_for_maker(codec, number) < 0) {
        return NULL;
    }
    PyObject *cls = atoll_weak_get(codec->class_refs, number);
    if (cls != NULL && !PyType_Check(cls)) {
        Py_CLEAR(cls);
    }
    atoll_lean_on_coming(dec, number);
    return cls;
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
        int there = !PyUnicode_Check(name) ? 1 : PySet_Contains(met, name);
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

/* A class whose attributes are read. */
typedef struct {
    atoll_decoder *dec; /* reads the part of the class */
    PyObject *byvalue;  /* borrowed, as the others */
    PyObject *cls;
    PyObject *seen; /* what was taken of it */
    PyObject *met;  /* names that came; NULL for a class that is new */
    uint64_t number;
} filling;

/* Gives the class some attributes; able: the functions of its metaclass are whole. */
static int fill(const filling *to, PyObject *attributes, bool able) {
    atoll_note_bound(to->dec->codec, to->met != NULL);
    PyObject *done =
        PyObject_CallMethod(to->byvalue, "fill_class", "OOO", to->cls, attributes, able ? Py_True : Py_False);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* The next attribute: put into `others` when its version is another than what was taken. */
static int read_attribute(const filling *to, PyObject *others) {
    atoll_named named;
    if (atoll_decode_named(to->dec, &named) < 0) {
        return -1;
    }
    PyUnicode_InternInPlace(&named.name);
    int taken = atoll_taken(to->seen, named.name, named.version);
    int rc = taken < 0 ? -1 : to->met != NULL ? PySet_Add(to->met, named.name) : 0;
    if (rc == 0 && taken != ATOLL_SAME) {
        rc = atoll_same_value(to->dec, &named, to->number, true) < 0
                 ? -1
                 : atoll_take(to->seen, named.name, named.version);
        rc = rc == 0 ? PyDict_SetItem(others, named.name, named.value) : -1;
    } else if (rc == 0) {
        PyObject *dict = PyType_GetDict((PyTypeObject *)to->cls);
        rc = atoll_keep_bound(to->dec, dict, &named);
        Py_XDECREF(dict);
    }
    Py_DECREF(named.name);
    Py_DECREF(named.value);
    return rc;
}

/* Some attributes that follow, which are given to the class together, or one by one: code that the next runs may want the last. */
static int read_attributes(const filling *to, bool able, bool singly) {
    Py_ssize_t n = atoll_read_count(to->dec, 2);
    PyObject *others = n >= 0 ? PyDict_New() : NULL;
    int rc = others != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        rc = read_attribute(to, others);
        if (rc == 0 && PyDict_GET_SIZE(others) != 0 && (singly || i == n - 1)) {
            rc = fill(to, others, able);
            PyDict_Clear(others);
        }
    }
    Py_XDECREF(others);
    return rc;
}

/* A new class whose metaclass says the order of its bases: now it can be asked. */
static int settle(const filling *to) {
    PyObject *nothing = to->met == NULL ? PyDict_New() : NULL;
    int rc = nothing != NULL ? fill(to, nothing, true) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(nothing);
    return rc;
}

/* A class that is coming. */
typedef struct arrival {
    struct arrival *next;
    atoll_decoder part; /* reads what has come of it */
    atoll_pending pending;
    atoll_making making;
    uint64_t number;
    uint64_t version;
    PyObject *cls;  /* NULL until it is there */
    PyObject *seen; /* what was taken of it */
    PyObject *met;  /* of one that was there before: names that came; else NULL */
    bool bound;     /* its module is to have it under its name */
    bool has_code;
    bool has_bodies;
} arrival;

/* Those that are filled together. */
struct atoll_arrivals {
    arrival *first;
    arrival **end;
};

/* cls: one that is there, in another version, of which `seen` was taken; or NULL, both. */
static arrival *begin_arrival(atoll_decoder *dec, uint64_t number, uint64_t version, uint32_t size,
                              PyObject *cls, PyObject *seen) {
    arrival *arr = PyMem_RawCalloc(1, sizeof *arr);
    PyObject *met = arr != NULL && cls != NULL ? PySet_New(NULL) : NULL;
    seen = cls != NULL ? Py_NewRef(seen) : PyDict_New();
    if (arr == NULL || seen == NULL || (cls != NULL && met == NULL)) {
        PyErr_NoMemory();
        Py_XDECREF(seen);
        PyMem_RawFree(arr);
        return NULL;
    }
    arr->number = number;
    arr->version = version;
    arr->cls = Py_XNewRef(cls);
    arr->seen = seen;
    arr->met = met;
    atoll_making_enter(dec, met == NULL ? &dec->codec->making : &dec->codec->changing, &arr->making, number);
    arr->making.seen = seen;
    atoll_decoder_begin_part(&arr->part, dec, size);
    atoll_pending_begin(&arr->pending, dec);
    arr->part.pending = &arr->pending;
    return arr;
}

/* A class that was there before, and failed, or of which another thread has taken another version meanwhile: all of it is taken again
 * when it comes again. */
static void check_taken(const arrival *arr, bool whole) {
    PyObject *exc = PyErr_GetRaisedException();
    if (!whole || atoll_taken(arr->seen, Py_None, arr->version) != ATOLL_SAME) {
        PyErr_Clear();
        atoll_take_again(arr->seen);
    }
    PyErr_SetRaisedException(exc);
}

/* All that cls leads to is as it is at home until something is changed again: `seen` has under Ellipsis how often that was done.  Where another
 * thread has done so since the message began, it holds for this message only.  0, or -1 with an exception. */
static int note_current(const atoll_decoder *dec, PyObject *seen) {
    bool alone = dec->began_others == atoll_bound_by_others(dec->codec);
    return atoll_take(seen, Py_Ellipsis, alone ? dec->codec->bound : dec->began);
}

/* Whether all of it was taken in this version, and is still so: 1, 0, or -1 with an exception. */
static int is_current(const atoll_decoder *dec, PyObject *seen, uint64_t version) {
    int taken = atoll_taken(seen, Py_None, version);
    PyObject *count = taken == ATOLL_SAME ? PyDict_GetItemWithError(seen, Py_Ellipsis) : NULL;
    bool current = count != NULL && PyLong_AsUnsignedLongLong(count) >= dec->began;
    return PyErr_Occurred() ? -1 : current;
}

static void end_arrival(arrival *arr, bool whole) {
    atoll_codec *codec = arr->part.codec;
    if (arr->met != NULL) {
        check_taken(arr, whole);
    } else if (!whole && arr->cls != NULL) {
        atoll_class_forget(codec, arr->number, arr->cls);
    }
    if (whole) {
        atoll_takings_class(&arr->pending.takings, arr->cls, arr->number, arr->seen, arr->met == NULL);
        if (note_current(&arr->part, arr->seen) < 0) {
            PyErr_Clear(); /* without memory it is taken once more than it need be */
        }
    }
    atoll_pending_end(&arr->pending, codec, whole);
    atoll_decoder_end_part(&arr->part);
    if (arr->met == NULL) {
        atoll_end_making(codec, &arr->making);
    } else {
        atoll_making_leave(&codec->changing, &arr->making);
    }
    Py_XDECREF(arr->making.awaited);
    Py_XDECREF(arr->met);
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

/* Another thread, which did not wait for this one as it was making something itself, has made the class meanwhile: then that is the one, and
 * there is to be no other.  0, or -1 with an exception. */
static int yield_to_other(arrival *arr) {
    atoll_codec *codec = arr->part.codec;
    PyObject *other = atoll_weak_get(codec->class_refs, arr->number);
    PyObject *seen = other != NULL && PyType_Check(other) ? atoll_class_seen(codec, other) : NULL;
    if (seen != NULL && seen != Py_None && (arr->met = PySet_New(NULL)) != NULL) {
        Py_SETREF(arr->seen, Py_NewRef(seen));
        Py_SETREF(arr->cls, Py_NewRef(other)); /* from here on it is one that was there before */
        atoll_end_making(codec, &arr->making);
        atoll_making_enter(&arr->part, &codec->changing, &arr->making, arr->number);
        arr->making.seen = arr->seen;
    }
    Py_XDECREF(other);
    return PyErr_Occurred() ? -1 : 0;
}

/* From its skeleton: the class is there afterwards.  Others that come in the skeleton enter `others`.  How one was made that was there
 * before stays. */
static int make_arrived(arrival *arr, PyObject *byvalue, struct atoll_arrivals *others) {
    arr->making.active = true;
    PyObject *skeleton = read_skeleton(&arr->part, others);
    arr->making.active = false;
    if (skeleton == NULL || arr->met != NULL) {
        Py_XDECREF(skeleton);
        return skeleton != NULL ? 0 : -1;
    }
    if (atoll_show(arr->part.codec, &arr->making, skeleton) == 0) {
        arr->cls = make_class(byvalue, skeleton);
        atoll_hide(arr->part.codec, &arr->making);
    }
    if (arr->cls == NULL) {
        Py_DECREF(skeleton);
        return -1;
    }
    arr->bound = PyTuple_Check(skeleton) && PyTuple_GET_SIZE(skeleton) > 0 &&
                 PyTuple_GET_ITEM(skeleton, PyTuple_GET_SIZE(skeleton) - 1) == Py_True;
    Py_DECREF(skeleton);
    if (yield_to_other(arr) < 0 || arr->met != NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return atoll_class_give_number(arr->part.codec, arr->cls, arr->number, arr->seen);
}

/* As codec/class.c writes them: the stages in which others may come along. */
static int read_code(arrival *arr, const filling *to) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < 2; i++) { /* of its definition, CODE */
        rc = read_attributes(to, false, false);
    }
    arr->making.awaited = rc == 0 ? atoll_decode_names(to->dec) : NULL;
    return arr->making.awaited != NULL ? atoll_decode_held(to->dec) : -1;
}

static int read_bodies(arrival *arr, const filling *to) { return atoll_read_bodies(to->dec, &arr->pending); }

static int read_early(arrival *arr, const filling *to) {
    int rc = atoll_read_early(to->dec, &arr->pending);
    for (int i = 0; rc == 0 && i < 2; i++) { /* EARLY, FILLED */
        rc = read_attributes(to, false, false);
    }
    return rc;
}

static int read_states(arrival *arr, const filling *to) {
    int rc = atoll_read_states(to->dec, &arr->pending);
    rc = rc == 0 ? read_attributes(to, true, false) : rc; /* its definition */
    return rc == 0 && Py_TYPE(to->cls) != &PyType_Type ? settle(to) : rc;
}

static int read_data(arrival *arr, const filling *to) {
    (void)arr;
    return read_attributes(to, true, true);
}

/* The last of what comes: all else; then it is whole. */
static int read_end(arrival *arr, const filling *to) {
    if (atoll_read_late(to->dec, &arr->pending) < 0) {
        return -1;
    }
    if (to->dec->rd.at != to->dec->rd.end) {
        atoll_malformed("a class of the wrong size");
        return -1;
    }
    if (to->met != NULL) {
        return drop_gone(to->dec->codec, to->cls, to->seen, to->met);
    }
    int rc = atoll_take(to->seen, Py_None, arr->version);
    return rc == 0 && arr->bound && to->dec->codec->interp_id != 0 ? bind(to->dec->codec, to->cls) : rc;
}

/* One stage of what is read of a class. */
static int read_stage(arrival *arr, PyObject *byvalue, int (*read)(arrival *arr, const filling *to)) {
    const filling to = {&arr->part, byvalue, arr->cls, arr->seen, arr->met, arr->number};
    arr->making.active = true;
    int rc = read(arr, &to);
    arr->making.active = false;
    return rc;
}

static int fill_code(const struct atoll_arrivals *group, PyObject *byvalue) {
    for (arrival *arr = group->first; arr != NULL; arr = arr->next) { /* there may come more */
        if (!arr->has_code && read_stage(arr, byvalue, read_code) < 0) {
            return -1;
        }
        arr->has_code = true;
        arr->making.cls = arr->cls;
    }
    return 0;
}

/* Those without a body: 1 when there were some, 0, or -1 with an exception. */
static int fill_bodies(const struct atoll_arrivals *group, PyObject *byvalue) {
    int found = 0;
    for (arrival *arr = group->first; arr != NULL && arr->has_code; arr = arr->next) {
        if (!arr->has_bodies && read_stage(arr, byvalue, read_bodies) < 0) {
            return -1;
        }
        found |= !arr->has_bodies;
        arr->has_bodies = true;
    }
    return found;
}

/* What others come along with enters the group. */
static int fill_all_code(struct atoll_arrivals *group, PyObject *byvalue) {
    int more = 1;
    while (more > 0) {
        more = fill_code(group, byvalue) < 0 ? -1 : fill_bodies(group, byvalue);
    }
    return more;
}

/* All of them.  0, or -1 with an exception. */
static int fill_group(struct atoll_arrivals *group, PyObject *byvalue) {
    static int (*const stages[])(arrival *, const filling *) = {read_early, read_states, read_data, read_end};
    int rc = fill_all_code(group, byvalue);
    for (arrival *arr = group->first; arr != NULL; arr = arr->next) {
        arr->part.arrivals = NULL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(stages); i++) {
        for (arrival *arr = group->first; rc == 0 && arr != NULL; arr = arr->next) {
            rc = read_stage(arr, byvalue, stages[i]);
        }
    }
    return rc;
}

/* arr has been made, or not: it and the others that came with it are filled, and at an end.  0, or -1 with an exception. */
static int finish_group(struct atoll_arrivals *group, arrival *arr, PyObject *byvalue, bool made) {
    *group->end = arr;
    group->end = &arr->next;
    for (arrival *one = group->first; one != NULL; one = one->next) {
        one->part.arrivals = group;
    }
    int rc = made ? fill_group(group, byvalue) : -1;
    while (group->first != NULL) {
        arrival *next = group->first->next;
        end_arrival(group->first, rc == 0);
        group->first = next;
    }
    return PyErr_Occurred() ? -1 : rc;
}

/* A class of the `size` bytes that follow: one that nobody has here, or cls, of which `seen` was taken.  New reference. */
static PyObject *receive_class(atoll_decoder *dec, uint64_t number, uint64_t version, uint32_t size,
                               PyObject *known, PyObject *seen) {
    struct atoll_arrivals own = {NULL, &own.first};
    struct atoll_arrivals *outer = dec->arrivals;
    PyObject *byvalue = atoll_codec_byvalue(dec->codec);
    arrival *arr = byvalue != NULL ? begin_arrival(dec, number, version, size, known, seen) : NULL;
    if (arr == NULL) {
        return NULL;
    }
    bool made = make_arrived(arr, byvalue, outer != NULL ? outer : &own) == 0;
    PyObject *cls = Py_XNewRef(arr->cls);
    if (made && outer != NULL) {
        arr->part.arrivals = outer;
        *outer->end = arr;
        outer->end = &arr->next;
        return cls;
    }
    if (outer != NULL) {
        end_arrival(arr, false);
    } else {
        made = finish_group(&own, arr, byvalue, made) == 0;
    }
    if (!made) {
        Py_CLEAR(cls);
    }
    return cls;
}

/* Whether it comes together with what is being read, in this version, unless that is 0. */
static bool is_in_group(const atoll_decoder *dec, uint64_t number, uint64_t version) {
    const arrival *arr = dec->arrivals != NULL ? dec->arrivals->first : NULL;
    while (arr != NULL && (arr->number != number || (version != 0 && arr->version != version))) {
        arr = arr->next;
    }
    return arr != NULL;
}

/* Makes a class that is there what it has become at home.  0, or -1 with an exception. */
static int make_same(atoll_decoder *dec, PyObject *cls, uint64_t number, uint64_t version, uint32_t size) {
    PyObject *seen = Py_XNewRef(atoll_class_seen(dec->codec, cls));
    bool known = seen == NULL || seen == Py_None || is_in_group(dec, number, version);
    int current = known ? 1 : is_current(dec, seen, version);
    int rc = current < 0 || PyErr_Occurred() ? -1 : 0;
    if (rc == 0 && current == 0) {
        rc = atoll_take(seen, Py_None, version); /* before: the contents may lead back here */
        rc = rc == 0 ? atoll_take(seen, Py_Ellipsis, dec->began) : -1;
        PyObject *same = rc == 0 ? receive_class(dec, number, version, size, cls, seen) : NULL;
        rc = same != NULL ? 0 : -1;
        if (rc < 0) {
            atoll_take_again(seen); /* however far it came */
        }
        Py_XDECREF(same);
    }
    Py_XDECREF(seen);
    return rc;
}

/* The class of this number; its version and its size are next.  New reference, or NULL with an exception. */
static PyObject *decode_written(atoll_decoder *dec, uint64_t number, PyObject *cls) {
    uint64_t version = atoll_get_u64(&dec->rd);
    uint32_t size = atoll_get_u32(&dec->rd);
    if (dec->rd.failed || size > (size_t)(dec->msg->body.data + dec->msg->body.len - dec->rd.at)) {
        Py_XDECREF(cls);
        return atoll_malformed("a class goes past the end");
    }
    if (cls == NULL) {
        cls = receive_class(dec, number, version, size, NULL, NULL);
    } else if (make_same(dec, cls, number, version, size) < 0) {
        Py_CLEAR(cls);
    }
    if (cls != NULL) {
        dec->rd.at += size;
    }
    return cls;
}

/* One that is in the message before, or goes around this: then it is as far as it is.  But where this is read earlier than it comes, as something
 * else refers to it, that one may not go around what is being read, and has to be whole.  cls (stolen): what has this number here, or NULL. */
static PyObject *decode_reference(atoll_decoder *dec, uint64_t number, PyObject *cls) {
    uint64_t version = atoll_get_u64(&dec->rd);
    const uint8_t *field = dec->rd.at;
    uint64_t distance = atoll_get_u64(&dec->rd);
    const atoll_making *coming = atoll_coming(dec->codec, number);
    if (cls != NULL && version == 0 && (coming == NULL || coming->active || is_in_group(dec, number, 0))) {
        return cls;
    }
    if (dec->rd.failed || distance < ATOLL_CLASS_HEAD || distance > (size_t)(field - dec->msg->body.data) ||
        (cls == NULL && coming != NULL)) {
        Py_XDECREF(cls);
        return atoll_malformed("a class that was not sent");
    }
    const atoll_reader after = dec->rd;
    dec->rd = (atoll_reader){field - distance, dec->msg->body.data + dec->msg->body.len, false};
    cls = decode_written(dec, number, cls);
    dec->rd = after;
    return cls;
}

PyObject *atoll_decode_class(atoll_decoder *dec, uint8_t tag) {
    atoll_codec *codec = dec->codec;
    uint64_t number = atoll_get_u64(&dec->rd);
    if (atoll_codec_byvalue(codec) == NULL) { /* first: importing it lets others make the class */
        return NULL;
    }
    PyObject *cls = dec->rd.failed ? NULL : known_class(dec, number);
    if (cls == NULL && PyErr_Occurred()) {
        return NULL;
    }
    cls = tag == T_CLASS_NUMBER ? decode_reference(dec, number, cls) : decode_written(dec, number, cls);
    if (cls != NULL && atoll_remember(dec, cls) < 0) {
        Py_CLEAR(cls);
    }
    return cls;
}
