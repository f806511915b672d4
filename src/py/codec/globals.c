/* The globals that cross with a function.
 *
 *   count  of names that the function's code uses and that are bound at home; for each
 *     value  name
 *     u64    version (codec/version.c)
 *     u64    which object it is, where that makes a difference (codec/same.c)
 *     value  what it is bound to
 *   u8     bit n: others, of rank n, come later (codec/later.c); a tuple of the names of those that are RANK_LATE, if there are some; the
 *          definitions in those that come later (codec/held.c), likewise
 *   count  of names that are not bound at home, and these
 *
 * They are bound in the dict that stands for the function's own over there (codec/space.c), which has a table of what was
 * taken from the sender: name -> version.
 *
 *   the version that is there    nothing is done: what the interpreter's own code has bound since then stays
 *   another                      the value is taken: it was changed at home
 *   none, the name is bound      it stays as it is: code of the interpreter has bound it
 *   none, it is not bound        prepare_main(), exec() or an initializer may have bound it in __main__, for this function: then
 *                                that is taken, else the sender's
 *   not bound at home            what was taken from the sender is deleted
 *
 * What __main__ had under these names is noted as well.  What is bound or deleted there later by the interpreter's own code
 * (the dict is watched: codec/watch.c) is so for the functions that were received, before one of them runs next.
 *
 * A function that comes home finds its own globals, and nothing that is bound there is touched.
 */
#include "py/codec/internal.h"

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

/* name -> value of what func's code names and its globals have, and a list of the other names; with `definitions`, only the
 * definitions, and what stands for types.  What is about to be made over there is neither. */
static int find_globals(atoll_encoder *enc, PyFunctionObject *func, bool definitions, PyObject *found,
                        PyObject *absent) {
    PyObject *globals = func->func_globals;
    PyObject *names = atoll_global_names((PyCodeObject *)func->func_code);
    PyObject *it = names != NULL ? PyObject_GetIter(names) : NULL;
    int rc = it != NULL ? 0 : -1;
    PyObject *name;
    while (rc == 0 && (name = PyIter_Next(it)) != NULL) {
        if (!is_own_name(name)) {
            atoll_note_reached(globals, name);
            PyObject *value = PyDict_GetItemWithError(globals, name);
            if (value == NULL) {
                rc = PyErr_Occurred() ? -1 : definitions ? 0 : PyList_Append(absent, name);
            } else if ((!definitions || atoll_is_definition(value) || atoll_is_type_form(value)) &&
                       !atoll_class_is_awaited(enc, value)) {
                rc = PyDict_SetItem(found, name, value);
            }
        }
        Py_DECREF(name);
    }
    Py_XDECREF(it);
    Py_XDECREF(names);
    return PyErr_Occurred() ? -1 : rc;
}

int atoll_encode_reached(atoll_encoder *enc, PyObject *globals, PyObject *found) {
    (void)atoll_globals_epoch(enc->codec); /* what is not watched now has no note of these names */
    int rc = atoll_write_count(enc, (uint64_t)PyDict_GET_SIZE(found));
    atoll_frame fr;
    atoll_push(enc, &fr, globals, AT_GLOBAL);
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    while (rc == 0 && PyDict_Next(found, &pos, &name, &value)) { /* nobody else has it */
        fr.key = name;
        atoll_note_reached(globals, name);
        bool fixed = atoll_is_fixed(value);
        uint64_t version;
        rc = atoll_version_to_send(enc, value, &version, fixed);
        rc = rc == 0 && !fixed ? atoll_reach_global(enc, globals, name, version) : rc;
        enc->exempt++; /* what may change is looked at by itself */
        rc = rc == 0 ? atoll_encode_named(enc, name, value, version, fixed) : rc;
        enc->exempt--;
    }
    atoll_pop(enc, &fr);
    return rc;
}

/* What code has to have, and the rest by ranks: name -> value in each; NULL where there is none.  0, or -1 with an exception. */
static int split(atoll_encoder *enc, PyObject *found, PyObject *parts[ATOLL_RANKS]) {
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(found, &pos, &name, &value)) { /* nobody else has it */
        atoll_rank rank;
        rc = atoll_rank_of(enc, value, &rank) < 0 ? -1 : atoll_ranks_put(parts, rank, name, value);
    }
    return rc;
}

int atoll_encode_split(atoll_encoder *enc, PyObject *globals, PyObject *found) {
    if (enc->later == NULL) {
        return atoll_encode_reached(enc, globals, found) < 0 ? -1 : atoll_write_tag(enc, 0);
    }
    PyObject *parts[ATOLL_RANKS] = {[RANK_CODE] = PyDict_New()};
    int rc = parts[RANK_CODE] != NULL ? split(enc, found, parts) : -1;
    rc = rc == 0 ? atoll_encode_reached(enc, globals, parts[RANK_CODE]) : -1;
    uint8_t ranks = 0;
    for (int i = RANK_CODE + 1; rc == 0 && i < ATOLL_RANKS; i++) {
        if (parts[i] != NULL) {
            ranks |= (uint8_t)(1 << i);
            rc = atoll_later_data(enc, (atoll_rank)i, globals, parts[i]);
        }
    }
    rc = rc == 0 ? atoll_write_tag(enc, ranks) : -1;
    rc = rc == 0 && parts[RANK_LATE] != NULL ? atoll_encode_names(enc, parts[RANK_LATE]) : rc;
    rc = rc == 0 && ranks != 0 ? atoll_encode_held(enc, globals, AT_GLOBAL, parts) : rc;
    atoll_ranks_drop(parts);
    return rc;
}

/* Annotations as text do not ask for `type` aliases: one may name itself, which does not cross. */
static bool is_annotated(PyObject *value) {
    return atoll_is_definition(value) ||
           (atoll_is_type_form(value) && strcmp(Py_TYPE(value)->tp_name, "typing.TypeAliasType") != 0);
}

/* The definitions, and what stands for types, that annotations of func name as text are found, too. */
static int find_annotated(atoll_encoder *enc, PyFunctionObject *func, PyObject *found) {
    PyObject *names = PySet_New(NULL);
    int rc = names != NULL ? atoll_add_annotated_names(enc->codec, func, names) : -1;
    PyObject *it = rc == 0 && PySet_GET_SIZE(names) != 0 ? PyObject_GetIter(names) : NULL;
    PyObject *name;
    while (rc == 0 && it != NULL && (name = PyIter_Next(it)) != NULL) {
        PyObject *value = PyDict_GetItemWithError(func->func_globals, name);
        if (value != NULL && !is_own_name(name) && is_annotated(value) &&
            !atoll_class_is_awaited(enc, value)) {
            rc = PyDict_SetItem(found, name, value);
        }
        Py_DECREF(name);
    }
    Py_XDECREF(it);
    Py_XDECREF(names);
    return PyErr_Occurred() ? -1 : rc;
}

int atoll_encode_globals(atoll_encoder *enc, PyFunctionObject *func, bool definitions) {
    PyObject *globals = func->func_globals;
    PyObject *found = PyDict_New();
    PyObject *absent = found != NULL ? PyList_New(0) : NULL;
    int rc = absent != NULL ? find_globals(enc, func, definitions, found, absent) : -1;
    rc = rc == 0 ? find_annotated(enc, func, found) : -1;
    if (rc == 0 && !enc->outline) {
        rc = atoll_same_names(enc->codec, PLACE_SPACE, atoll_space_of(enc->codec, globals), found);
    }
    if (rc == 0) {
        rc = atoll_encode_split(enc, globals, found);
    }
    if (rc == 0) {
        rc = atoll_write_count(enc, (uint64_t)PyList_GET_SIZE(absent));
    }
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(absent); i++) {
        rc = atoll_encode_shared(enc, PyList_GET_ITEM(absent, i));
    }
    Py_XDECREF(found);
    Py_XDECREF(absent);
    return rc;
}

int atoll_write_no_globals(atoll_encoder *enc) {
    return atoll_write_count(enc, 0) < 0 || atoll_write_tag(enc, 0) < 0 ? -1 : atoll_write_count(enc, 0);
}

/* ---- receiving ---- */

/* Whether it is a class that was received, and bound in __main__ for pickle. */
static int was_received(atoll_codec *codec, PyObject *value) {
    return PyType_Check(value) ? atoll_class_is_received(codec, value) : 0;
}

PyObject *atoll_main_dict(const atoll_codec *codec) {
    PyObject *main = codec->interp_id != 0 ? PyImport_AddModule("__main__") : NULL; /* borrowed */
    return main != NULL ? Py_NewRef(PyModule_GetDict(main)) : NULL;
}

/* What __main__ has under a name, when its own code has bound it: new reference, or NULL, maybe with an exception. */
static PyObject *find_in_main(atoll_codec *codec, PyObject *dict, PyObject *name) {
    PyObject *value = Py_XNewRef(PyDict_GetItemWithError(dict, name));
    if (value != NULL && (atoll_is_shown(codec, dict, name, value) || was_received(codec, value) != 0)) {
        Py_CLEAR(value);
    }
    return value;
}

/* Notes what __main__ has under a name: 1 when it is what was noted before, 0, or -1 with an exception. */
static int note_main(const atoll_globals *to, PyObject *name, PyObject *value) {
    PyObject *noted = PyDict_GetItemWithError(to->mains, name);
    bool same = noted != NULL && (PyTuple_GET_SIZE(noted) != 0 ? PyTuple_GET_ITEM(noted, 0) : NULL) == value;
    if (same || (noted == NULL && PyErr_Occurred())) {
        return same ? 1 : -1;
    }
    noted = value != NULL ? PyTuple_Pack(1, value) : PyTuple_New(0);
    int rc = noted != NULL ? PyDict_SetItem(to->mains, name, noted) : -1;
    Py_XDECREF(noted);
    return rc;
}

/* The same, and from now on that is followed. */
static PyObject *of_main(atoll_codec *codec, const atoll_globals *to, PyObject *name) {
    bool dunder = PyUnicode_GET_LENGTH(name) > 4 && PyUnicode_READ_CHAR(name, 0) == '_' &&
                  PyUnicode_READ_CHAR(name, 1) == '_' &&
                  PyUnicode_READ_CHAR(name, PyUnicode_GET_LENGTH(name) - 1) == '_';
    PyObject *dict = dunder ? NULL : atoll_main_dict(codec);
    if (dict == NULL || !atoll_watch_globals(codec, dict)) {
        Py_XDECREF(dict);
        return NULL;
    }
    atoll_note_reached(dict, name);
    PyObject *value = find_in_main(codec, dict, name);
    if (!PyErr_Occurred() && note_main(to, name, value) < 0) {
        Py_CLEAR(value);
    }
    Py_DECREF(dict);
    return value;
}

/* 0, or -1 with an exception. */
static int follow(atoll_codec *codec, const atoll_globals *to, PyObject *dict, PyObject *name) {
    PyObject *value = find_in_main(codec, dict, name);
    int rc = PyErr_Occurred() ? -1 : note_main(to, name, value);
    if (rc == 0 && value != NULL) {
        rc = PyDict_SetItem(to->dict, name, value);
    } else if (rc == 0 && PyDict_DelItem(to->dict, name) < 0) {
        rc = PyErr_ExceptionMatches(PyExc_KeyError) ? 0 : -1;
        if (rc == 0) {
            PyErr_Clear();
        }
    }
    Py_XDECREF(value);
    return rc < 0 ? -1 : 0;
}

int atoll_globals_follow(atoll_codec *codec, const atoll_globals *to) {
    PyObject *dict = atoll_main_dict(codec);
    PyObject *names = dict != NULL && PyDict_GET_SIZE(to->mains) != 0 ? PyDict_Keys(to->mains) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    for (Py_ssize_t i = 0; names != NULL && rc == 0 && i < PyList_GET_SIZE(names); i++) {
        rc = follow(codec, to, dict, PyList_GET_ITEM(names, i));
    }
    Py_XDECREF(dict);
    Py_XDECREF(names);
    return rc;
}

/* Binds what came for a name that was not heard of before. */
static int bind_first(atoll_codec *codec, const atoll_globals *to, PyObject *name, PyObject *value) {
    PyObject *mine = of_main(codec, to, name);
    int there = PyErr_Occurred() ? -1 : PyDict_Contains(to->dict, name);
    int rc = there != 0 ? (there < 0 ? -1 : 0) : PyDict_SetItem(to->dict, name, mine != NULL ? mine : value);
    Py_XDECREF(mine);
    return rc;
}

static int bind(atoll_decoder *dec, const atoll_globals *to, atoll_named *named) {
    atoll_codec *codec = dec->codec;
    PyUnicode_InternInPlace(&named->name);
    if (to->seen == NULL) { /* at home */
        return to->bare ? PyDict_SetDefault(to->dict, named->name, named->value) != NULL ? 0 : -1 : 0;
    }
    int taken = atoll_taken(to->seen, named->name, named->version);
    if (taken == ATOLL_OTHER && atoll_is_taking(dec, to->seen, named->name, named->version)) {
        taken = ATOLL_SAME;
    }
    switch (taken) {
    case ATOLL_SAME:
        return atoll_keep_bound(dec, to->dict, named);
    case ATOLL_NEVER:
        if (atoll_same_value(dec, named, to->space, false) < 0 ||
            bind_first(codec, to, named->name, named->value) < 0) {
            return -1;
        }
        break;
    case ATOLL_OTHER:
        atoll_note_bound(codec, 1);
        if (atoll_same_value(dec, named, to->space, false) < 0 ||
            PyDict_SetItem(to->dict, named->name, named->value) < 0) {
            return -1;
        }
        break;
    default:
        return -1;
    }
    return atoll_take_global(dec->pending != NULL ? &dec->pending->takings : NULL, to, named);
}

/* A name that is not bound at home: what was taken for it goes; else __main__ may have it. */
static int unbind(atoll_codec *codec, const atoll_globals *to, PyObject *name, PyObject *builtins) {
    if (to->seen == NULL) {
        return 0;
    }
    int had = PyDict_Contains(to->seen, name);
    if (had > 0) {
        atoll_note_bound(codec, 1);
        if (PyDict_DelItem(to->seen, name) < 0) {
            return -1;
        }
        if (PyDict_DelItem(to->dict, name) < 0) {
            if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
                return -1;
            }
            PyErr_Clear();
        }
        return 0;
    }
    if (had < 0 || PyDict_GetItemWithError(to->dict, name) != NULL || PyErr_Occurred()) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int builtin = PyDict_Check(builtins) ? PyDict_Contains(builtins, name) : 0;
    PyObject *mine = builtin == 0 ? of_main(codec, to, name) : NULL;
    int rc = mine != NULL ? PyDict_SetItem(to->dict, name, mine) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(mine);
    return rc;
}

int atoll_decode_reached(atoll_decoder *dec, const atoll_globals *to) {
    Py_ssize_t n = atoll_read_count(dec, 2);
    int rc = n < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        atoll_named named;
        rc = atoll_decode_named(dec, &named);
        if (rc == 0) {
            rc = bind(dec, to, &named);
            Py_DECREF(named.name);
            Py_DECREF(named.value);
        }
    }
    return rc;
}

PyObject *atoll_decode_names(atoll_decoder *dec) {
    PyObject *names = atoll_decode_value(dec);
    if (names != NULL && !PyTuple_CheckExact(names)) {
        Py_CLEAR(names);
        atoll_malformed("names that are not a tuple");
    }
    return names;
}

/* Names of what comes last, after code has run that may look for them: until then they are None, as the one instance mostly is
 * before there is one. */
static int await_names(atoll_decoder *dec, const atoll_globals *to) {
    PyObject *names = atoll_decode_names(dec);
    int rc = names != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && to->seen != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = Py_NewRef(PyTuple_GET_ITEM(names, i));
        if (PyUnicode_CheckExact(name)) {
            PyUnicode_InternInPlace(&name);
        }
        int had = PyDict_Contains(to->seen, name);
        rc = had == 0 ? PyDict_Contains(to->dict, name) : had;
        if (rc == 0) {
            rc = bind_first(dec->codec, to, name, Py_None);
            rc = rc == 0 && PyDict_GetItemWithError(to->dict, name) == Py_None
                     ? atoll_await_global(to->seen, name)
                     : rc;
        }
        rc = rc < 0 || PyErr_Occurred() ? -1 : 0;
        Py_DECREF(name);
    }
    Py_XDECREF(names);
    return rc;
}

static int expect_ranks(atoll_decoder *dec, const atoll_globals *to) {
    uint8_t ranks = atoll_get_u8(&dec->rd);
    int rc = 0;
    for (int i = 0; ranks != 0 && rc == 0 && i < ATOLL_RANKS; i++) {
        if (dec->pending == NULL) {
            atoll_malformed("globals that never come");
            return -1;
        }
        rc = (ranks >> i & 1) != 0 ? atoll_pending_globals(dec, (atoll_rank)i, to) : 0;
    }
    rc = rc == 0 && (ranks >> RANK_LATE & 1) != 0 ? await_names(dec, to) : rc;
    return rc == 0 && ranks != 0 ? atoll_decode_held(dec) : rc;
}

int atoll_decode_globals(atoll_decoder *dec, const atoll_globals *to, PyObject *builtins) {
    int rc = atoll_decode_reached(dec, to) < 0 ? -1 : expect_ranks(dec, to);
    Py_ssize_t n = rc == 0 ? atoll_read_count(dec, 1) : 0;
    rc = n < 0 ? -1 : rc;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        PyObject *name = atoll_decode_value(dec);
        if (name != NULL && !PyUnicode_CheckExact(name)) {
            Py_CLEAR(name);
            atoll_malformed("a global's name is not a str");
        }
        rc = name != NULL ? unbind(dec->codec, to, name, builtins) : -1;
        Py_XDECREF(name);
    }
    return rc;
}
