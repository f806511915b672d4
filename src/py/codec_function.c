/* Functions: by value where they are nobody's but a __main__'s, by import path elsewhere.
 *
 *   T_FUNCTION
 *   u8     crossing (stateless, main, module), with a bit that says whether who has it need not make it again
 *   u64    identity (codec_identity.c)
 *   u64    space: which namespace, if a __main__ it belongs to (codec_space.c)
 *   value  code
 *   value  module name of the globals, or place of the namespace (codec_module.c), or None
 *   value  origin of that module, or None
 *   -- the function gets its memo index here --
 *   values name, qualified name, module, doc, dict, defaults, keyword defaults, annotations, type parameters, closure (a tuple
 *          of cells)
 *   count  of globals, then names and values
 *
 * The function exists over there before anything that may refer back to it is read: recursion through globals, cells
 * and defaults needs no more than the memo.
 *
 * Functions of a __main__ get, in each receiver, a globals dict that stands for theirs.  What a function names is
 * added to it unless it is there already: a receiver keeps its own state between calls.  Functions, classes and modules
 * are the exception: one that was defined anew takes the place of the old.  Sent home, a function finds itself by its
 * identity; where it does not exist any more, it is made again and has its old globals, and nothing that is bound there is
 * touched.
 */
#include "py/codec_internal.h"

enum { PART_COUNT = 10, REUSABLE = 0x80 };

/* ---- which way ---- */

/* The importable module whose globals these are: 1 with a new reference, 0, or -1 with an exception. */
static int module_of_globals(atoll_codec *codec, PyObject *globals, PyObject **found) {
    *found = NULL;
    PyObject *name = PyDict_GetItemWithError(globals, codec->names[N_NAME]);
    if (name == NULL || !PyUnicode_CheckExact(name) || atoll_is_main_name(codec, name)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(name);
    PyObject *module = atoll_module_by_name(name);
    if (module == NULL) {
        Py_DECREF(name);
        return PyErr_Occurred() ? -1 : 0;
    }
    int rc = PyModule_Check(module) && PyModule_GetDict(module) == globals
                 ? atoll_module_is_found(codec, module, name)
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
    PyObject *module = atoll_module_by_name(name);
    PyObject *found = module != NULL ? atoll_get_dotted(module, qualname) : NULL;
    int rc = found == (PyObject *)func ? atoll_module_is_found(codec, module, name) : 0;
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
    if (atoll_function_is_stateless(func)) {
        return CROSS_STATELESS;
    }
    PyObject *module = func->func_module;
    bool of_main = module != NULL && atoll_is_main_name(codec, module);
    int rc = of_main ? 0 : has_path(codec, func);
    if (rc != 0) {
        return rc < 0 ? CROSS_ERROR : CROSS_PATH;
    }
    PyObject *owner;
    rc = module_of_globals(codec, func->func_globals, &owner);
    Py_XDECREF(owner);
    return rc < 0 ? CROSS_ERROR : rc > 0 ? CROSS_MODULE : CROSS_MAIN;
}

/* ---- sending ---- */

static bool is_own_name(PyObject *name) {
    static const char *const own[] = {"__name__", "__builtins__", "__file__",
                                      "__spec__", "__loader__",   "__package__"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (PyUnicode_CompareWithASCIIString(name, own[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The globals that func names; with `definitions`, only those that are definitions. */
static int encode_globals(atoll_encoder *enc, PyFunctionObject *func, bool definitions) {
    PyObject *names = atoll_global_names((PyCodeObject *)func->func_code);
    PyObject *found = names != NULL ? PyDict_New() : NULL;
    PyObject *it = found != NULL ? PyObject_GetIter(names) : NULL;
    int rc = it != NULL ? 0 : -1;
    PyObject *name;
    while (rc == 0 && (name = PyIter_Next(it)) != NULL) {
        PyObject *value = is_own_name(name) ? NULL : PyDict_GetItemWithError(func->func_globals, name);
        if (value != NULL && (!definitions || atoll_is_definition(value))) {
            rc = PyDict_SetItem(found, name, value);
            enc->impure |= !atoll_is_definition(value);
        }
        Py_DECREF(name);
    }
    if (rc == 0 && !PyErr_Occurred()) {
        rc = atoll_encode_dict_body(enc, found, AT_GLOBAL);
    } else {
        rc = -1;
    }
    Py_XDECREF(it);
    Py_XDECREF(names);
    Py_XDECREF(found);
    return rc;
}

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
    rc = atoll_memo_add(enc, dict) < 0 || atoll_put_tag(enc, T_DICT | ATOLL_MEMO) < 0
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

static bool is_annotate(PyFunctionObject *func) {
    return PyUnicode_CompareWithASCIIString(func->func_name, "__annotate__") == 0;
}

/* Whether it was put around somebody else's function by a decorator: its globals are of another module than it says. */
static bool is_foreign(atoll_codec *codec, PyFunctionObject *func, atoll_crossing way) {
    PyObject *home =
        way == CROSS_MODULE ? PyDict_GetItemWithError(func->func_globals, codec->names[N_NAME]) : NULL;
    PyObject *said = func->func_module;
    if (home == NULL || said == NULL || !PyUnicode_CheckExact(home) || !PyUnicode_CheckExact(said)) {
        PyErr_Clear();
        return false;
    }
    return home != said && PyUnicode_Compare(home, said) != 0;
}

static int encode_parts(atoll_encoder *enc, PyFunctionObject *func, atoll_crossing way) {
    /* Attributes and defaults may be changed in place, whatever the function is a part of.  (After an error nobody looks at
     * exempt any more.) */
    unsigned exempt = enc->exempt;
    enc->exempt = 0;
    if (atoll_witness(enc, (PyObject *)func) < 0 || encode_part(enc, func, "__name__", func->func_name) < 0 ||
        encode_part(enc, func, "__qualname__", func->func_qualname) < 0 ||
        encode_part(enc, func, "__module__", func->func_module) < 0 ||
        encode_part(enc, func, "__doc__", func->func_doc) < 0 || encode_attributes(enc, func) < 0 ||
        encode_part(enc, func, "__defaults__", func->func_defaults) < 0 || encode_kwdefaults(enc, func) < 0) {
        return -1;
    }
    enc->exempt = exempt;
    bool lazy;
    PyObject *annotations = atoll_annotations_of(enc, func, &lazy);
    if (annotations == NULL) {
        return -1;
    }
    enc->impure |= !atoll_kept_watch_function(enc, func); /* the dicts are made now */
    enc->exempt++;
    int rc = encode_part(enc, func, lazy ? "__annotate__" : "__annotations__", annotations);
    Py_DECREF(annotations);
    if (rc < 0 || encode_part(enc, func, "__type_params__", func->func_typeparams) < 0) {
        return -1;
    }
    /* What a library's decorator keeps in its closure (reprlib: the set of running calls) is its own affair. */
    enc->exempt = is_foreign(enc->codec, func, way) ? exempt + 1 : 0;
    bool impure = enc->impure;
    rc = encode_part(enc, func, "__closure__", func->func_closure);
    if (is_annotate(func)) {
        enc->impure = impure; /* what a class or function is annotated with is part of it */
    }
    enc->exempt = exempt;
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
        Py_SETREF(*origin, *where != NULL ? atoll_module_origin(codec, module, *where) : NULL);
        Py_XDECREF(module);
    }
    if (*where == NULL || *origin == NULL) {
        Py_CLEAR(*where);
        Py_CLEAR(*origin);
        return -1;
    }
    return 0;
}

static int encode_by_value(atoll_encoder *enc, PyFunctionObject *func, atoll_crossing way) {
    atoll_codec *codec = enc->codec;
    enc->impure |= !atoll_watch_globals(codec, func->func_globals);
    uint64_t identity;
    bool reusable;
    uint64_t space = way == CROSS_MAIN ? atoll_space_of(codec, func->func_globals) : 0;
    if ((space == 0 && way == CROSS_MAIN) || atoll_function_identity(codec, func, &identity, &reusable) < 0) {
        return -1;
    }
    PyObject *where;
    PyObject *origin;
    if (place_of(enc, func, way, space, &where, &origin) < 0) {
        return -1;
    }
    int rc = -1;
    if (atoll_put_tag(enc, T_FUNCTION | ATOLL_MEMO) == 0 &&
        atoll_put_tag(enc, (uint8_t)(way | (reusable ? REUSABLE : 0))) == 0 &&
        atoll_put_u64_checked(enc, identity) == 0 && atoll_put_u64_checked(enc, space) == 0 &&
        atoll_encode_shared(enc, func->func_code) == 0 && atoll_encode_shared(enc, where) == 0 &&
        atoll_encode_shared(enc, origin) == 0) {
        rc = atoll_memo_add(enc, (PyObject *)func);
    }
    Py_DECREF(where);
    Py_DECREF(origin);
    if (rc < 0) {
        return -1;
    }
    PyObject *outer = enc->code;
    enc->code = Py_NewRef(func->func_code); /* the function may be given another one meanwhile */
    rc = encode_parts(enc, func, way);
    if (rc == 0) {
        rc = way != CROSS_MAIN ? atoll_put_count(enc, 0) : encode_globals(enc, func, is_annotate(func));
    }
    Py_SETREF(enc->code, outer);
    return rc;
}

int atoll_encode_function(atoll_encoder *enc, PyObject *obj) {
    PyFunctionObject *func = (PyFunctionObject *)obj;
    atoll_crossing way = atoll_function_crossing(enc->codec, func);
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
        return encode_by_value(enc, func, way);
    }
}

/* ---- receiving ---- */

/* native: they are the ones that the function had, or this interpreter's own. */
static PyObject *decode_globals_dict(atoll_decoder *dec, atoll_crossing way, uint64_t space, PyObject *where,
                                     PyObject *origin, bool *native) {
    atoll_codec *codec = dec->codec;
    *native = true;
    if (way == CROSS_STATELESS) {
        PyObject *main = PyImport_AddModule("__main__"); /* borrowed */
        return main != NULL ? Py_NewRef(PyModule_GetDict(main)) : NULL;
    }
    if (way == CROSS_MAIN) {
        PyObject *dict = atoll_spaces_sweep(codec) == 0 ? atoll_space_globals(codec, space, native) : NULL;
        if (dict != NULL && !*native && PyTuple_CheckExact(where) &&
            atoll_space_settle(codec, space, dict, where) < 0) {
            Py_CLEAR(dict);
        }
        return dict;
    }
    if (!PyUnicode_CheckExact(where) || (origin != Py_None && !PyUnicode_CheckExact(origin))) {
        return atoll_malformed("a module name that is not a str");
    }
    PyObject *module = atoll_import_module(codec, where, origin);
    PyObject *dict = module != NULL && PyModule_Check(module) ? Py_NewRef(PyModule_GetDict(module)) : NULL;
    if (dict == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ImportError, "%R is not a module", where);
    }
    Py_XDECREF(module);
    return dict;
}

static int set_text(PyObject **field, PyObject *value) {
    if (!PyUnicode_CheckExact(value)) {
        atoll_malformed("a function's name is not a str");
        return -1;
    }
    Py_XSETREF(*field, Py_NewRef(value));
    return 0;
}

/* part: as encode_parts wrote them. */
static int apply_parts(atoll_decoder *dec, PyFunctionObject *func, PyObject *const *part) {
    PyObject *obj = (PyObject *)func;
    PyCodeObject *code = (PyCodeObject *)func->func_code;
    if (set_text(&func->func_name, part[0]) < 0 || set_text(&func->func_qualname, part[1]) < 0) {
        return -1;
    }
    Py_XSETREF(func->func_module, Py_NewRef(part[2]));
    Py_XSETREF(func->func_doc, Py_NewRef(part[3]));
    if (part[4] != Py_None && PyObject_SetAttr(obj, dec->codec->names[N_DICT], part[4]) < 0) {
        return -1;
    }
    if ((part[5] != Py_None && PyFunction_SetDefaults(obj, part[5]) < 0) ||
        (part[6] != Py_None && PyObject_SetAttr(obj, dec->codec->names[N_KWDEFAULTS], part[6]) < 0)) {
        return -1;
    }
    if (part[7] != Py_None) {
        int name = PyFunction_Check(part[7]) ? N_ANNOTATE : N_ANNOTATIONS;
        if (PyObject_SetAttr(obj, dec->codec->names[name], part[7]) < 0) {
            return -1;
        }
    }
    if (part[8] != Py_None && PyObject_SetAttrString(obj, "__type_params__", part[8]) < 0) {
        return -1;
    }
    PyObject *closure = part[9];
    Py_ssize_t nfree = PyCode_GetNumFree(code);
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
        return PyFunction_SetClosure(obj, closure);
    }
    atoll_malformed("a closure that does not fit its code");
    return -1;
}

/* Is a the same definition as b, though another object?  1, 0, or -1 with an exception. */
static int same_definition(atoll_codec *codec, PyObject *a, PyObject *b) {
    return a == b ? 1
           : PyFunction_Check(a) && PyFunction_Check(b)
               ? atoll_function_same(codec, (PyFunctionObject *)a, (PyFunctionObject *)b)
               : 0;
}

/* What becomes of the globals that come with a function. */
typedef enum {
    BIND_NONE, /* read and dropped: the function is at home and knows them */
    BIND_NEW,  /* names that are not bound */
    BIND_ALL,  /* and definitions that were made anew */
} binding;

/* Binds a name that a received function uses; see the essay. */
static int bind_global(atoll_codec *codec, PyObject *globals, PyObject *name, PyObject *value, binding how) {
    PyObject *bound = PyDict_GetItemWithError(globals, name);
    if (bound == NULL) {
        return PyErr_Occurred() ? -1 : PyDict_SetItem(globals, name, value);
    }
    if (how == BIND_NEW || !atoll_is_definition(bound) || !atoll_is_definition(value)) {
        return 0;
    }
    Py_INCREF(bound);
    int same = same_definition(codec, bound, value);
    Py_DECREF(bound);
    return same < 0 ? -1 : same ? 0 : PyDict_SetItem(globals, name, value);
}

static int bind_globals(atoll_decoder *dec, PyObject *globals, binding how) {
    Py_ssize_t n = atoll_get_count(dec, 2);
    int rc = n < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        PyObject *name = atoll_decode_value(dec);
        PyObject *value = name != NULL ? atoll_decode_value(dec) : NULL;
        if (value == NULL) {
            rc = -1;
        } else if (!PyUnicode_CheckExact(name)) {
            atoll_malformed("a global's name is not a str");
            rc = -1;
        } else if (how != BIND_NONE) {
            PyUnicode_InternInPlace(&name);
            rc = bind_global(dec->codec, globals, name, value, how);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return rc;
}

int atoll_decode_globals(atoll_decoder *dec, PyObject *globals, bool native) {
    return bind_globals(dec, globals, native ? BIND_NONE : BIND_ALL);
}

static int decode_parts(atoll_decoder *dec, PyFunctionObject *func, bool known) {
    PyObject *part[PART_COUNT] = {NULL};
    int rc = 0;
    for (int i = 0; i < PART_COUNT && rc == 0; i++) {
        rc = (part[i] = atoll_decode_value(dec)) != NULL ? 0 : -1;
    }
    if (rc == 0 && !known) {
        rc = apply_parts(dec, func, part);
    }
    for (int i = 0; i < PART_COUNT; i++) {
        Py_XDECREF(part[i]);
    }
    return rc;
}

/* Names that have no value at home, nor yet in these globals, may have one in the receiver's __main__: prepare_main(), exec()
 * or an initializer has bound them for this function. */
static int take_from_main(atoll_codec *codec, PyFunctionObject *func) {
    PyObject *main = codec->interp_id != 0 ? PyImport_AddModule("__main__") : NULL; /* borrowed */
    if (main == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *bound = PyModule_GetDict(main);
    PyObject *names = atoll_global_names((PyCodeObject *)func->func_code);
    PyObject *it = names != NULL ? PyObject_GetIter(names) : NULL;
    int rc = it != NULL ? 0 : -1;
    PyObject *name;
    while (rc == 0 && (name = PyIter_Next(it)) != NULL) {
        bool other = is_own_name(name) || PyMapping_HasKey(func->func_builtins, name);
        PyObject *value = other ? NULL : PyDict_GetItemWithError(bound, name);
        rc = value != NULL && PyDict_SetDefault(func->func_globals, name, value) == NULL ? -1 : 0;
        Py_DECREF(name);
        rc = PyErr_Occurred() ? -1 : rc;
    }
    Py_XDECREF(it);
    Py_XDECREF(names);
    return PyErr_Occurred() ? -1 : rc;
}

PyObject *atoll_decode_function(atoll_decoder *dec, uint8_t tag) {
    (void)tag;
    atoll_codec *codec = dec->codec;
    uint8_t first = atoll_get_u8(&dec->rd);
    atoll_crossing way = (atoll_crossing)(first & ~REUSABLE);
    bool reusable = (first & REUSABLE) != 0;
    uint64_t identity = atoll_get_u64(&dec->rd);
    uint64_t space = atoll_get_u64(&dec->rd);
    if (dec->rd.failed || (way != CROSS_STATELESS && way != CROSS_MAIN && way != CROSS_MODULE)) {
        return atoll_malformed("an unknown kind of function");
    }
    PyObject *code = atoll_decode_value(dec);
    PyObject *where = code != NULL ? atoll_decode_value(dec) : NULL;
    PyObject *origin = where != NULL ? atoll_decode_value(dec) : NULL;
    PyObject *globals = NULL;
    PyObject *func = NULL;
    bool known = false;
    bool native = false;
    if (origin == NULL) {
        goto done;
    }
    if (!PyCode_Check(code)) {
        atoll_malformed("a function without code");
        goto done;
    }
    func = reusable ? atoll_weak_get(codec->function_refs, identity) : NULL;
    known = func != NULL;
    if (known && !PyFunction_Check(func)) {
        Py_CLEAR(func);
        atoll_malformed("an identity that is not a function's");
        goto done;
    }
    if (PyErr_Occurred()) {
        goto done;
    }
    globals = decode_globals_dict(dec, way, space, where, origin, &native);
    if (globals == NULL) {
        Py_CLEAR(func);
    } else if (known) {
        Py_SETREF(globals, Py_NewRef(PyFunction_GET_GLOBALS(func)));
    } else {
        func = PyFunction_New(code, globals);
    }
    if (func == NULL || atoll_remember(dec, func) < 0 ||
        decode_parts(dec, (PyFunctionObject *)func, known) < 0 ||
        (!known && atoll_function_adopt(codec, (PyFunctionObject *)func, identity, reusable) < 0) ||
        bind_globals(dec, globals,
                     !native ? BIND_ALL
                     : known ? BIND_NONE
                             : BIND_NEW) < 0 ||
        (way == CROSS_MAIN && !native && take_from_main(codec, (PyFunctionObject *)func) < 0)) {
        Py_CLEAR(func);
    }
done:
    Py_XDECREF(code);
    Py_XDECREF(where);
    Py_XDECREF(origin);
    Py_XDECREF(globals);
    return func;
}
