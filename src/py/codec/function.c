/* Functions: by value where they are nobody's but a __main__'s, by import path elsewhere.
 *
 *   T_FUNCTION
 *   u8     crossing (stateless, main, module), with a bit that says whether who has it need not make it again, one that says that
 *          what follows the memo index comes later; else it comes here, with that of others, in stages (codec/later.c)
 *   u64    identity (codec/identity.c)
 *   u64    space: which namespace, if a __main__ it belongs to (codec/space.c)
 *   value  code
 *   value  module name of the globals, or place of the namespace (codec/module.c), or None
 *   value  origin of that module, maybe in a tuple with a dict of atoll_odd_globals(), or None
 *   -- the function gets its memo index here --
 *   its body
 *     values name, qualified name, module, doc, closure (a tuple of cells)
 *     globals  (codec/globals.c)
 *   its state
 *     values dict, defaults, keyword defaults, annotations, type parameters
 *
 * The function exists over there before anything that may refer back to it is read: recursion through globals, cells
 * and defaults needs no more than the memo.
 *
 * Functions of a __main__ get, in each receiver, a globals dict that stands for theirs.  Sent home, a function finds itself by its
 * identity; where it does not exist any more, it is made again and has its old globals.
 */
#include "py/codec/internal.h"

enum { PART_COUNT = 5, REUSABLE = 0x80, LATER = 0x40 };

/* ---- which way ---- */

/* The importable module whose globals these are: 1 with a new reference, 0, or -1 with an exception. */
static int module_of_globals(atoll_codec *codec, PyObject *globals, PyObject **found) {
    *found = NULL;
    PyObject *name = PyDict_GetItemWithError(globals, codec->names[N_NAME]);
    if (name == NULL || !PyUnicode_CheckExact(name) || atoll_is_main_name(codec, name)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(name);
    PyObject *module = atoll_origin_module(name);
    if (module == NULL) {
        Py_DECREF(name);
        return PyErr_Occurred() ? -1 : 0;
    }
    int rc = PyModule_Check(module) && PyModule_GetDict(module) == globals
                 ? atoll_origin_is_found(codec, module, name)
                 : 0;
    Py_DECREF(name);
    if (rc <= 0) {
        Py_DECREF(module);
        return rc;
    }
    *found = module;
    return 1;
}

/* 1, 0, or -1 with an exception that must reach the user. */
static int has_path(atoll_codec *codec, PyFunctionObject *func) {
    PyObject *name = func->func_module;
    Py_ssize_t length = PyUnicode_GET_LENGTH(func->func_qualname);
    if (name == NULL || !PyUnicode_CheckExact(name) ||
        PyUnicode_FindChar(func->func_qualname, '<', 0, length, 1) >= 0) {
        return 0; /* a lambda, or what was made in a function */
    }
    /* A module's __getattr__ may give the function other names. */
    PyObject *qualname = Py_NewRef(func->func_qualname);
    Py_INCREF(name);
    PyObject *module = atoll_origin_module(name);
    PyObject *found = module != NULL ? atoll_dotted_get(module, qualname) : NULL;
    int rc = found == (PyObject *)func ? atoll_origin_is_found(codec, module, name) : 0;
    if (found == NULL && PyErr_Occurred()) {
        rc = atoll_passes_through(codec) ? -1 : 0;
        if (rc == 0) {
            PyErr_Clear();
        }
    }
    Py_XDECREF(found);
    Py_XDECREF(module);
    Py_DECREF(name);
    Py_DECREF(qualname);
    return rc;
}

atoll_crossing atoll_function_crossing(atoll_codec *codec, PyFunctionObject *func) {
    PyObject *module = func->func_module;
    bool of_main = module != NULL && atoll_is_main_name(codec, module);
    int rc = of_main ? 0 : has_path(codec, func);
    if (rc != 0) {
        return rc < 0 ? CROSS_ERROR : CROSS_PATH;
    }
    if (atoll_function_is_stateless(func)) {
        return CROSS_STATELESS;
    }
    PyObject *owner;
    rc = module_of_globals(codec, func->func_globals, &owner);
    Py_XDECREF(owner);
    return rc < 0 ? CROSS_ERROR : rc > 0 ? CROSS_MODULE : CROSS_MAIN;
}

/* ---- sending ---- */

static int encode_part(atoll_encoder *enc, PyFunctionObject *func, const char *word, PyObject *part) {
    return atoll_encode_part(enc, (PyObject *)func, word, part != NULL ? part : Py_None);
}

/* A dict that belongs to the function itself, and is watched; what it holds may be changed in place. */
static int encode_own_dict(atoll_encoder *enc, PyFunctionObject *func, const char *word, PyObject *dict) {
    if (dict == NULL || !PyDict_CheckExact(dict)) {
        return encode_part(enc, func, word, dict);
    }
    int rc = atoll_try_ref(enc, dict);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    atoll_frame fr;
    atoll_push(enc, &fr, (PyObject *)func, AT_WORD);
    fr.word = word;
    Py_INCREF(dict);
    rc = atoll_memo_add(enc, dict) < 0 || atoll_write_tag(enc, T_DICT | ATOLL_MEMO) < 0
             ? -1
             : atoll_encode_dict_body(enc, dict, AT_KEY);
    Py_DECREF(dict);
    atoll_pop(enc, &fr);
    return rc;
}

static int encode_kwdefaults(atoll_encoder *enc, PyFunctionObject *func) {
    return encode_own_dict(enc, func, "__kwdefaults__", func->func_kwdefaults);
}

static int encode_attributes(atoll_encoder *enc, PyFunctionObject *func) {
    bool some = func->func_dict != NULL && PyDict_GET_SIZE(func->func_dict) != 0;
    return encode_own_dict(enc, func, "__dict__", some ? func->func_dict : NULL);
}

bool atoll_is_annotate(const PyFunctionObject *func) {
    return PyUnicode_CompareWithASCIIString(func->func_name, "__annotate__") == 0;
}

bool atoll_is_foreign(atoll_codec *codec, const PyFunctionObject *func) {
    PyObject *home = PyDict_GetItemWithError(func->func_globals, codec->names[N_NAME]);
    PyObject *said = func->func_module;
    if (home == NULL || said == NULL || !PyUnicode_CheckExact(home) || !PyUnicode_CheckExact(said)) {
        PyErr_Clear();
        return false;
    }
    return home != said && PyUnicode_Compare(home, said) != 0;
}

static int encode_names(atoll_encoder *enc, PyFunctionObject *func) {
    return encode_part(enc, func, "__name__", func->func_name) < 0 ||
                   encode_part(enc, func, "__qualname__", func->func_qualname) < 0 ||
                   encode_part(enc, func, "__module__", func->func_module) < 0 ||
                   encode_part(enc, func, "__doc__", func->func_doc) < 0
               ? -1
               : 0;
}

/* What may change in it without notice is looked at by itself (codec/version.c), and does not make a class's bytes impure. */
int atoll_encode_body(atoll_encoder *enc, PyObject *obj, PyObject *unused) {
    (void)unused;
    PyFunctionObject *func = (PyFunctionObject *)obj;
    PyObject *outer = enc->code;
    bool impure = enc->impure;
    enc->code = Py_NewRef(func->func_code); /* the function may be given another one meanwhile */
    enc->exempt++;
    int rc = atoll_witness(enc, obj) < 0 || encode_names(enc, func) < 0
                 ? -1
                 : encode_part(enc, func, "__closure__", func->func_closure);
    enc->exempt--;
    if (atoll_is_annotate(func)) {
        enc->impure = impure; /* what a class or function is annotated with is part of it */
    }
    if (rc == 0) {
        rc = atoll_function_crossing(enc->codec, func) == CROSS_MAIN
                 ? atoll_encode_globals(enc, func, atoll_is_annotate(func))
                 : atoll_write_no_globals(enc);
    }
    Py_SETREF(enc->code, outer);
    return rc;
}

int atoll_encode_function_state(atoll_encoder *enc, PyObject *obj, PyObject *unused) {
    (void)unused;
    PyFunctionObject *func = (PyFunctionObject *)obj;
    bool lazy;
    PyObject *outer = enc->code;
    enc->code = Py_NewRef(func->func_code);
    enc->exempt++;
    PyObject *annotations = NULL;
    int rc = encode_attributes(enc, func) < 0 ||
                     encode_part(enc, func, "__defaults__", func->func_defaults) < 0 ||
                     encode_kwdefaults(enc, func) < 0 ||
                     (annotations = atoll_annotations_of(enc, func, &lazy)) == NULL
                 ? -1
                 : 0;
    if (rc == 0) {
        enc->impure |= !atoll_kept_watch_function(enc, func); /* the dicts are made now */
        rc = encode_part(enc, func, lazy ? "__annotate__" : "__annotations__", annotations);
    }
    rc = rc == 0 ? encode_part(enc, func, "__type_params__", func->func_typeparams) : -1;
    enc->exempt--;
    Py_XDECREF(annotations);
    Py_SETREF(enc->code, outer);
    return rc;
}

/* Where the globals of func are from: new references to the module's name and its origin, or the place of a namespace; None
 * where there is none. */
static int place_of(atoll_encoder *enc, PyFunctionObject *func, atoll_crossing way, uint64_t space,
                    PyObject **where, PyObject **origin) {
    atoll_codec *codec = enc->codec;
    PyObject *module = NULL;
    *where = way == CROSS_MAIN ? atoll_space_place(codec, space, func->func_globals) : Py_NewRef(Py_None);
    *origin = Py_NewRef(Py_None);
    if (way == CROSS_MODULE) {
        int rc = module_of_globals(codec, func->func_globals, &module);
        PyObject *name = PyDict_GetItemWithError(func->func_globals, codec->names[N_NAME]);
        if (rc == 0) {
            (void)atoll_encoder_refuse(enc, "the module of its globals is gone");
        }
        Py_SETREF(*where, rc > 0 ? Py_XNewRef(name) : NULL);
        Py_SETREF(*origin, *where != NULL ? atoll_origin_of(codec, module, *where) : NULL);
        if (*origin == Py_False) { /* a moment ago it was found */
            Py_SETREF(*origin, Py_NewRef(Py_None));
        }
        Py_XDECREF(module);
        PyObject *odd = NULL;
        if (*origin != NULL &&
            (atoll_odd_globals((PyCodeObject *)func->func_code, func->func_globals, &odd) < 0 ||
             (odd != NULL && PyDict_GET_SIZE(odd) != 0))) {
            Py_SETREF(*origin, PyErr_Occurred() ? NULL : PyTuple_Pack(2, *origin, odd));
        }
        Py_XDECREF(odd);
    }
    if (*where == NULL || *origin == NULL) {
        Py_CLEAR(*where);
        Py_CLEAR(*origin);
        return -1;
    }
    return 0;
}

/* The body and the state of func, and what it leads to: the code first. */
static int encode_group(atoll_encoder *enc, PyFunctionObject *func) {
    struct atoll_later *outer = enc->empty;
    PyObject *named = enc->named;
    atoll_later later;
    atoll_later_begin(&later, enc);
    enc->later = &later;
    enc->empty = NULL;
    enc->named = NULL;
    int rc = atoll_later_function(enc, func) < 0 ? -1 : atoll_write_bodies(enc, &later);
    enc->later = NULL;
    rc = rc < 0 || atoll_write_early(enc, &later) < 0 || atoll_write_states(enc, &later) < 0
             ? -1
             : atoll_write_late(enc, &later);
    enc->empty = outer;
    enc->named = named;
    atoll_later_end(&later);
    return rc;
}

static int encode_by_value(atoll_encoder *enc, PyFunctionObject *func, atoll_crossing way) {
    atoll_codec *codec = enc->codec;
    if (!atoll_watch_globals(codec, func->func_globals)) {
        enc->impure = true;
        atoll_reach_always(enc);
    }
    if (atoll_reach_function(enc, func) < 0) {
        return -1;
    }
    uint64_t identity;
    bool reusable;
    uint64_t space = way == CROSS_MAIN ? atoll_space_of(codec, func->func_globals) : 0;
    if ((space == 0 && way == CROSS_MAIN) ||
        atoll_function_identity(codec, func, way, &identity, &reusable) < 0) {
        return -1;
    }
    PyObject *where;
    PyObject *origin;
    if (place_of(enc, func, way, space, &where, &origin) < 0) {
        return -1;
    }
    int rc = -1;
    bool later = enc->later != NULL;
    if (atoll_write_tag(enc, T_FUNCTION | ATOLL_MEMO) == 0 &&
        atoll_write_tag(enc, (uint8_t)(way | (reusable ? REUSABLE : 0) | (later ? LATER : 0))) == 0 &&
        atoll_write_u64(enc, identity) == 0 && atoll_write_u64(enc, space) == 0 &&
        encode_part(enc, func, "__code__", func->func_code) == 0 && atoll_encode_shared(enc, where) == 0 &&
        atoll_encode_shared(enc, origin) == 0) {
        rc = atoll_memo_add(enc, (PyObject *)func);
    }
    Py_DECREF(where);
    Py_DECREF(origin);
    if (rc < 0 || later) {
        return rc < 0 ? -1 : atoll_later_function(enc, func);
    }
    return encode_group(enc, func);
}

/* What tells func from others, and what is in it that may change. */
static int encode_outline(atoll_encoder *enc, PyFunctionObject *func, atoll_crossing way) {
    uint64_t identity;
    bool reusable;
    if (atoll_function_identity(enc->codec, func, way, &identity, &reusable) < 0 ||
        atoll_write_tag(enc, T_FUNCTION | ATOLL_MEMO) < 0 || atoll_write_u64(enc, identity) < 0 ||
        atoll_memo_add(enc, (PyObject *)func) < 0) {
        return -1;
    }
    if (reusable || atoll_is_annotate(func)) {
        return 0;
    }
    if (encode_attributes(enc, func) < 0 || encode_part(enc, func, "__defaults__", func->func_defaults) < 0 ||
        encode_kwdefaults(enc, func) < 0) {
        return -1;
    }
    return way == CROSS_MODULE && atoll_is_foreign(enc->codec, func)
               ? 0
               : encode_part(enc, func, "__closure__", func->func_closure);
}

/* Whether what is being written, which has a frame of its own, is only called over there. */
static bool is_callee(const atoll_encoder *enc) {
    const atoll_frame *around = enc->top != NULL ? enc->top->up : NULL;
    return around != NULL ? around->step == AT_CALLABLE : strcmp(enc->root, "callable") == 0;
}

int atoll_encode_function(atoll_encoder *enc, PyObject *obj) {
    PyFunctionObject *func = (PyFunctionObject *)obj;
    atoll_crossing way = atoll_function_crossing(enc->codec, func);
    if (way == CROSS_PATH && is_callee(enc) && atoll_function_is_stateless(func) &&
        !atoll_function_asks_globals(func)) {
        way = CROSS_STATELESS; /* its module need not be imported for that */
    }
    int rc;
    switch (way) {
    case CROSS_ERROR:
        return -1;
    case CROSS_PATH:
        rc = atoll_try_global(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        return atoll_encode_fallback(enc, obj);
    case CROSS_NOT:
        return atoll_encode_fallback(enc, obj);
    default:
        return enc->outline ? encode_outline(enc, func, way) : encode_by_value(enc, func, way);
    }
}

/* ---- receiving ---- */

/* 0, or -1 with an exception. */
static int find_globals(atoll_decoder *dec, atoll_crossing way, uint64_t space, PyObject *where,
                        PyObject *origin, atoll_globals *to) {
    atoll_codec *codec = dec->codec;
    *to = (atoll_globals){0};
    if (way == CROSS_STATELESS) {
        PyObject *main = PyImport_AddModule("__main__"); /* borrowed */
        to->dict = main != NULL ? Py_NewRef(PyModule_GetDict(main)) : NULL;
        return main != NULL ? 0 : -1;
    }
    if (way == CROSS_MAIN) {
        if (atoll_spaces_sweep(codec) < 0 || atoll_spaces_follow(codec) < 0 ||
            atoll_space_globals(codec, space, to) < 0) {
            return -1;
        }
        if (to->seen != NULL && PyUnicode_CheckExact(where)) {
            return atoll_space_settle(codec, space, to->dict, where);
        }
        return 0;
    }
    PyObject *odd = NULL;
    if (PyTuple_CheckExact(origin) && PyTuple_GET_SIZE(origin) == 2) {
        odd = PyTuple_GET_ITEM(origin, 1);
        origin = PyTuple_GET_ITEM(origin, 0);
    }
    if (!PyUnicode_CheckExact(where) || (origin != Py_None && !PyUnicode_CheckExact(origin)) ||
        (odd != NULL && !PyDict_CheckExact(odd))) {
        atoll_malformed("a module name that is not a str");
        return -1;
    }
    PyObject *module = atoll_import_module(codec, where, origin);
    to->dict = module != NULL && PyModule_Check(module) ? Py_NewRef(PyModule_GetDict(module)) : NULL;
    if (to->dict != NULL && odd != NULL && PyDict_Merge(to->dict, odd, 0) < 0) {
        Py_CLEAR(to->dict);
    }
    if (to->dict == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ImportError, "%R is not a module", where);
    }
    Py_XDECREF(module);
    return to->dict != NULL ? 0 : -1;
}

static int set_text(PyObject **field, PyObject *value) {
    if (!PyUnicode_Check(value)) {
        atoll_malformed("a function's name is not a str");
        return -1;
    }
    Py_XSETREF(*field, Py_NewRef(value));
    return 0;
}

static int decode_parts(atoll_decoder *dec, PyObject *part[PART_COUNT]) {
    int rc = 0;
    for (int i = 0; i < PART_COUNT && rc == 0; i++) {
        rc = (part[i] = atoll_decode_value(dec)) != NULL ? 0 : -1;
    }
    return rc;
}

static void drop_parts(PyObject *part[PART_COUNT]) {
    for (int i = 0; i < PART_COUNT; i++) {
        Py_XDECREF(part[i]);
    }
}

static int apply_closure(PyFunctionObject *func, PyObject *closure) {
    Py_ssize_t nfree = PyCode_GetNumFree((PyCodeObject *)func->func_code);
    if (closure == Py_None) {
        if (nfree == 0) {
            return 0;
        }
    } else if (PyTuple_CheckExact(closure) && PyTuple_GET_SIZE(closure) == nfree) {
        for (Py_ssize_t i = 0; i < nfree; i++) {
            if (!PyCell_Check(PyTuple_GET_ITEM(closure, i))) {
                atoll_malformed("a closure of what are no cells");
                return -1;
            }
        }
        return PyFunction_SetClosure((PyObject *)func, closure);
    }
    atoll_malformed("a closure that does not fit its code");
    return -1;
}

int atoll_decode_body(atoll_decoder *dec, PyFunctionObject *func, atoll_globals *to,
                      const atoll_received *received) {
    PyObject *part[PART_COUNT] = {NULL};
    int rc = decode_parts(dec, part);
    if (rc == 0 && !received->known) {
        rc = set_text(&func->func_name, part[0]) < 0 || set_text(&func->func_qualname, part[1]) < 0
                 ? -1
                 : apply_closure(func, part[4]);
        Py_XSETREF(func->func_module, Py_NewRef(part[2]));
        Py_XSETREF(func->func_doc, Py_NewRef(part[3]));
    }
    drop_parts(part);
    return rc < 0 ? -1 : atoll_decode_globals(dec, to, func->func_builtins);
}

static int apply_state(atoll_decoder *dec, PyFunctionObject *func, PyObject *part[PART_COUNT]) {
    PyObject *obj = (PyObject *)func;
    if (part[0] != Py_None && PyObject_SetAttr(obj, dec->codec->names[N_DICT], part[0]) < 0) {
        return -1;
    }
    if ((part[1] != Py_None && PyFunction_SetDefaults(obj, part[1]) < 0) ||
        (part[2] != Py_None && PyObject_SetAttr(obj, dec->codec->names[N_KWDEFAULTS], part[2]) < 0)) {
        return -1;
    }
    if (part[3] != Py_None) {
        int name = PyFunction_Check(part[3]) ? N_ANNOTATE : N_ANNOTATIONS;
        if (PyObject_SetAttr(obj, dec->codec->names[name], part[3]) < 0) {
            return -1;
        }
    }
    return part[4] != Py_None ? PyObject_SetAttrString(obj, "__type_params__", part[4]) : 0;
}

int atoll_decode_function_state(atoll_decoder *dec, PyFunctionObject *func, const atoll_received *received) {
    PyObject *part[PART_COUNT] = {NULL};
    int rc = decode_parts(dec, part);
    if (rc == 0 && !received->known) {
        rc = apply_state(dec, func, part);
    }
    drop_parts(part);
    return rc < 0 || received->known ? rc
                                     : atoll_function_adopt(dec->codec, func, received->way,
                                                            received->identity, received->reusable);
}

/* As encode_group() has written it. */
static int decode_group(atoll_decoder *dec, PyFunctionObject *func, const atoll_globals *to,
                        const atoll_received *received) {
    struct atoll_pending *outer = dec->pending;
    size_t defined = atoll_begin_definitions(dec);
    atoll_pending list;
    atoll_pending_begin(&list, dec);
    list.of_function = true;
    dec->pending = &list;
    int rc = atoll_pending_function(dec, func, to, received) < 0 || atoll_read_bodies(dec, &list) < 0 ||
                     atoll_read_early(dec, &list) < 0 || atoll_read_states(dec, &list) < 0
                 ? -1
                 : atoll_read_late(dec, &list);
    dec->pending = outer;
    dec->defined = defined;
    atoll_pending_end(&list, dec->codec, rc == 0);
    return PyErr_Occurred() ? -1 : rc;
}

/* What follows the function's memo index, or is to come later. */
static int decode_rest(atoll_decoder *dec, PyFunctionObject *func, const atoll_globals *to,
                       const atoll_received *received, bool later) {
    if (!later) {
        return decode_group(dec, func, to, received);
    }
    if (dec->pending == NULL) {
        atoll_malformed("a function that never comes");
        return -1;
    }
    return atoll_pending_function(dec, func, to, received);
}

/* The function that has this number here, if it is one that need not be made again: new reference, or NULL, maybe with an exception. */
static PyObject *known_function(const atoll_decoder *dec, const atoll_received *received) {
    atoll_codec *codec = dec->codec;
    if (!received->reusable ||
        (codec->making != NULL && atoll_wait_for_maker(codec, received->identity) < 0)) {
        return NULL;
    }
    PyObject *func = atoll_weak_get(codec->function_refs, received->identity);
    if (func != NULL && !PyFunction_Check(func)) {
        Py_CLEAR(func);
        atoll_malformed("an identity that is not a function's");
    }
    atoll_lean_on_coming(dec, received->identity);
    return func;
}

PyObject *atoll_decode_function(atoll_decoder *dec, uint8_t tag) {
    (void)tag;
    uint8_t first = atoll_get_u8(&dec->rd);
    atoll_received received = {.way = (atoll_crossing)(first & ~(REUSABLE | LATER)),
                               .reusable = (first & REUSABLE) != 0};
    received.identity = atoll_get_u64(&dec->rd);
    uint64_t space = atoll_get_u64(&dec->rd);
    if (dec->rd.failed ||
        (received.way != CROSS_STATELESS && received.way != CROSS_MAIN && received.way != CROSS_MODULE)) {
        return atoll_malformed("an unknown kind of function");
    }
    PyObject *code = atoll_decode_value(dec);
    PyObject *where = code != NULL ? atoll_decode_value(dec) : NULL;
    PyObject *origin = where != NULL ? atoll_decode_value(dec) : NULL;
    atoll_globals to = {0};
    PyObject *func = NULL;
    if (origin == NULL) {
        goto done;
    }
    if (!PyCode_Check(code)) {
        atoll_malformed("a function without code");
        goto done;
    }
    func = known_function(dec, &received);
    received.known = func != NULL;
    if (PyErr_Occurred()) {
        goto done;
    }
    if (find_globals(dec, received.way, space, where, origin, &to) < 0) {
        Py_CLEAR(func);
    } else if (received.known) {
        Py_SETREF(to.dict, Py_NewRef(PyFunction_GET_GLOBALS(func)));
    } else {
        func = PyFunction_New(code, to.dict);
    }
    to.bare = !received.known;
    if (func == NULL || atoll_remember(dec, func) < 0 ||
        decode_rest(dec, (PyFunctionObject *)func, &to, &received, (first & LATER) != 0) < 0) {
        Py_CLEAR(func);
    }
done:
    Py_XDECREF(code);
    Py_XDECREF(where);
    Py_XDECREF(origin);
    atoll_globals_clear(&to);
    return func;
}
