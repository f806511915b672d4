/* What waits until the code of classes is there.
 *
 * Making an object may run code of its class over there: __init__ that __reduce__ names, __setstate__, __hash__ of what is in a
 * set.  A class, and what its functions use, may lead to such objects of itself: a registry in a class attribute, a
 * global with the one instance.  So a class is written, and read, in stages, the code first, then the data:
 *
 *   made      the class exists
 *   code      its functions, and what else can change nothing, are its attributes, and those that its data has in it are there
 *             (codec/held.c); of functions only that they exist
 *   bodies    the names of those functions, their closures, the definitions among their globals: functions that these lead to have
 *             their turn in this stage, too
 *   early     globals, variables of closures, and attributes, that are made without running code (EARLY); lists, dicts and sets, still
 *             empty, that are not (FILLED)
 *   states    the functions' defaults, attributes and annotations, which may be made by code, and what belongs to the class's definition
 *   data      the other attributes, one by one; after them the other globals and variables (LATE), and what was empty is filled: before
 *             that where it is given to code
 *
 * A class whose making runs code that needs the class itself is LATE: that is whole then.
 *
 * Classes that are met in the first three are at the same stage as the class itself: they are made at once, and each of the next
 * stages is done for all of them together before the one after that (codec/arrival.c).  From `early` on all code is there, and what
 * is met then comes as a whole.
 *
 * What waits is in lists, of the part of a message that is one class: the writer's and the reader's have the same order, so that nothing
 * need say what comes next.  Under the GIL; the lists are of one thread.
 *
 * With what waits, the writer keeps the way to it, for errors: only the steps from what was being written when it was met, as that is in a list of the
 * same part, and all of them are kept until the part's end.  So a chain of n functions, each in the closure of the next, costs n steps.
 *
 * A function that has a number is found by it from the moment it exists, by whatever else is received; another thread waits as it
 * does for a class that is being made.
 */
#include "py/codec/internal.h"

/* ---- which kind a value is ---- */

enum { NODES = 1 << 16, FEW = 64, LEVELS = 16 };

typedef struct {
    atoll_encoder *enc;
    int left; /* how many values are still looked at */
} look;

static bool is_harmless(look *at, PyObject *value, int levels);

/* What cannot be told is not harmless; Ctrl-C and the like stay, for who asks for the rank. */
static void pass_over_error(void) {
    if (!atoll_error_is_urgent()) {
        PyErr_Clear();
    }
}

static bool are_items_harmless(look *at, PyObject *items, int levels) {
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items); i++) { /* a list may be changed meanwhile */
        PyObject *item = PySequence_Fast_GET_ITEM(items, i);
        if (PyLong_CheckExact(item) || PyUnicode_CheckExact(item) || PyFloat_CheckExact(item)) {
            continue; /* most are: this is for speed only */
        }
        Py_INCREF(item);
        bool harmless = is_harmless(at, item, levels);
        Py_DECREF(item);
        if (!harmless) {
            return false;
        }
    }
    return true;
}

/* What is hashed over there. */
static bool is_plain_key(PyObject *key) { return atoll_is_plain_value(key) || atoll_is_plain_tuple(key); }

static bool is_dict_harmless(look *at, PyObject *dict, int levels) {
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *value;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (!is_plain_key(key)) {
            return false;
        }
        Py_INCREF(value);
        bool harmless = is_harmless(at, value, levels);
        Py_DECREF(value);
        if (!harmless) {
            return false;
        }
    }
    return true;
}

static bool is_set_harmless(PyObject *set) {
    PyObject *members = PySequence_List(set);
    bool harmless = members != NULL;
    for (Py_ssize_t i = 0; harmless && i < PyList_GET_SIZE(members); i++) {
        harmless = is_plain_key(PyList_GET_ITEM(members, i));
    }
    pass_over_error();
    Py_XDECREF(members);
    return harmless;
}

static bool are_attributes_harmless(look *at, PyObject *obj, int levels) {
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    bool harmless = dict != NULL && PyDict_CheckExact(dict) && is_dict_harmless(at, dict, levels);
    pass_over_error();
    Py_XDECREF(dict);
    return harmless;
}

/* An instance of a Python class: whether it is made by giving it its attributes, and these are harmless. */
static bool is_instance_harmless(look *at, PyObject *value, int levels) {
    if (!atoll_is_made_by_code(at->enc->codec, Py_TYPE(value))) {
        return false; /* there are ways to write it that go before what is known of its type */
    }
    const atoll_type_info *info = atoll_type_info_get(at->enc, Py_TYPE(value));
    if (info == NULL || (info->kind != KIND_PLAIN && info->kind != KIND_ENUM)) {
        pass_over_error();
        return false;
    }
    return info->kind == KIND_ENUM || are_attributes_harmless(at, value, levels);
}

/* What binds as an attribute: those of C are definitions, but for what they hold. */
static bool is_descriptor_harmless(look *at, PyObject *value, int levels) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyMethod_Type) {
        return atoll_is_definition(PyMethod_GET_FUNCTION(value)) &&
               is_harmless(at, PyMethod_GET_SELF(value), levels);
    }
    if (PyObject_TypeCheck(value, &PyProperty_Type) || PyObject_TypeCheck(value, &PyStaticMethod_Type) ||
        PyObject_TypeCheck(value, &PyClassMethod_Type)) {
        return false; /* one of functions is fixed, or code */
    }
    return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0;
}

static int add_part(PyObject *part, void *parts) { return PyList_Append(parts, part); }

/* What an instance refers to.  Code may run that changes it meanwhile. */
static bool are_parts_harmless(look *at, PyObject *value, int levels) {
    traverseproc traverse = Py_TYPE(value)->tp_traverse;
    PyObject *parts = PyList_New(0);
    bool harmless = parts != NULL && (traverse == NULL || traverse(value, add_part, parts) == 0) &&
                    are_items_harmless(at, parts, levels);
    pass_over_error();
    Py_XDECREF(parts);
    return harmless;
}

/* Whether it is a class of the standard library, but not one that CPython is built on: of those some are written in ways of their own. */
static bool is_standard_class(atoll_codec *codec, PyTypeObject *type, bool *of_logging) {
    PyObject *module = atoll_text_attr(codec, (PyObject *)type, N_MODULE);
    bool standard = module != NULL && type != &PyPickleBuffer_Type &&
                    PyUnicode_CompareWithASCIIString(module, "builtins") != 0 &&
                    atoll_is_standard(codec, module) > 0;
    *of_logging = standard && PyUnicode_CompareWithASCIIString(module, "logging") == 0;
    Py_XDECREF(module);
    return standard;
}

/* An instance of a class of the standard library, exactly: that library's code makes it, of what it refers to.  A logger is found by its
 * name. */
static bool is_standard_harmless(look *at, PyObject *value, int levels) {
    PyTypeObject *type = Py_TYPE(value);
    atoll_codec *codec = at->enc->codec;
    bool of_logging;
    bool container = PyDict_Check(value) || PyAnySet_Check(value) ||
                     (type->tp_flags & (Py_TPFLAGS_SEQUENCE | Py_TPFLAGS_MAPPING)) != 0;
    const atoll_type_info *info =
        !container && is_standard_class(codec, type, &of_logging) ? atoll_type_info_get(at->enc, type) : NULL;
    bool reduced = info != NULL && info->kind == KIND_REDUCE;
    PyObject *reducer = reduced ? atoll_find_class(codec->dispatch_table, (PyObject *)type) : NULL;
    reduced = reduced && reducer == NULL && !PyErr_Occurred();
    Py_XDECREF(reducer);
    pass_over_error();
    if (reduced && of_logging &&
        (strcmp(type->tp_name, "Logger") == 0 || strcmp(type->tp_name, "RootLogger") == 0)) {
        return true;
    }
    return reduced && are_parts_harmless(at, value, levels);
}

/* Whether no code of a class runs when it is made again. */
static bool is_harmless(look *at, PyObject *value, int levels) {
    if (atoll_is_plain_value(value) || atoll_is_definition(value)) {
        return true;
    }
    if (levels == 0 || --at->left < 0) {
        return false;
    }
    if (PyList_CheckExact(value) || PyTuple_CheckExact(value)) {
        return are_items_harmless(at, value, levels - 1);
    }
    if (PyDict_CheckExact(value)) {
        return is_dict_harmless(at, value, levels - 1);
    }
    if (PyAnySet_CheckExact(value)) {
        return is_set_harmless(value);
    }
    if (PyByteArray_CheckExact(value) || atoll_is_fixed(value) || atoll_is_type_form(value) ||
        atoll_hook_of(at->enc->codec, Py_TYPE(value)) != NULL) {
        return true;
    }
    return (Py_TYPE(value)->tp_descr_get != NULL && is_descriptor_harmless(at, value, levels - 1)) ||
           is_instance_harmless(at, value, levels - 1) || is_standard_harmless(at, value, levels - 1);
}

/* 1, 0, or -1 with an exception. */
static int is_code(atoll_encoder *enc, PyObject *value) {
    if (atoll_is_plain_value(value) || atoll_is_definition(value) || atoll_is_code_wrapper(value) ||
        (PyCFunction_Check(value) && atoll_is_fixed(value))) {
        return 1;
    }
    return atoll_is_own(enc->codec, value);
}

int atoll_waits_for_class(atoll_encoder *enc, PyObject *value) {
    if (enc->classes == NULL || enc->classes->awaited || !PyType_Check(value) ||
        !atoll_is_made_by_code(enc->codec, (PyTypeObject *)value)) {
        return 0;
    }
    PyObject *byvalue = atoll_codec_byvalue(enc->codec);
    PyObject *classes = byvalue != NULL ? PyList_New(0) : NULL;
    int rc = classes != NULL ? 0 : -1;
    for (const atoll_class_frame *fr = enc->classes; rc == 0 && fr != NULL && !fr->awaited; fr = fr->up) {
        rc = PyList_Append(classes, fr->cls);
    }
    PyObject *waits = rc == 0 ? PyObject_CallMethod(byvalue, "waits_for", "OO", value, classes) : NULL;
    Py_XDECREF(classes);
    rc = waits != NULL ? waits == Py_True : -1;
    Py_XDECREF(waits);
    return rc;
}

int atoll_rank_of(atoll_encoder *enc, PyObject *value, atoll_rank *rank) {
    look at = {enc, NODES};
    int code = is_code(enc, value);
    *rank = code > 0 ? RANK_CODE : RANK_EARLY;
    if (code > 0) {
        int waits = atoll_waits_for_class(enc, value);
        *rank = waits > 0 ? RANK_LATE : RANK_CODE;
        return waits < 0 ? -1 : 0;
    }
    if (code != 0 || is_harmless(&at, value, LEVELS)) {
        return code < 0 ? -1 : 0;
    }
    *rank = RANK_FILLED;
    if (PyErr_Occurred() || PyList_CheckExact(value) || PyDict_CheckExact(value) || PySet_CheckExact(value)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *shell = atoll_filled_shell(enc->codec, value);
    if (shell == NULL || shell == Py_None) {
        *rank = RANK_LATE;
        pass_over_error();
    }
    Py_XDECREF(shell);
    return PyErr_Occurred() ? -1 : 0;
}

int atoll_rank_is_simple(atoll_encoder *enc, PyObject *obj) {
    look at = {enc, FEW};
    bool simple = atoll_is_made_by_code(enc->codec, Py_TYPE(obj)) && atoll_type_has_only(Py_TYPE(obj), 0) &&
                  are_attributes_harmless(&at, obj, LEVELS);
    return PyErr_Occurred() ? -1 : simple;
}

int atoll_ranks_put(PyObject *parts[ATOLL_RANKS], atoll_rank rank, PyObject *name, PyObject *value) {
    if (parts[rank] == NULL) {
        parts[rank] = PyDict_New();
    }
    return parts[rank] != NULL ? PyDict_SetItem(parts[rank], name, value) : -1;
}

void atoll_ranks_drop(PyObject *parts[ATOLL_RANKS]) {
    for (int i = 0; i < ATOLL_RANKS; i++) {
        Py_XDECREF(parts[i]);
    }
}

typedef struct waiting {
    struct waiting *next;
    PyObject *obj; /* owned: a function, a cell, a dict of globals; a list, dict or set */
    PyObject *
        found; /* owned: what is in it: for globals, name -> value; NULL for a function, obj itself for what is filled */
    PyObject *code;   /* owned: of the function that is being written, or NULL */
    atoll_frame *top; /* where it was met, for errors */
    atoll_frame *
        frames; /* the steps to there from what was being written, innermost first; each owns its obj and key */
    size_t nframes;
    bool begun; /* it is in the message, or being written */
} waiting;

void atoll_later_begin(atoll_later *later, atoll_encoder *enc) {
    *later = (atoll_later){.base = enc->top};
    later->functions_end = &later->functions;
    for (int i = 0; i < ATOLL_RANKS; i++) {
        later->data_end[i] = &later->data[i];
    }
}

static void free_list(waiting *list) {
    while (list != NULL) {
        waiting *next = list->next;
        for (size_t i = 0; i < list->nframes; i++) {
            Py_XDECREF(list->frames[i].obj);
            Py_XDECREF(list->frames[i].key);
        }
        PyMem_RawFree(list->frames);
        Py_XDECREF(list->obj);
        Py_XDECREF(list->found);
        Py_XDECREF(list->code);
        PyMem_RawFree(list);
        list = next;
    }
}

void atoll_later_end(atoll_later *later) {
    PyObject *exc = PyErr_GetRaisedException();
    free_list(later->functions);
    for (int i = 0; i < ATOLL_RANKS; i++) {
        free_list(later->data[i]);
    }
    PyErr_SetRaisedException(exc);
}

/* The frames between here and what is being written of the same lists, or the class. */
static int copy_frames(waiting *item, const atoll_encoder *enc) {
    size_t n = 0;
    const atoll_later *later = enc->later != NULL ? enc->later : enc->empty; /* never both */
    atoll_frame *base = later->writing != NULL ? later->writing->top : later->base;
    for (const atoll_frame *fr = enc->top; fr != base; fr = fr->up) {
        n++;
    }
    item->frames = n != 0 ? PyMem_RawCalloc(n, sizeof *item->frames) : NULL;
    if (n != 0 && item->frames == NULL) {
        return -1;
    }
    item->nframes = n;
    item->top = n != 0 ? item->frames : base;
    size_t i = 0;
    for (const atoll_frame *fr = enc->top; i < n; fr = fr->up, i++) {
        item->frames[i] = *fr;
        Py_XINCREF(fr->obj);
        Py_XINCREF(fr->key);
        item->frames[i].up = i + 1 < n ? &item->frames[i + 1] : base;
    }
    return 0;
}

static int enqueue(const atoll_encoder *enc, struct waiting ***end, PyObject *obj, PyObject *found) {
    waiting *item = PyMem_RawCalloc(1, sizeof *item);
    if (item == NULL || copy_frames(item, enc) < 0) {
        PyMem_RawFree(item);
        PyErr_NoMemory();
        return -1;
    }
    item->obj = Py_NewRef(obj);
    item->found = Py_XNewRef(found);
    item->code = Py_XNewRef(enc->code);
    **end = item;
    *end = &item->next;
    return 0;
}

int atoll_later_function(atoll_encoder *enc, PyFunctionObject *func) {
    return enqueue(enc, &enc->later->functions_end, (PyObject *)func, NULL);
}

int atoll_later_data(atoll_encoder *enc, atoll_rank rank, PyObject *obj, PyObject *found) {
    return enqueue(enc, &enc->later->data_end[rank], obj, found);
}

/* As where it was met. */
static int write_item(atoll_encoder *enc, atoll_later *later, const waiting *item,
                      int (*write)(atoll_encoder *enc, PyObject *obj, PyObject *found)) {
    PyObject *outer = enc->code;
    atoll_frame *top = enc->top;
    const waiting *around = later->writing;
    enc->code = item->code;
    enc->top = item->top;
    later->writing = item;
    enc->exempt++; /* what may change is looked at by itself */
    enc->defining++;
    int rc = write(enc, item->obj, item->found);
    enc->defining--;
    enc->exempt--;
    later->writing = around;
    enc->top = top;
    enc->code = outer;
    return rc;
}

static int write_list(atoll_encoder *enc, atoll_later *later, const waiting *item,
                      int (*write)(atoll_encoder *enc, PyObject *obj, PyObject *found)) {
    int rc = 0;
    for (; rc == 0 && item != NULL; item = item->next) { /* it may grow meanwhile */
        rc = write_item(enc, later, item, write);
    }
    return rc;
}

int atoll_write_empty(atoll_encoder *enc, PyObject *value) {
    int rc = atoll_try_ref(enc, value);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    uint8_t tag = PyList_CheckExact(value)   ? T_LIST
                  : PyDict_CheckExact(value) ? T_DICT
                  : PySet_CheckExact(value)  ? T_SET
                                             : T_OBJECT;
    if (atoll_write_tag(enc, T_FILLED_LATER | ATOLL_MEMO) < 0 || atoll_write_tag(enc, tag) < 0 ||
        (tag == T_OBJECT && atoll_filled_write_shell(enc, value) < 0)) {
        return -1;
    }
    return atoll_memo_add(enc, value) < 0 ? -1 : enqueue(enc, &enc->empty->data_end[RANK_LATE], value, value);
}

int atoll_later_dict(atoll_encoder *enc, PyObject *dict) {
    int rc = atoll_try_ref(enc, dict);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    return atoll_write_tag(enc, T_FILLED_LATER | ATOLL_MEMO) < 0 || atoll_write_tag(enc, T_DICT) < 0 ||
                   atoll_memo_add(enc, dict) < 0
               ? -1
               : atoll_later_data(enc, RANK_LATE, dict, dict);
}

static int write_data(atoll_encoder *enc, PyObject *obj, PyObject *found) {
    if (obj == found) {
        return atoll_filled_write(enc, obj);
    }
    if (!PyCell_Check(obj)) {
        return atoll_encode_reached(enc, obj, found);
    }
    return enc->empty != NULL ? atoll_write_empty(enc, found)
                              : atoll_encode_part(enc, obj, "cell_contents", found);
}

/* Data is written once. */
static int write_data_of(atoll_encoder *enc, atoll_later *later, waiting *item) {
    int rc = 0;
    for (; rc == 0 && item != NULL; item = item->next) { /* it may grow meanwhile */
        if (!item->begun) {
            item->begun = true;
            rc = write_item(enc, later, item, write_data);
        }
    }
    return rc;
}

int atoll_write_bodies(atoll_encoder *enc, atoll_later *later) {
    return write_list(enc, later, later->functions, atoll_encode_body);
}

int atoll_write_early(atoll_encoder *enc, atoll_later *later) {
    if (write_data_of(enc, later, later->data[RANK_EARLY]) < 0) {
        return -1;
    }
    enc->empty = later;
    int rc = write_data_of(enc, later, later->data[RANK_FILLED]);
    enc->empty = NULL;
    return rc;
}

int atoll_write_states(atoll_encoder *enc, atoll_later *later) {
    return write_list(enc, later, later->functions, atoll_encode_function_state);
}

int atoll_write_late(atoll_encoder *enc, atoll_later *later) {
    struct atoll_later *outer = enc->unfilled;
    enc->unfilled = later;
    int rc = write_data_of(enc, later, later->data[RANK_LATE]);
    enc->unfilled = outer;
    return rc;
}

/* Code that is given it finds in it what it has at home. */
int atoll_fill_now(atoll_encoder *enc, uint32_t index) {
    atoll_later *later = enc->unfilled;
    waiting *item = later->data[RANK_LATE];
    uint64_t n = 0;
    for (; item != NULL && (item->begun || item->obj != item->found || item->obj != enc->memo->keys[index]);
         n++) {
        item = item->next;
    }
    if (item == NULL) {
        return 0;
    }
    item->begun = true;
    if (atoll_write_tag_count(enc, T_FILLED_NOW, n) < 0 || write_item(enc, later, item, write_data) < 0) {
        return -1;
    }
    return atoll_write_ref(enc, index); /* it has begun */
}
