/* Classes: by import path, else, those of a __main__, by value.
 *
 *   T_CLASS
 *   u64    the class's number, process-wide
 *   u64    version: a hash of what follows the size
 *   u32    size of what follows
 *   u8     whether making the class runs code (atoll._crossing.statements)
 *   value  skeleton: what makes the class (atoll._crossing.classes.describe_class)
 *   -- the class exists from here --
 *   count  and that many names with their versions and values: of its definition, what others may need early (members of enums)
 *   count  likewise its functions, and what else is RANK_CODE (codec/later.c)
 *   value  names of attributes that are RANK_LATE: a tuple
 *   definitions in the attributes that are still to come (codec/held.c)
 *   bodies of functions
 *   what is RANK_EARLY or RANK_FILLED of what its functions lead to
 *   count  likewise its attributes that are RANK_EARLY
 *   count  likewise those that are RANK_FILLED
 *   states of functions
 *   count  likewise what else belongs to its definition (annotations, dataclass fields)
 *   count  likewise its other attributes
 *   what is RANK_LATE of what its functions lead to, and what is in lists, dicts and sets that were empty
 *
 * The part after the size has a memo of its own, so that a receiver that has this version of the class, and the class's home,
 * skip it.  What is in the message before, or is being written, is referred to (codec/written.c):
 *
 *   T_CLASS_NUMBER
 *   u64    the class's number
 *   u64    its version; 0 while it is being written: then whichever is there will do
 *   u64    how many bytes before this field its version and size are
 *
 * A receiver that has another version changes its class into this one, attribute by attribute: it has noted which version of each
 * it has taken (codec/version.c), sets those that are others now, and deletes those that are gone.  What its own code has set stays
 * until it changes at home.  How the class was made (its bases, its slots) stays, too.
 *
 * The sender keeps the bytes of a class as long as nothing in them can have changed (codec/kept.c).
 *
 * Numbers are kept in weak maps: number to class in every interpreter that has it, class to number in each
 * that sent or received it.
 *
 * Receiving is in codec/arrival.c.
 */
#include "py/codec/internal.h"

enum {
    C_REF,
    C_NUMBER,
    C_SEEN
}; /* C_SEEN: what was taken of a received class (under None, its version; Ellipsis: codec/arrival.c), None at home */

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

/* What was taken of a class that was received: a borrowed dict, name -> version; None for one that is at home; NULL, maybe with an
 * exception, for one that has no number. */
PyObject *atoll_class_seen(atoll_codec *codec, PyObject *cls) {
    PyObject *key = PyLong_FromVoidPtr(cls);
    PyObject *entry = key != NULL ? atoll_weak_entry(codec->class_numbers, key, cls) : NULL;
    Py_XDECREF(key);
    return entry != NULL ? PyTuple_GET_ITEM(entry, C_SEEN) : NULL;
}

int atoll_class_is_received(atoll_codec *codec, PyObject *cls) {
    PyObject *seen = atoll_class_seen(codec, cls);
    return seen != NULL ? seen != Py_None : PyErr_Occurred() ? -1 : 0;
}

int atoll_class_give_number(atoll_codec *codec, PyObject *cls, uint64_t number, PyObject *seen) {
    PyObject *key = PyLong_FromVoidPtr(cls);
    PyObject *more[] = {PyLong_FromUnsignedLongLong(number), seen};
    int rc = key != NULL && more[0] != NULL ? atoll_weak_store(codec->class_numbers, key, cls, more, 2) : -1;
    Py_XDECREF(key);
    Py_XDECREF(more[0]);
    return rc < 0 ? -1 : atoll_weak_put(codec->class_refs, number, cls);
}

/* Before the contents of a class are written: they may lead back to it. */
static int ensure_number(atoll_codec *codec, PyObject *cls, uint64_t number) {
    PyObject *there = atoll_weak_get(codec->class_refs, number);
    int rc = there == cls ? 0 : PyErr_Occurred() ? -1 : atoll_class_give_number(codec, cls, number, Py_None);
    Py_XDECREF(there);
    return rc;
}

/* ---- sending ---- */

/* name -> value; `exempt` when they are part of the definition, whatever they are made of. */
static int encode_attributes(atoll_encoder *enc, PyObject *cls, PyObject *attributes, bool exempt) {
    int rc = atoll_write_count(enc, attributes != NULL ? (uint64_t)PyDict_GET_SIZE(attributes) : 0);
    atoll_frame fr;
    atoll_push(enc, &fr, cls, AT_ATTR);
    enc->exempt++; /* what may change is looked at by itself */
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    while (rc == 0 && attributes != NULL &&
           PyDict_Next(attributes, &pos, &name, &value)) { /* nobody else has it */
        fr.key = name;
        bool fixed = exempt || atoll_is_fixed(value);
        uint64_t version;
        rc = atoll_version_to_send(enc, value, &version, fixed);
        rc = rc == 0 && !fixed ? atoll_reach_attribute(enc, cls, name, version) : rc;
        rc = rc == 0 ? atoll_encode_named(enc, name, value, version, fixed) : rc;
    }
    enc->exempt--;
    atoll_pop(enc, &fr);
    return rc;
}

static bool is_descriptor(PyObject *value) {
    return Py_TYPE(value)->tp_descr_get != NULL || Py_TYPE(value)->tp_descr_set != NULL;
}

/* Those that are descriptors, or the others, by ranks.  A metaclass's mro() is asked as soon as it is there: it counts as what
 * runs.  0, or -1 with an exception. */
static int split_some(atoll_encoder *enc, PyObject *attributes, PyObject *parts[ATOLL_RANKS],
                      bool descriptors) {
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(attributes, &pos, &name, &value)) { /* nobody else has it */
        if (is_descriptor(value) != descriptors) {
            continue;
        }
        atoll_rank rank;
        rc = atoll_rank_of(enc, value, &rank);
        if (rank == RANK_CODE && PyUnicode_Check(name) &&
            PyUnicode_CompareWithASCIIString(name, "mro") == 0) {
            rank = RANK_EARLY;
        }
        rc = rc == 0 ? atoll_ranks_put(parts, rank, name, value) : -1;
    }
    return rc;
}

/* Instances that come after a descriptor have their attributes set by it. */
static int split_attributes(atoll_encoder *enc, PyObject *attributes, PyObject *parts[ATOLL_RANKS]) {
    int rc = split_some(enc, attributes, parts, true);
    return rc == 0 ? split_some(enc, attributes, parts, false) : rc;
}

bool atoll_class_is_awaited(atoll_encoder *enc, const PyObject *obj) {
    const atoll_class_frame *fr = enc->classes;
    while (fr != NULL && fr->cls != obj) {
        fr = fr->up;
    }
    if (fr != NULL && fr->awaited) {
        atoll_written_leave_out(enc, fr->at);
    }
    return fr != NULL && fr->awaited;
}

/* described[0]: what makes the class, and, last but one, whether that is code that runs: the class's statement. */
static bool is_run(PyObject *described) {
    PyObject *skeleton = PyTuple_GET_ITEM(described, 0);
    Py_ssize_t n = PyTuple_Check(skeleton) ? PyTuple_GET_SIZE(skeleton) : 0;
    return n >= 2 && PyTuple_GET_ITEM(skeleton, n - 2) == Py_True;
}

/* What belongs to the definition, or NULL for nothing.  What the functions of a class use that is made by its statement may need a
 * class around it, which is being made by its own: then it comes with that one (atoll._crossing.statements). */
static PyObject *definition_of(atoll_encoder *enc, PyObject *described) {
    for (const atoll_class_frame *fr = enc->classes->up; fr != NULL && is_run(described); fr = fr->up) {
        if (fr->awaited) {
            atoll_written_leave_out(enc, fr->at);
            return NULL;
        }
    }
    return PyTuple_GET_ITEM(described, 2);
}

static int encode_skeleton(atoll_encoder *enc, PyObject *described, atoll_later *later) {
    PyObject *skeleton = PyTuple_GET_ITEM(described, 0);
    bool runs = is_run(described);
    enc->classes->awaited = runs;
    enc->later = runs ? NULL : later; /* code that runs wants all that it names */
    atoll_frame fr;
    atoll_push(enc, &fr, (PyObject *)enc->classes->cls, AT_SELF);
    enc->exempt++;
    int rc = atoll_write_tag(enc, runs) < 0 ? -1 : atoll_encode_state(enc, skeleton);
    enc->exempt--;
    atoll_pop(enc, &fr);
    enc->classes->awaited = false;
    return rc;
}

int atoll_encode_names(atoll_encoder *enc, PyObject *attributes) {
    PyObject *names = attributes != NULL ? PySequence_Tuple(attributes) : PyTuple_New(0);
    int rc = names != NULL ? atoll_encode_shared(enc, names) : -1;
    Py_XDECREF(names);
    return rc;
}

static int encode_late(atoll_encoder *enc, PyObject *cls, PyObject *attributes, atoll_later *later) {
    enc->unfilled = later;
    int rc = encode_attributes(enc, cls, attributes, false);
    enc->unfilled = NULL;
    return rc;
}

/* described: as describe_class has it; parts: its attributes by ranks. */
static int encode_stages(atoll_encoder *enc, PyObject *cls, PyObject *described,
                         PyObject *const parts[ATOLL_RANKS], atoll_later *later) {
    enc->later = later;
    int rc = encode_attributes(enc, cls, PyTuple_GET_ITEM(described, 1), true) < 0 ||
                     encode_attributes(enc, cls, parts[RANK_CODE], false) < 0 ||
                     atoll_encode_names(enc, parts[RANK_LATE]) < 0 ||
                     atoll_encode_held(enc, cls, AT_ATTR, parts) < 0
                 ? -1
                 : atoll_write_bodies(enc, later);
    enc->later = NULL;
    if (rc < 0 || atoll_write_early(enc, later) < 0 ||
        encode_attributes(enc, cls, parts[RANK_EARLY], false) < 0) {
        return -1;
    }
    enc->empty = later;
    rc = encode_attributes(enc, cls, parts[RANK_FILLED], false);
    enc->empty = NULL;
    return rc < 0 || atoll_write_states(enc, later) < 0 ||
                   encode_attributes(enc, cls, definition_of(enc, described), true) < 0 ||
                   encode_late(enc, cls, parts[RANK_LATE], later) < 0
               ? -1
               : atoll_write_late(enc, later);
}

static bool is_description(PyObject *described) {
    bool proper = PyTuple_Check(described) && PyTuple_GET_SIZE(described) == 4;
    for (int i = 1; proper && i < 4; i++) {
        proper = PyDict_CheckExact(PyTuple_GET_ITEM(described, i));
    }
    return proper;
}

static int encode_contents(atoll_encoder *enc, PyObject *cls) {
    PyObject *byvalue = atoll_codec_byvalue(enc->codec);
    PyObject *described = byvalue != NULL ? PyObject_CallMethod(byvalue, "describe_class", "(O)", cls) : NULL;
    const char *why = described != NULL && PyUnicode_Check(described) ? PyUnicode_AsUTF8(described) : NULL;
    if (why != NULL) {
        (void)atoll_encoder_refuse(enc, why);
        Py_DECREF(described);
        return -1;
    }
    if (described == NULL || !is_description(described)) {
        Py_XDECREF(described);
        return PyErr_Occurred() && atoll_passes_through(enc->codec) ? -1 : atoll_refuse_type(enc, cls);
    }
    PyObject *parts[ATOLL_RANKS] = {NULL};
    atoll_later later;
    atoll_later_begin(&later, enc);
    int rc =
        atoll_same_names(enc->codec, PLACE_CLASS, enc->classes->number, PyTuple_GET_ITEM(described, 3)) < 0 ||
                encode_skeleton(enc, described, &later) < 0
            ? -1
            : split_attributes(enc, PyTuple_GET_ITEM(described, 3), parts);
    rc = rc == 0 ? encode_stages(enc, cls, described, parts, &later) : -1;
    enc->later = NULL;
    enc->empty = NULL;
    atoll_later_end(&later);
    atoll_ranks_drop(parts);
    Py_DECREF(described);
    return rc;
}

static int write_part(atoll_encoder *enc, atoll_encoder *part, PyObject *cls) {
    int rc = atoll_encoder_begin_part(part, enc);
    part->named = NULL;
    part->witnesses = NULL;
    part->own = NULL;
    part->later = NULL;
    part->empty = part->unfilled = NULL;
    part->reducing = 0;
    if (rc < 0) {
        return -1;
    }
    part->exempt = 0;
    part->earliest = part->left_out = SIZE_MAX;
    part->impure = !atoll_kept_watch_class(enc->codec, cls);
    if (part->impure) {
        atoll_reach_always(enc);
    }
    part->witnesses = PyDict_New();
    part->own = atoll_reach_new();
    if (part->own == NULL) {
        PyErr_NoMemory();
    }
    rc = part->own != NULL && part->witnesses != NULL && atoll_witness(part, cls) == 0
             ? encode_contents(part, cls)
             : -1;
    atoll_encoder_end_part(part);
    return rc;
}

/* What has been written of a class: it is kept if it stands for itself.  0, or -1 with an exception. */
static int end_part(atoll_encoder *enc, const atoll_encoder *part, const atoll_class_frame *fr,
                    uint64_t epoch, uint64_t registrations) {
    size_t size = enc->msg->body.len - fr->at - ATOLL_CLASS_HEAD;
    if (size > UINT32_MAX) {
        return atoll_encoder_refuse(enc, "a class of more than 4 GiB is not shareable");
    }
    uint8_t *head = enc->msg->body.data + fr->at;
    atoll_store_u64(head, atoll_hash(head + ATOLL_CLASS_HEAD, size));
    atoll_store_u32(head + 8, (uint32_t)size);
    enc->impure |= part->impure;
    enc->earliest = part->earliest < enc->earliest ? part->earliest : enc->earliest;
    enc->left_out = part->left_out < enc->left_out ? part->left_out : enc->left_out;
    if (part->left_out < fr->at && atoll_written_begin(enc, fr->number, SIZE_MAX) < 0) {
        return -1;
    }
    uint64_t now;
    if (atoll_registrations(enc->codec, &now) < 0) {
        return -1;
    }
    bool whole = !part->impure && part->earliest >= fr->at && registrations == now &&
                 epoch == atoll_definitions_epoch(enc->codec);
    return whole ? atoll_kept_store(part, fr->cls, fr->number, fr->at) : 0;
}

static int write_anew(atoll_encoder *enc, PyObject *cls, uint64_t number) {
    atoll_class_frame fr = {enc->classes, cls, number, enc->msg->body.len, false};
    uint64_t epoch = atoll_definitions_epoch(enc->codec);
    uint64_t registrations;
    uint8_t *at =
        atoll_registrations(enc->codec, &registrations) == 0 ? atoll_reserve(enc, ATOLL_CLASS_HEAD) : NULL;
    if (at == NULL) {
        return -1;
    }
    memset(at, 0, ATOLL_CLASS_HEAD); /* it has no version yet */
    atoll_commit(enc, at + ATOLL_CLASS_HEAD);
    atoll_reach_class(enc, registrations);
    if (atoll_written_begin(enc, number, fr.at) < 0) {
        return -1;
    }
    atoll_encoder part;
    atoll_class_frame *outer = enc->classes;
    enc->classes = &fr; /* the part has them from here */
    int rc = write_part(enc, &part, cls);
    enc->classes = outer;
    if (rc < 0 || end_part(enc, &part, &fr, epoch, registrations) < 0 ||
        atoll_witness_all(enc, part.witnesses) < 0 || atoll_reach_add_all(enc->own, part.own) < 0) {
        rc = -1;
    }
    atoll_reach_release(part.own);
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

/* Of an outline: the number says which it is. */
static int encode_number(atoll_encoder *enc, PyObject *cls) {
    uint64_t number = number_of(enc->codec, cls);
    if (number == 0 || ensure_number(enc->codec, cls, number) < 0 ||
        atoll_write_tag(enc, T_CLASS_NUMBER | ATOLL_MEMO) < 0 || atoll_write_u64(enc, number) < 0) {
        return -1;
    }
    return atoll_memo_add(enc, cls);
}

static int encode_by_value(atoll_encoder *enc, PyObject *cls) {
    if (enc->outline) {
        return encode_number(enc, cls);
    }
    uint64_t number = number_of(enc->codec, cls);
    size_t at;
    if (atoll_written_find(enc, number, &at)) {
        uint64_t version = atoll_load_u64(enc->msg->body.data + at);
        return atoll_write_tag(enc, T_CLASS_NUMBER | ATOLL_MEMO) < 0 || atoll_write_u64(enc, number) < 0 ||
                       atoll_write_u64(enc, version) < 0 || atoll_written_refer(enc, at) < 0
                   ? -1
                   : atoll_memo_add(enc, cls);
    }
    if (number == 0 || atoll_write_tag(enc, T_CLASS | ATOLL_MEMO) < 0 || atoll_write_u64(enc, number) < 0) {
        return -1;
    }
    int rc = enc->reach == NULL ? atoll_kept_write(enc, cls, number) : 0; /* what it reaches is wanted */
    if (rc == 0) {
        rc = ensure_number(enc->codec, cls, number) < 0 ? -1 : write_anew(enc, cls, number);
    }
    return rc < 0 ? -1 : atoll_memo_add(enc, cls);
}

/* The types of None, Ellipsis and NotImplemented have names but no path: type(None) says it all. */
static int encode_singleton_type(atoll_encoder *enc, PyObject *cls, PyObject *instance) {
    if (atoll_write_tag(enc, T_REDUCE | ATOLL_MEMO) < 0 || atoll_write_tag(enc, 0) < 0 ||
        atoll_encode_shared(enc, (PyObject *)&PyType_Type) < 0 || atoll_write_count(enc, 1) < 0 ||
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

/* Atoll's own exceptions: an interpreter has them before anybody imports the package where they are found.  1 when that was done. */
static int import_own(PyObject *module) {
    if (module == NULL || !PyUnicode_Check(module) ||
        PyUnicode_CompareWithASCIIString(module, "atoll") != 0) {
        return 0;
    }
    PyObject *found = PyImport_GetModule(module);
    if (found != NULL || PyErr_Occurred()) {
        Py_XDECREF(found);
        return found != NULL ? 0 : -1;
    }
    found = PyImport_Import(module);
    Py_XDECREF(found);
    return found != NULL ? 1 : -1;
}

/* By the module of its functions, where it says that it is of another one, which need not have been imported: numpy.recarray says
 * numpy.rec.  1, 0, or -1 with an exception. */
static int try_path_of_functions(atoll_encoder *enc, PyObject *cls) {
    PyObject *dict = PyType_GetDict((PyTypeObject *)cls);
    PyObject *globals = NULL;
    Py_ssize_t pos = 0;
    PyObject *value;
    while (globals == NULL && dict != NULL && PyDict_Next(dict, &pos, NULL, &value)) {
        globals = PyFunction_Check(value) ? Py_NewRef(PyFunction_GET_GLOBALS(value)) : NULL;
    }
    Py_XDECREF(dict);
    PyObject *name =
        globals != NULL ? Py_XNewRef(PyDict_GetItemWithError(globals, enc->codec->names[N_NAME])) : NULL;
    PyObject *qualname = name != NULL ? atoll_text_attr(enc->codec, cls, N_QUALNAME) : NULL;
    int rc = qualname != NULL ? atoll_try_path(enc, cls, name, qualname) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(qualname);
    Py_XDECREF(name);
    Py_XDECREF(globals);
    return rc;
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
    rc = import_own(module);
    if (rc > 0) {
        rc = atoll_try_global(enc, cls);
    }
    if (rc == 0 && module != NULL && !atoll_is_main_name(enc->codec, module)) {
        rc = try_path_of_functions(enc, cls);
    }
    if (rc != 0) {
        Py_XDECREF(module);
        return rc < 0 ? -1 : 0;
    }
    bool mine = atoll_is_made_by_code(enc->codec, (PyTypeObject *)cls) ||
                (module != NULL && atoll_is_main_name(enc->codec, module) &&
                 (((PyTypeObject *)cls)->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0);
    Py_XDECREF(module);
    return mine ? encode_by_value(enc, cls) : atoll_encode_fallback(enc, cls);
}
