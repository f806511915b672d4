/* Modules, and what has globals but is none that another interpreter could import.
 *
 * A module that its own name leads to, in the way of import, crosses by that name (T_MODULE); with it go the names of those of its
 * submodules that the sender has loaded and the code that reaches it names, so that `import a.b` in a script means the same
 * there.  Whether the name leads to it is found out by atoll._crossing.places, once for each module object and file.
 *
 * Any other module (executed by runpy, by a recipe with a spec, by a test runner, or still being imported) is a namespace
 * (T_NAMESPACE): like a script's it has a number (codec/space.c), and what the code names of it goes along, by value.  Nothing
 * is executed a second time for it.
 *
 * What a namespace says of itself (its name, file, package, spec and loader: its place) goes with each function of it and is
 * taken once by each receiver, when it makes a stand-in for it.
 *
 * Any of it may run Python code: finders, imports.
 */
#include "py/codec/internal.h"

enum { PLACES_KEPT = 256 };

static PyObject *places(atoll_codec *codec) {
    return atoll_import_once(&codec->places, "atoll._crossing.places");
}

PyObject *atoll_origin_module(PyObject *name) {
    PyObject *module = PyImport_GetModule(name);
    if (module == Py_None) {
        Py_CLEAR(module); /* what forbids an import */
    }
    return module;
}

/* ---- where modules come from ---- */

/* What the module's dict says its file is: a borrowed reference to a str, maybe of a subclass, or None.  A module's own __getattr__ is not asked:
 * what loads it lazily must not be set off by sending one of its classes. */
static PyObject *file_of(atoll_codec *codec, PyObject *module) {
    PyObject *dict = PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
    PyObject *file = dict != NULL ? PyDict_GetItemWithError(dict, codec->names[N_FILE]) : NULL;
    PyErr_Clear();
    return file != NULL && PyUnicode_Check(file) ? file : Py_None;
}

int atoll_is_standard(atoll_codec *codec, PyObject *name) {
    if (atoll_is_main_name(codec, name)) {
        return 0;
    }
    Py_ssize_t len = PyUnicode_GET_LENGTH(name);
    Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, len, 1);
    PyObject *top = dot < 0 ? Py_NewRef(name) : PyUnicode_Substring(name, 0, dot);
    PyObject *stdlib = PySys_GetObject("stdlib_module_names"); /* borrowed */
    int known = top == NULL ? -1 : stdlib == NULL ? 0 : PySequence_Contains(stdlib, top);
    Py_XDECREF(top);
    return known;
}

/* What is sent of module's file, False where its name leads nowhere; *lasts: and it will be so. */
static PyObject *find_origin(atoll_codec *codec, PyObject *module, PyObject *name, bool *lasts) {
    *lasts = true;
    int known = atoll_is_main_name(codec, name) ? 1 : atoll_is_standard(codec, name);
    if (known != 0) { /* it is there in every interpreter */
        return known < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *helper = places(codec);
    PyObject *executing = helper != NULL ? PyObject_CallMethod(helper, "is_executing", "(O)", name) : NULL;
    if (executing == NULL || executing == Py_True) {
        *lasts = false;
        return executing; /* True is turned by who asks */
    }
    Py_DECREF(executing);
    return PyObject_CallMethod(helper, "origin_of", "OO", name, module);
}

PyObject *atoll_origin_of(atoll_codec *codec, PyObject *module, PyObject *name) {
    PyObject *entry = atoll_weak_entry(codec->origins, name, module);
    PyObject *more[2] = {file_of(codec, module), NULL}; /* the file, what is sent */
    if (entry != NULL && PyTuple_GET_ITEM(entry, 1) == more[0]) {
        return Py_NewRef(PyTuple_GET_ITEM(entry, 2));
    }
    if (entry == NULL && PyErr_Occurred()) {
        return NULL;
    }
    bool lasts;
    Py_INCREF(more[0]);
    more[1] = find_origin(codec, module, name, &lasts);
    if (more[1] != NULL && !lasts) {
        Py_SETREF(more[1], Py_NewRef(Py_False));
    } else if (more[1] != NULL && PyModule_Check(module) &&
               atoll_weak_store(codec->origins, name, module, more, 2) < 0) {
        Py_CLEAR(more[1]);
    }
    Py_DECREF(more[0]);
    return more[1];
}

int atoll_origin_is_found(atoll_codec *codec, PyObject *module, PyObject *name) {
    PyObject *origin = atoll_origin_of(codec, module, name);
    int found = origin == NULL ? -1 : origin != Py_False;
    Py_XDECREF(origin);
    return found;
}

/* What was put into sys.modules for a namespace gives way to the module that is to be imported: it was being executed when
 * that crossed. */
static int give_way(atoll_codec *codec, PyObject *name, PyObject **module) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (*module == NULL || PyDict_GET_SIZE(codec->stand_ins) == 0 ||
        PyDict_GetItemWithError(codec->stand_ins, name) != *module) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_CLEAR(*module);
    return PyDict_DelItem(codec->stand_ins, name) < 0 || PyObject_DelItem(modules, name) < 0 ? -1 : 0;
}

PyObject *atoll_import_module(atoll_codec *codec, PyObject *name, PyObject *origin) {
    PyObject *module = atoll_origin_module(name);
    if (give_way(codec, name, &module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    if (module != NULL || PyErr_Occurred()) {
        return module;
    }
    module = PyImport_Import(name);
    if (module != NULL || origin == Py_None || !PyErr_ExceptionMatches(PyExc_ModuleNotFoundError)) {
        return module;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *helper = places(codec);
    module = helper != NULL ? PyObject_CallMethod(helper, "load_module", "OOO", name, origin, exc) : NULL;
    Py_DECREF(exc);
    return module;
}

/* ---- places of namespaces ---- */

PyObject *atoll_space_place(atoll_codec *codec, uint64_t space, PyObject *globals) {
    PyObject *key = PyLong_FromUnsignedLongLong(space);
    PyObject *place = key != NULL ? Py_XNewRef(PyDict_GetItemWithError(codec->described, key)) : NULL;
    if (place == NULL && !PyErr_Occurred()) {
        PyObject *helper = places(codec);
        place = helper != NULL ? PyObject_CallMethod(helper, "describe", "(O)", globals) : NULL;
        if (place != NULL && PyDict_GET_SIZE(codec->described) >= PLACES_KEPT) {
            PyDict_Clear(codec->described);
        }
        if (place != NULL && PyDict_SetItem(codec->described, key, place) < 0) {
            Py_CLEAR(place);
        }
    }
    Py_XDECREF(key);
    return place;
}

int atoll_space_settle(atoll_codec *codec, uint64_t space, PyObject *dict, PyObject *place) {
    if (PyDict_GetItemWithError(dict, codec->names[N_NAME]) != codec->names[N_FAKE_MAIN]) {
        return PyErr_Occurred() ? -1 : 0; /* it has a place */
    }
    PyObject *module = atoll_space_module(codec, space);
    PyObject *helper = module != NULL ? places(codec) : NULL;
    PyObject *done =
        helper != NULL ? PyObject_CallMethod(helper, "settle", "OOO", module, place, codec->stand_ins) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(module);
    return done != NULL ? 0 : -1;
}

int atoll_bind_class(atoll_codec *codec, PyObject *cls) {
    PyObject *helper = places(codec);
    PyObject *done = helper != NULL ? PyObject_CallMethod(helper, "bind", "OO", cls, codec->stand_ins) : NULL;
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* ---- sending ---- */

/* The names of what code reaches, or NULL: no exception when no code is being sent. */
static PyObject *names_in_reach(atoll_encoder *enc) {
    return enc->code != NULL ? atoll_all_names((PyCodeObject *)enc->code) : NULL;
}

static int put_submodules(atoll_encoder *enc, PyObject *module, PyObject *name) {
    PyObject *dict = PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
    PyObject *path = dict != NULL ? PyDict_GetItemString(dict, "__path__") : NULL;
    if (enc->code == NULL || path == NULL) {
        return atoll_write_count(enc, 0);
    }
    (void)atoll_watch_globals(enc->codec, dict); /* one that is loaded later changes what the code reaches */
    PyObject *names = names_in_reach(enc);
    PyObject *helper = names != NULL ? places(enc->codec) : NULL;
    PyObject *found = helper != NULL ? PyObject_CallMethod(helper, "submodules", "OO", name, names) : NULL;
    int rc = found != NULL && PyTuple_Check(found) ? atoll_write_count(enc, (uint64_t)PyTuple_GET_SIZE(found))
                                                   : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(found); i++) {
        rc = atoll_encode_shared(enc, PyTuple_GET_ITEM(found, i));
    }
    Py_XDECREF(found);
    Py_XDECREF(names);
    return rc;
}

static int put_module(atoll_encoder *enc, PyObject *module, PyObject *name, PyObject *origin) {
    int rc = -1;
    /* It gets no index: what other code reaches of it is written where that is. */
    if (atoll_write_tag(enc, T_MODULE) == 0 && atoll_encode_shared(enc, name) == 0 &&
        atoll_encode_shared(enc, origin) == 0) {
        rc = put_submodules(enc, module, name);
    }
    return rc;
}

/* Names and values, as those of a function's globals. */
static int put_names(atoll_encoder *enc, PyObject *globals, PyObject *found) {
    return atoll_encode_split(enc, globals, found) < 0 ? -1 : atoll_write_count(enc, 0);
}

static int put_namespace(atoll_encoder *enc, PyObject *module) {
    atoll_codec *codec = enc->codec;
    PyObject *globals = PyModule_GetDict(module);
    if (PyModule_GetDef(module) != NULL) {
        return atoll_encoder_refuse(enc, "an extension module that is not in sys.modules is not shareable");
    }
    uint64_t space = atoll_space_of(codec, globals);
    if (enc->outline) { /* what is reached of it is looked at by itself */
        return space == 0 || atoll_write_tag(enc, T_NAMESPACE | ATOLL_MEMO) < 0 ||
                       atoll_write_u64(enc, space) < 0
                   ? -1
                   : atoll_memo_add(enc, module);
    }
    PyObject *place = space != 0 ? atoll_space_place(codec, space, globals) : NULL;
    PyObject *names = place != NULL ? names_in_reach(enc) : NULL;
    PyObject *helper = place != NULL && !PyErr_Occurred() ? places(codec) : NULL;
    PyObject *found =
        helper != NULL ? PyObject_CallMethod(helper, "named", "OO", module, names != NULL ? names : Py_None)
                       : NULL;
    int rc = -1;
    if (found != NULL && PyDict_Check(found) && atoll_weak_put(codec->namespaces, space, module) == 0 &&
        atoll_write_tag(enc, T_NAMESPACE | ATOLL_MEMO) == 0 && atoll_write_u64(enc, space) == 0 &&
        atoll_encode_shared(enc, place) == 0 && atoll_memo_add(enc, module) == 0) {
        rc = put_names(enc, globals, found);
    }
    Py_XDECREF(found);
    Py_XDECREF(names);
    Py_XDECREF(place);
    return rc;
}

int atoll_encode_module(atoll_encoder *enc, PyObject *obj) {
    atoll_codec *codec = enc->codec;
    PyObject *name = PyObject_GetAttr(obj, codec->names[N_NAME]);
    if (name == NULL || !PyUnicode_CheckExact(name)) {
        bool urgent = name == NULL && atoll_passes_through(codec);
        Py_XDECREF(name);
        return urgent ? -1 : atoll_refuse_type(enc, obj);
    }
    PyObject *known = atoll_origin_module(name);
    PyObject *origin = NULL;
    if (known != NULL && known == obj) {
        origin = atoll_origin_of(codec, known, name);
    } else if (!PyErr_Occurred()) {
        origin = Py_NewRef(Py_False);
    }
    int rc = -1;
    if (origin != NULL) {
        rc = origin != Py_False ? put_module(enc, obj, name, origin) : put_namespace(enc, obj);
    }
    Py_XDECREF(origin);
    Py_XDECREF(known);
    Py_DECREF(name);
    return rc;
}

/* ---- receiving ---- */

/* One that cannot be imported is missed by the code that names it, if that is what it means. */
static int import_submodule(atoll_codec *codec, PyObject *name) {
    PyObject *module = atoll_import_module(codec, name, Py_None);
    if (module == NULL && !PyErr_ExceptionMatches(PyExc_ImportError)) {
        return -1;
    }
    PyErr_Clear();
    Py_XDECREF(module);
    return 0;
}

PyObject *atoll_decode_module(atoll_decoder *dec) {
    PyObject *name = atoll_decode_value(dec);
    PyObject *origin = name != NULL ? atoll_decode_value(dec) : NULL;
    PyObject *module = NULL;
    if (origin != NULL) {
        module = PyUnicode_CheckExact(name) && (origin == Py_None || PyUnicode_CheckExact(origin))
                     ? atoll_import_module(dec->codec, name, origin)
                     : atoll_malformed("a name that is not a str");
    }
    Py_ssize_t n = module != NULL ? atoll_read_count(dec, 1) : -1;
    int rc = n < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        PyObject *submodule = atoll_decode_value(dec);
        rc = submodule == NULL ? -1 : 0;
        if (rc == 0 && !PyUnicode_CheckExact(submodule)) {
            atoll_malformed("a name that is not a str");
            rc = -1;
        }
        rc = rc == 0 ? import_submodule(dec->codec, submodule) : -1;
        Py_XDECREF(submodule);
    }
    if (rc < 0) {
        Py_CLEAR(module);
    }
    Py_XDECREF(name);
    Py_XDECREF(origin);
    return module;
}

PyObject *atoll_decode_namespace(atoll_decoder *dec) {
    atoll_codec *codec = dec->codec;
    uint64_t space = atoll_get_u64(&dec->rd);
    PyObject *place =
        dec->rd.failed ? atoll_malformed("a namespace without a number") : atoll_decode_value(dec);
    if (place == NULL) {
        return NULL;
    }
    atoll_globals to = {0};
    PyObject *module = NULL;
    int rc = atoll_spaces_sweep(codec) == 0 ? atoll_space_globals(codec, space, &to) : -1;
    if (rc == 0 && to.seen == NULL) {
        module = atoll_weak_get(codec->namespaces, space);
        if (module == NULL && !PyErr_Occurred()) {
            PyObject *helper = places(codec);
            module = helper != NULL ? PyObject_CallMethod(helper, "module_of", "(O)", to.dict) : NULL;
            if (module == Py_None) {
                Py_CLEAR(module);
            }
        }
    } else if (rc == 0 && PyUnicode_CheckExact(place) &&
               atoll_space_settle(codec, space, to.dict, place) == 0) {
        module = atoll_space_module(codec, space);
    }
    Py_DECREF(place);
    if (module == NULL && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ImportError, "the module of a namespace that came home is gone");
    }
    size_t defined = atoll_begin_definitions(dec);
    if (module != NULL && (atoll_remember(dec, module) < 0 || atoll_decode_globals(dec, &to, Py_None) < 0)) {
        Py_CLEAR(module);
    }
    dec->defined = defined;
    atoll_globals_clear(&to);
    return module;
}
