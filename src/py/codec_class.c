/* Classes: by import path, else, those of a __main__, by value.
 *
 *   T_CLASS
 *   u64    the class's number, process-wide
 *   u32    size of what follows
 *   value  skeleton: what makes the class (atoll._byvalue.describe_class)
 *   -- the class exists from here --
 *   value  dict of what belongs to its definition (annotations, dataclass fields)
 *   value  dict of its other attributes
 *
 * The part after the size has a memo of its own, so that a receiver that knows the number (because it
 * got the class before, or because it is the class's home) skips it.  Inside, the class names itself by its number, and
 * so does whatever leads back to it.
 *
 * The sender keeps the bytes of a class as long as nothing in them can have changed: all that they hold are
 * definitions, constants and classes (anything mutable makes them "impure"), the globals and classes that they come
 * from are watched, and no class outside is named by number only.
 *
 * Numbers are kept in weak maps: number to class in every interpreter that has it, class to number in each
 * that sent or received it.
 */
#include "py/codec_internal.h"

/* The number of cls, given to it now where it had none; 0 with an exception. */
static uint64_t number_of(atoll_codec *codec, PyObject *cls) {
    uint64_t address = (uint64_t)(uintptr_t)cls;
    PyObject *key = PyLong_FromUnsignedLongLong(address);
    PyObject *entry = key != NULL ? PyDict_GetItemWithError(codec->class_numbers, key) : NULL;
    Py_XDECREF(key);
    if (entry != NULL) {
        uint64_t number = PyLong_AsUnsignedLongLong(entry);
        PyObject *there = atoll_weak_get(codec->class_refs, number);
        bool same = there == cls;
        Py_XDECREF(there);
        if (same || PyErr_Occurred()) {
            return same ? number : 0;
        }
    }
    return PyErr_Occurred() ? 0 : atoll_next_number();
}

/* Drops the numbers of classes that are gone. */
static int sweep_numbers(atoll_codec *codec) {
    PyObject *items = PyDict_Items(codec->class_numbers);
    int rc = items != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *cls =
            atoll_weak_get(codec->class_refs, PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(pair, 1)));
        if (cls == NULL) {
            /* Giving a class back may have run code that swept before. */
            PyObject *key = PyTuple_GET_ITEM(pair, 0);
            bool there = !PyErr_Occurred() &&
                         PyDict_GetItemWithError(codec->class_numbers, key) == PyTuple_GET_ITEM(pair, 1);
            rc = there ? PyDict_DelItem(codec->class_numbers, key) : PyErr_Occurred() ? -1 : 0;
        }
        Py_XDECREF(cls);
    }
    Py_XDECREF(items);
    return rc;
}

static int give_number(atoll_codec *codec, PyObject *cls, uint64_t number) {
    Py_ssize_t size = PyDict_GET_SIZE(codec->class_numbers);
    if (size >= 256 && (size & (size - 1)) == 0 && sweep_numbers(codec) < 0) {
        return -1;
    }
    PyObject *key = PyLong_FromUnsignedLongLong((uint64_t)(uintptr_t)cls);
    PyObject *value = PyLong_FromUnsignedLongLong(number);
    int rc = key != NULL && value != NULL ? PyDict_SetItem(codec->class_numbers, key, value) : -1;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return rc < 0 ? -1 : atoll_weak_put(codec->class_refs, number, cls);
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

/* The bytes that were last written for the class, if nothing that they hold has changed: 1 when they were
 * written again. */
static int write_kept(atoll_encoder *enc, uint64_t number) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *entry = key != NULL ? PyDict_GetItemWithError(enc->codec->class_bytes, key) : NULL;
    Py_XDECREF(key);
    if (entry == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *bytes = PyTuple_GET_ITEM(entry, 1);
    if (PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, 0)) != atoll_definitions_epoch()) {
        return 0;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    uint8_t *at = atoll_reserve(enc, size + 4);
    if (at == NULL) {
        return -1;
    }
    atoll_store_u32(at, (uint32_t)size);
    memcpy(at + 4, PyBytes_AS_STRING(bytes), size);
    atoll_commit(enc, at + 4 + size);
    return 1;
}

enum { KEPT_CLASSES = 256, KEPT_SIZE = 1 << 16 };

static int keep(atoll_codec *codec, uint64_t number, uint64_t epoch, const uint8_t *data, size_t size) {
    if (size > KEPT_SIZE) {
        return 0;
    }
    if (PyDict_GET_SIZE(codec->class_bytes) >= KEPT_CLASSES) {
        PyDict_Clear(codec->class_bytes);
    }
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *entry = Py_BuildValue("(Ky#)", (unsigned long long)epoch, (const char *)data, (Py_ssize_t)size);
    int rc = key != NULL && entry != NULL ? PyDict_SetItem(codec->class_bytes, key, entry) : -1;
    Py_XDECREF(key);
    Py_XDECREF(entry);
    return rc;
}

static int write_anew(atoll_encoder *enc, PyObject *cls, uint64_t number) {
    size_t size_at = enc->msg->body.len;
    uint64_t epoch = atoll_definitions_epoch();
    bool watched = atoll_watch_class(enc->codec, cls);
    uint8_t *at = atoll_reserve(enc, 4);
    if (at == NULL) {
        return -1;
    }
    atoll_commit(enc, at + 4);
    atoll_encoder part;
    if (atoll_encoder_begin_part(&part, enc) < 0) {
        return -1;
    }
    atoll_class_frame fr = {enc->classes, cls, number, enc->classes != NULL ? enc->classes->depth + 1 : 1};
    part.classes = &fr;
    part.lowest = fr.depth;
    part.exempt = 0;
    part.impure = !watched;
    int rc = encode_contents(&part, cls);
    atoll_encoder_end_part(&part);
    if (rc < 0) {
        return -1;
    }
    size_t size = enc->msg->body.len - size_at - 4;
    if (size > UINT32_MAX) {
        return atoll_encoder_refuse(enc, "a class of more than 4 GiB is not shareable");
    }
    uint8_t *start = enc->msg->body.data + size_at;
    atoll_store_u32(start, (uint32_t)size);
    enc->impure |= part.impure;
    enc->lowest = part.lowest < enc->lowest ? part.lowest : enc->lowest;
    if (!part.impure && part.lowest >= fr.depth && epoch == atoll_definitions_epoch()) {
        return keep(enc->codec, number, epoch, start + 4, size);
    }
    return 0;
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
    int rc = write_kept(enc, number);
    if (rc == 0) {
        rc = give_number(enc->codec, cls, number) < 0 ? -1 : write_anew(enc, cls, number);
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
    bool mine = module != NULL && atoll_is_main_name(enc->codec, module) &&
                (((PyTypeObject *)cls)->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0;
    Py_XDECREF(module);
    return mine ? encode_by_value(enc, cls) : atoll_encode_fallback(enc, cls);
}

/* ---- receiving ---- */

static PyObject *decode_contents(atoll_decoder *dec, uint64_t number) {
    atoll_codec *codec = dec->codec;
    PyObject *byvalue = atoll_codec_byvalue(codec);
    PyObject *skeleton = byvalue != NULL ? atoll_decode_value(dec) : NULL;
    if (skeleton == NULL) {
        return NULL;
    }
    PyObject *cls = PyObject_CallMethod(byvalue, "make_class", "(O)", skeleton);
    Py_DECREF(skeleton);
    if (cls == NULL || !PyType_Check(cls) || give_number(codec, cls, number) < 0) {
        Py_XDECREF(cls);
        return atoll_malformed("a class that is not a class");
    }
    for (int i = 0; i < 2 && cls != NULL; i++) {
        PyObject *attributes = atoll_decode_value(dec);
        PyObject *done =
            attributes != NULL ? PyObject_CallMethod(byvalue, "fill_class", "OO", cls, attributes) : NULL;
        Py_XDECREF(attributes);
        if (done == NULL) {
            Py_CLEAR(cls);
        }
        Py_XDECREF(done);
    }
    if (cls != NULL && dec->rd.at != dec->rd.end) {
        Py_CLEAR(cls);
        atoll_malformed("a class of the wrong size");
    }
    return cls;
}

PyObject *atoll_decode_class(atoll_decoder *dec, uint8_t tag) {
    uint64_t number = atoll_get_u64(&dec->rd);
    PyObject *cls = dec->rd.failed ? NULL : atoll_weak_get(dec->codec->class_refs, number);
    if (cls == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (cls != NULL && !PyType_Check(cls)) {
        Py_CLEAR(cls);
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
            atoll_decoder part;
            atoll_decoder_begin_part(&part, dec, size);
            cls = decode_contents(&part, number);
            atoll_decoder_end_part(&part);
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
