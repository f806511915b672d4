/* The codec's entry points: one message out, one message in.
 *
 * An encoder borrows one of the codec's two memos for its run (the second for an outline in the midst of a message); one that starts while
 * others run in the same interpreter (a reduce hook that sends something, another Python thread) makes its own.  So does a decoder with its
 * memo storage.
 *
 * What is in a trace goes a way of its own: whoever is in none pays for one look at a word.
 */
#include "py/codec/internal.h"

#include "core/trace/trace.h"

enum { STACK_KEEP = 1 << 14 };

atoll_message *atoll_encoder_message(atoll_encoder *enc) { return enc->msg; }
const atoll_message *atoll_decoder_message(atoll_decoder *dec) { return dec->msg; }
atoll_reader *atoll_decoder_reader(atoll_decoder *dec) { return &dec->rd; }

static int hold(atoll_encoder *enc) {
    size_t n = 0;
    for (atoll_frame *fr = enc->top; fr != NULL; fr = fr->up) {
        n += (fr->obj != NULL) + (fr->key != NULL);
    }
    if (n != 0 && (enc->keep = PyMem_RawMalloc(n * sizeof(PyObject *))) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (atoll_frame *fr = enc->top; fr != NULL; fr = fr->up) {
        if (fr->obj != NULL) {
            enc->keep[enc->nkeep++] = Py_NewRef(fr->obj);
        }
        if (fr->key != NULL) {
            enc->keep[enc->nkeep++] = Py_NewRef(fr->key);
        }
    }
    for (uint32_t i = 0; i < enc->memo->used; i++) {
        Py_INCREF(enc->memo->keys[i]);
    }
    enc->pinned = true;
    return 0;
}

int atoll_encoder_pin(atoll_encoder *enc) { return enc->pinned ? 0 : hold(enc); }

typedef struct {
    size_t len;
    uint32_t nhandles;
} mark;

static int begin(atoll_encoder *enc, atoll_codec *codec, atoll_message *msg, const char *root, mark *start) {
    enc->codec = codec;
    enc->msg = msg;
    enc->top = NULL;
    enc->root = root;
    enc->pinned = false;
    enc->late = 0;
    enc->depth.levels = 0;
    enc->depth.known = false;
    enc->later = enc->empty = enc->unfilled = NULL;
    enc->reducing = 0;
    enc->classes = NULL;
    enc->written = NULL;
    enc->earliest = enc->left_out = SIZE_MAX;
    enc->exempt = 0;
    enc->many = 0;
    enc->impure = enc->whole = enc->outline = enc->identities = false;
    enc->causes = CAUSES_TRIED;
    enc->chained = enc->raised = NULL;
    enc->named = NULL;
    enc->bound = NULL;
    enc->defining = 0;
    enc->searched = NULL;
    enc->witnesses = NULL;
    enc->code = NULL;
    enc->reach = NULL;
    enc->own = NULL;
    enc->keep = NULL;
    enc->nkeep = 0;
    atoll_memo **memo = codec->memo != NULL ? &codec->memo : &codec->spare_memo;
    enc->memo = *memo;
    *memo = NULL;
    if (enc->memo == NULL && (enc->memo = atoll_memo_new()) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    start->len = msg->body.len;
    start->nhandles = msg->nhandles;
    return 0;
}

static void drop_references(atoll_encoder *enc) {
    PyObject *exc = PyErr_GetRaisedException();
    for (uint32_t i = 0; i < enc->memo->used; i++) {
        Py_DECREF(enc->memo->keys[i]);
    }
    while (enc->nkeep > 0) {
        Py_DECREF(enc->keep[--enc->nkeep]);
    }
    PyMem_RawFree(enc->keep);
    PyErr_SetRaisedException(exc);
}

static int end(atoll_encoder *enc, int rc, const mark *start) {
    if (enc->msg->body.failed && rc == 0) {
        PyErr_NoMemory();
        rc = -1;
    }
    if (enc->written != NULL) {
        atoll_written_end(enc, rc == 0);
    }
    if (rc < 0) {
        atoll_error_ensure();
        atoll_message_rewind(enc->msg, start->len, start->nhandles);
    }
    if (enc->pinned) {
        drop_references(enc);
    }
    atoll_memo_reset(enc->memo);
    if (enc->codec->memo == NULL) {
        enc->codec->memo = enc->memo;
    } else if (enc->codec->spare_memo == NULL) {
        enc->codec->spare_memo = enc->memo;
    } else {
        atoll_memo_free(enc->memo);
    }
    return rc;
}

/* One object, in one of the ways that an encoder has. */
static int encode_one(atoll_codec *codec, atoll_message *msg, PyObject *obj, const char *root, bool whole,
                      bool outline, bool identities, atoll_reach *reach) {
    atoll_encoder enc;
    mark start;
    if (begin(&enc, codec, msg, root, &start) < 0) {
        return -1;
    }
    enc.whole = whole;
    enc.outline = outline;
    enc.causes = outline ? CAUSES_ALL : CAUSES_TRIED;
    enc.identities = identities;
    enc.late = outline; /* who else refers to a container at the moment says nothing about it */
    enc.reach = reach;
    return end(&enc, atoll_encode_shared(&enc, obj), &start);
}

static __attribute__((noinline)) int encode_traced(atoll_codec *codec, atoll_message *msg, PyObject *obj,
                                                   const char *root, bool whole) {
    uint64_t began = atoll_trace_begin();
    size_t before = msg->body.len;
    int rc = encode_one(codec, msg, obj, root, whole, false, false, NULL);
    atoll_trace_end(began, ATOLL_TRACE_ENCODE, codec->interp_id, msg->body.len - before);
    return rc;
}

int atoll_encode(atoll_codec *codec, atoll_message *msg, PyObject *obj, const char *root) {
    return atoll_trace_wants() ? encode_traced(codec, msg, obj, root, false)
                               : encode_one(codec, msg, obj, root, false, false, false, NULL);
}

int atoll_encode_whole(atoll_codec *codec, atoll_message *msg, PyObject *obj, const char *root) {
    return atoll_trace_wants() ? encode_traced(codec, msg, obj, root, true)
                               : encode_one(codec, msg, obj, root, true, false, false, NULL);
}

int atoll_encode_raised(atoll_codec *codec, atoll_message *msg, PyObject *obj, const PyObject *exc) {
    atoll_encoder enc;
    mark start;
    if (begin(&enc, codec, msg, "exception", &start) < 0) {
        return -1;
    }
    enc.whole = true;
    enc.raised = exc;
    return end(&enc, atoll_encode_shared(&enc, obj), &start);
}

int atoll_encode_trial(atoll_codec *codec, PyObject *obj, atoll_causes causes) {
    atoll_message msg = {0};
    atoll_encoder enc;
    mark start;
    if (begin(&enc, codec, &msg, "", &start) < 0) {
        return -1;
    }
    enc.whole = true;
    enc.causes = causes;
    int rc = end(&enc, atoll_encode_shared(&enc, obj), &start);
    atoll_message_clear(&msg);
    if (rc == 0) {
        return 1;
    }
    if (atoll_error_is_urgent()) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

int atoll_encode_examined(atoll_codec *codec, atoll_message *msg, PyObject *obj, atoll_reach *reach) {
    return encode_one(codec, msg, obj, "callable", true, false, false, reach);
}

int atoll_encode_outline(atoll_codec *codec, atoll_message *msg, PyObject *obj, bool identities) {
    return encode_one(codec, msg, obj, "", true, true, identities, NULL);
}

PyObject *atoll_encode_shape(atoll_codec *codec, atoll_message *msg, PyObject *obj) {
    atoll_encoder enc;
    mark start;
    if (begin(&enc, codec, msg, "", &start) < 0) {
        return NULL;
    }
    enc.whole = enc.outline = true;
    enc.causes = CAUSES_ALL;
    enc.late = 1;
    int rc = atoll_encode_shared(&enc, obj);
    PyObject *met = rc == 0 ? PyList_New((Py_ssize_t)enc.memo->used) : NULL;
    for (uint32_t i = 0; met != NULL && i < enc.memo->used; i++) {
        PyList_SET_ITEM(met, i, Py_NewRef(enc.memo->keys[i]));
    }
    if (end(&enc, met != NULL ? 0 : -1, &start) < 0) {
        Py_CLEAR(met);
    }
    return met;
}

/* What errors call the parts of a call.  The first `own` arguments go by the callable's name. */
typedef struct {
    const char *callable;
    const char *args;
    Py_ssize_t own;
} call_names;

static int encode_call_parts(atoll_encoder *enc, PyObject *callable, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames, const call_names *names) {
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    atoll_frame fr;
    atoll_push(enc, &fr, NULL, AT_CALLABLE);
    fr.word = names->callable;
    int rc = atoll_write_count(enc, (uint64_t)nargs);
    if (rc == 0) {
        rc = atoll_write_count(enc, (uint64_t)nkw);
    }
    if (rc == 0) {
        rc = callable != NULL ? atoll_encode_shared(enc, callable) : atoll_write_tag(enc, T_EMPTY);
    }
    for (Py_ssize_t i = 0; i < nargs && rc == 0; i++) {
        if (i == names->own) {
            fr.step = AT_ARG;
            fr.word = names->args;
        }
        fr.index = i - names->own;
        rc = atoll_encode_shared(enc, args[i]);
    }
    fr.step = AT_KWARG;
    for (Py_ssize_t i = 0; i < nkw && rc == 0; i++) {
        fr.key = PyTuple_GET_ITEM(kwnames, i);
        rc = atoll_encode_shared(enc, fr.key);
        if (rc == 0) {
            rc = atoll_encode_shared(enc, args[nargs + i]);
        }
    }
    atoll_pop(enc, &fr);
    return rc;
}

static __attribute__((noinline)) int encode_call(atoll_codec *codec, atoll_message *msg, PyObject *callable,
                                                 PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    atoll_encoder enc;
    mark start;
    if (begin(&enc, codec, msg, "", &start) < 0) {
        return -1;
    }
    static const call_names names = {"callable", "args", 0};
    return end(&enc, encode_call_parts(&enc, callable, args, nargs, kwnames, &names), &start);
}

static __attribute__((noinline)) int encode_call_traced(atoll_codec *codec, atoll_message *msg,
                                                        PyObject *callable, PyObject *const *args,
                                                        Py_ssize_t nargs, PyObject *kwnames) {
    uint64_t began = atoll_trace_begin();
    size_t before = msg->body.len;
    int rc = encode_call(codec, msg, callable, args, nargs, kwnames);
    atoll_trace_end(began, ATOLL_TRACE_ENCODE, codec->interp_id, msg->body.len - before);
    return rc;
}

int atoll_encode_call(atoll_codec *codec, atoll_message *msg, PyObject *callable, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames) {
    return atoll_trace_wants() ? encode_call_traced(codec, msg, callable, args, nargs, kwnames)
                               : encode_call(codec, msg, callable, args, nargs, kwnames);
}

int atoll_encode_initializer(atoll_codec *codec, atoll_message *msg, PyObject *callable,
                             PyObject *const *args, Py_ssize_t nargs, Py_ssize_t own) {
    atoll_encoder enc;
    mark start;
    if (begin(&enc, codec, msg, "", &start) < 0) {
        return -1;
    }
    const call_names names = {"initializer", "initargs", own};
    return end(&enc, encode_call_parts(&enc, callable, args, nargs, NULL, &names), &start);
}

int atoll_encoder_begin_part(atoll_encoder *part, atoll_encoder *enc) {
    *part = *enc;
    part->keep = NULL;
    part->nkeep = 0;
    part->memo = atoll_memo_new();
    if (part->memo == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void atoll_encoder_end_part(atoll_encoder *part) {
    drop_references(part);
    atoll_memo_free(part->memo);
}

/* ---- decoding ---- */

static void begin_decoding(atoll_decoder *dec, atoll_codec *codec, const atoll_message *msg) {
    if (__builtin_expect(codec->forks != atomic_load_explicit(&atoll_forks, memory_order_relaxed), 0)) {
        atoll_drop_orphans(codec);
    }
    dec->codec = codec;
    dec->msg = msg;
    dec->rd = (atoll_reader){msg->body.data, msg->body.data + msg->body.len, false};
    dec->memo = codec->stack;
    dec->memo_cap = codec->stack_cap;
    codec->stack = NULL;
    codec->stack_cap = 0;
    dec->nmemo = 0;
    dec->depth.levels = 0;
    dec->depth.known = false;
    dec->pinned = false;
    dec->reading = NULL;
    dec->has_arrays = false;
    dec->fresh = 0;
    dec->models = NULL;
    dec->arrivals = NULL;
    dec->pending = NULL;
    dec->lowest = dec->defined = SIZE_MAX;
    dec->yielded = NULL;
    dec->yielded_end = 0;
    dec->began = codec->bound;
    dec->began_others = atoll_bound_by_others(codec);
}

static void end_decoding(atoll_decoder *dec) {
    if (dec->pinned) {
        PyObject *exc = PyErr_GetRaisedException();
        while (dec->nmemo > 0) {
            Py_DECREF(dec->memo[--dec->nmemo]);
        }
        PyErr_SetRaisedException(exc);
    }
    if (dec->models != NULL) {
        atoll_models_free(dec->models);
    }
    if (dec->yielded != NULL) {
        atoll_yielded_free(dec);
    }
    if (dec->reading != NULL) {
        atoll_reading_end(dec);
    }
    atoll_codec *codec = dec->codec;
    if (codec->stack == NULL && dec->memo_cap <= STACK_KEEP) {
        codec->stack = dec->memo;
        codec->stack_cap = dec->memo_cap;
    } else {
        PyMem_RawFree(dec->memo);
    }
}

void atoll_decoder_begin_part(atoll_decoder *part, atoll_decoder *dec, size_t len) {
    *part = *dec;
    part->rd.end = part->rd.at + len;
    part->memo = NULL;
    part->nmemo = 0;
    part->memo_cap = 0;
    part->pinned = true;
    part->models = NULL;
    part->lowest = SIZE_MAX;
    part->defined = 0; /* all of it: nothing in it is data */
    part->yielded = NULL;
    part->yielded_end = 0;
}

void atoll_decoder_end_part(atoll_decoder *part) {
    PyObject *exc = PyErr_GetRaisedException();
    while (part->nmemo > 0) {
        Py_DECREF(part->memo[--part->nmemo]);
    }
    PyMem_RawFree(part->memo);
    atoll_models_free(part->models);
    atoll_yielded_free(part);
    PyErr_SetRaisedException(exc);
}

static PyObject *decode(atoll_codec *codec, const atoll_message *msg) {
    atoll_decoder dec;
    begin_decoding(&dec, codec, msg);
    PyObject *obj = atoll_decode_value(&dec);
    if (obj != NULL && dec.rd.at != dec.rd.end) {
        Py_CLEAR(obj);
        atoll_malformed("there is more than one value");
    } else if (obj == NULL) {
        atoll_error_ensure();
    }
    end_decoding(&dec);
    return obj;
}

static __attribute__((noinline)) PyObject *decode_traced(atoll_codec *codec, const atoll_message *msg) {
    uint64_t began = atoll_trace_begin();
    PyObject *obj = decode(codec, msg);
    atoll_trace_end(began, ATOLL_TRACE_DECODE, codec->interp_id, msg->body.len);
    return obj;
}

PyObject *atoll_decode(atoll_codec *codec, const atoll_message *msg) {
    return atoll_trace_wants() ? decode_traced(codec, msg) : decode(codec, msg);
}

int atoll_decode_pair(atoll_codec *codec, const atoll_message *msg, PyObject *out[2]) {
    out[0] = out[1] = NULL;
    atoll_decoder dec;
    begin_decoding(&dec, codec, msg);
    int had = 1;
    if (dec.rd.at != dec.rd.end && (*dec.rd.at & ~ATOLL_MEMO) == T_TUPLE) {
        dec.rd.at++;
        had = atoll_read_count(&dec, 1) == 2 && (out[0] = atoll_decode_value(&dec)) != NULL;
    }
    if (had == 1 && (out[1] = atoll_decode_value(&dec)) != NULL) {
        had = 2;
    } else {
        atoll_malformed("not a pair");
    }
    end_decoding(&dec);
    return had;
}

int atoll_decode_place(atoll_codec *codec, const atoll_message *msg, PyObject **module, PyObject **qualname) {
    *module = *qualname = NULL;
    if (msg->body.len == 0 || (msg->body.data[0] & ~ATOLL_MEMO) != T_GLOBAL) {
        return 0;
    }
    atoll_decoder dec;
    begin_decoding(&dec, codec, msg);
    dec.rd.at++;
    *module = atoll_decode_value(&dec);
    *qualname = *module != NULL ? atoll_decode_value(&dec) : NULL;
    if (*qualname == NULL || !PyUnicode_CheckExact(*module) || !PyUnicode_CheckExact(*qualname)) {
        atoll_malformed("a name that is not a str");
        Py_CLEAR(*module);
        Py_CLEAR(*qualname);
    }
    end_decoding(&dec);
    return *module != NULL ? 0 : -1;
}

static int decode_call_parts(atoll_decoder *dec, atoll_call_args *out) {
    Py_ssize_t nargs = atoll_read_count(dec, 0);
    Py_ssize_t nkw = nargs >= 0 ? atoll_read_count(dec, 0) : -1;
    size_t left = atoll_reader_left(&dec->rd);
    if (nkw < 0 || (size_t)nargs > left || (size_t)nkw > left / 2) {
        atoll_malformed("more arguments than bytes");
        return -1;
    }
    size_t room = (size_t)nargs + (size_t)nkw + 1;
    PyObject **stack = out->small;
    if (room > sizeof out->small / sizeof out->small[0]) {
        stack = PyMem_Malloc(room * sizeof *stack);
        if (stack == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    out->stack = stack + 1;
    if (dec->rd.at != dec->rd.end && *dec->rd.at == T_EMPTY) {
        dec->rd.at++;
    } else if ((out->callable = atoll_decode_value(dec)) == NULL) {
        return -1;
    }
    for (; out->nargs < nargs; out->nargs++) {
        if ((out->stack[out->nargs] = atoll_decode_value(dec)) == NULL) {
            return -1;
        }
    }
    if (nkw == 0) {
        return 0;
    }
    PyObject *names = atoll_tuple_begin(nkw);
    if (names == NULL) {
        return -1;
    }
    /* From here nargs counts keyword values too, until all is well: atoll_codec_args_clear goes by it. */
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = atoll_decode_value(dec);
        if (name == NULL || !PyUnicode_CheckExact(name)) {
            if (name != NULL) {
                atoll_malformed("a keyword that is not a str");
            }
            Py_XDECREF(name);
            Py_DECREF(names);
            return -1;
        }
        PyTuple_SET_ITEM(names, i, name);
        if ((out->stack[out->nargs] = atoll_decode_value(dec)) == NULL) {
            Py_DECREF(names);
            return -1;
        }
        out->nargs++;
    }
    atoll_tuple_end(names);
    out->kwnames = names;
    out->nargs = nargs;
    return 0;
}

static int decode_call(atoll_codec *codec, const atoll_message *msg, atoll_call_args *out) {
    out->callable = NULL;
    out->stack = NULL;
    out->nargs = 0;
    out->kwnames = NULL;
    atoll_decoder dec;
    begin_decoding(&dec, codec, msg);
    int rc = decode_call_parts(&dec, out);
    if (rc == 0 && dec.rd.at != dec.rd.end) {
        atoll_malformed("there are more values than arguments");
        rc = -1;
    }
    if (rc < 0) {
        atoll_error_ensure();
        atoll_codec_args_clear(out);
    }
    end_decoding(&dec);
    return rc;
}

static __attribute__((noinline)) int decode_call_traced(atoll_codec *codec, const atoll_message *msg,
                                                        atoll_call_args *out) {
    uint64_t began = atoll_trace_begin();
    int rc = decode_call(codec, msg, out);
    atoll_trace_end(began, ATOLL_TRACE_DECODE, codec->interp_id, msg->body.len);
    return rc;
}

int atoll_decode_call(atoll_codec *codec, const atoll_message *msg, atoll_call_args *out) {
    return atoll_trace_wants() ? decode_call_traced(codec, msg, out) : decode_call(codec, msg, out);
}

void atoll_codec_args_clear(atoll_call_args *args) {
    PyObject *exc = PyErr_GetRaisedException();
    Py_ssize_t n = args->nargs + (args->kwnames != NULL ? PyTuple_GET_SIZE(args->kwnames) : 0);
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_DECREF(args->stack[i]);
    }
    if (args->stack != NULL && args->stack != args->small + 1) {
        PyMem_Free(args->stack - 1);
    }
    Py_CLEAR(args->callable);
    Py_CLEAR(args->kwnames);
    args->stack = NULL;
    args->nargs = 0;
    PyErr_SetRaisedException(exc);
}

/* ---- is_shareable ---- */

int atoll_is_shareable(atoll_codec *codec, PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    if (atoll_frozen_has(obj) || obj == Py_None || type == &PyUnicode_Type || type == &PyLong_Type ||
        type == &PyFloat_Type || type == &PyBool_Type || type == &PyBytes_Type ||
        type == &PyMemoryView_Type) {
        return 1;
    }
    if (type == &PyTuple_Type) {
        if (Py_EnterRecursiveCall(" in is_shareable()")) {
            return -1;
        }
        int rc = 1;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(obj) && rc == 1; i++) {
            rc = atoll_is_shareable(codec, PyTuple_GET_ITEM(obj, i));
        }
        Py_LeaveRecursiveCall();
        return rc;
    }
    if (type == atoll_frozen_dict_type) { /* with arrays in it */
        return atoll_frozen_is_all(obj);
    }
    for (int i = 0; i < ATOLL_HOOK_MAX && codec->hook_types[i] != NULL; i++) {
        if (codec->hook_types[i] == type) {
            return 1;
        }
    }
    return atoll_is_registered(codec, type);
}
