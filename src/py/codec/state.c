/* The codec's state, and the lookups that both directions share.
 *
 * Everything that costs an import is looked up when it is first needed.  Nothing
 * here is static: each interpreter has its own codec and its own objects.
 */
#include "py/codec/internal.h"

static const char *const name_texts[N_COUNT] = {
    [N_CLASS] = "__class__",
    [N_REDUCE_EX] = "__reduce_ex__",
    [N_REDUCE] = "__reduce__",
    [N_GETSTATE] = "__getstate__",
    [N_SETSTATE] = "__setstate__",
    [N_GETNEWARGS] = "__getnewargs__",
    [N_GETNEWARGS_EX] = "__getnewargs_ex__",
    [N_DICT] = "__dict__",
    [N_MODULE] = "__module__",
    [N_QUALNAME] = "__qualname__",
    [N_NAME] = "__name__",
    [N_FILE] = "__file__",
    [N_PACKAGE] = "__package__",
    [N_FIELDS] = "_fields",
    [N_MEMBER_MAP] = "_member_map_",
    [N_ENUM_NAME] = "_name_",
    [N_SLOTNAMES] = "_slotnames",
    [N_NEW] = "__new__",
    [N_MAIN] = "__main__",
    [N_FAKE_MAIN] = "<fake __main__>",
    [N_BUILTINS_MODULE] = "builtins",
    [N_BUILTINS] = "__builtins__",
    [N_EXTEND] = "extend",
    [N_APPEND] = "append",
    [N_ANNOTATE] = "__annotate__",
    [N_SPEC] = "__spec__",
    [N_ANNOTATIONS] = "__annotations__",
    [N_ANNOTATIONS_CACHE] = "__annotations_cache__",
    [N_DATACLASS_FIELDS] = "__dataclass_fields__",
    [N_DOC] = "__doc__",
    [N_KWDEFAULTS] = "__kwdefaults__",
    [N_INTERP_REDUCE] = "__interp_reduce__",
    [N_REGISTERED] = "__interp_registered__",
};

_Static_assert(N_COUNT <= sizeof(((atoll_codec *)0)->names) / sizeof(PyObject *), "room for every name");

atoll_codec *atoll_codec_new(int64_t interp_id, PyObject *not_shareable, atoll_codec_await await) {
    atoll_codec *codec = PyMem_Calloc(1, sizeof *codec);
    if (codec == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    codec->await = await;
    codec->forks = atomic_load(&atoll_forks);
    codec->interp_id = interp_id;
    codec->not_shareable = Py_NewRef(not_shareable);
    codec->code_extra = -1;
    codec->dict_watcher = -1;
    codec->type_watcher = -1;
    codec->table_watcher = -1;
    codec->function_watcher = -1;
    codec->part_watcher = -1;
    for (int i = 0; i < N_COUNT; i++) {
        codec->names[i] = PyUnicode_InternFromString(name_texts[i]);
        if (codec->names[i] == NULL) {
            goto failed;
        }
    }
    atoll_fresh_init(&codec->fresh);
    codec->registered = PyDict_New();
    codec->origins = PyDict_New();
    codec->modules = PyDict_New();
    codec->hidden = PyDict_New();
    codec->described = PyDict_New();
    codec->same = PyDict_New();
    codec->named = PyDict_New();
    codec->stand_ins = PyDict_New();
    codec->namespaces = PyDict_New();
    codec->class_refs = PyDict_New();
    codec->class_numbers = PyDict_New();
    codec->class_bytes = PyDict_New();
    codec->function_refs = PyDict_New();
    codec->function_ids = PyDict_New();
    if (codec->registered == NULL || codec->same == NULL || codec->named == NULL ||
        codec->described == NULL || codec->stand_ins == NULL || codec->namespaces == NULL ||
        codec->origins == NULL || codec->modules == NULL || codec->hidden == NULL ||
        codec->class_refs == NULL || codec->class_numbers == NULL || codec->class_bytes == NULL ||
        codec->function_refs == NULL || codec->function_ids == NULL || atoll_numbers_start(codec) < 0 ||
        atoll_shapes_prove() < 0) {
        goto failed;
    }
    return codec;
failed:
    atoll_codec_free(codec);
    return NULL;
}

int atoll_codec_add_hook(atoll_codec *codec, PyTypeObject *type, const atoll_codec_hook *hook) {
    for (int i = 0; i < ATOLL_HOOK_MAX; i++) {
        if (codec->hook_types[i] == NULL) {
            codec->hook_types[i] = (PyTypeObject *)Py_NewRef((PyObject *)type);
            codec->hooks[i] = *hook;
            return 0;
        }
    }
    PyErr_SetString(PyExc_SystemError, "too many hooked types");
    return -1;
}

/* Every Python reference the codec holds, but for names (interned strings). */
/* clang-format off */
#define EACH_REFERENCE(DO) \
    DO(not_shareable) DO(cache_token) DO(copyreg) DO(dispatch_table) DO(newobj) \
    DO(newobj_ex) DO(enum_type) DO(byvalue) DO(registered) DO(arrive) \
    DO(buffer_type) DO(places) DO(stand_ins) DO(described) DO(same) DO(named) DO(namespaces) DO(origins) DO(modules) DO(hidden) DO(class_refs) \
    DO(class_numbers) DO(class_bytes) DO(function_refs) DO(function_ids)
/* clang-format on */

int atoll_codec_traverse(atoll_codec *codec, visitproc visit, void *arg) {
    if (codec == NULL) {
        return 0;
    }
#define VISIT(field) Py_VISIT(codec->field);
    EACH_REFERENCE(VISIT)
#undef VISIT
    for (int i = 0; i < ATOLL_HOOK_MAX; i++) {
        Py_VISIT(codec->hook_types[i]);
    }
    for (size_t i = 0; codec->functions != NULL && i < ATOLL_FUNCTION_CACHE; i++) {
        Py_VISIT(codec->functions[i].func);
    }
    return atoll_builtins_traverse(codec, visit, arg);
}

void atoll_codec_clear(atoll_codec *codec) {
    if (codec == NULL) {
        return;
    }
    atoll_numbers_stop(codec);
    atoll_builtins_clear(codec);
    atoll_examined_forget(codec);
    PyObject *const weak[] = {codec->origins,       codec->modules,     codec->class_refs,
                              codec->class_numbers, codec->class_bytes, codec->function_refs,
                              codec->function_ids,  codec->namespaces};
    for (size_t i = 0; i < sizeof weak / sizeof weak[0]; i++) {
        atoll_weak_clear(weak[i]);
    }
#define CLEAR(field) Py_CLEAR(codec->field);
    EACH_REFERENCE(CLEAR)
#undef CLEAR
    for (int i = 0; i < ATOLL_HOOK_MAX; i++) {
        Py_CLEAR(codec->hook_types[i]);
    }
    for (size_t i = 0; codec->functions != NULL && i < ATOLL_FUNCTION_CACHE; i++) {
        codec->functions[i].number = 0;
        Py_CLEAR(codec->functions[i].func);
        Py_CLEAR(codec->functions[i].module);
        Py_CLEAR(codec->functions[i].qualname);
    }
}

void atoll_codec_free(atoll_codec *codec) {
    if (codec == NULL) {
        return;
    }
    atoll_codec_clear(codec);
    for (int i = 0; i < N_COUNT; i++) {
        Py_CLEAR(codec->names[i]);
    }
    atoll_memo_free(codec->memo);
    atoll_memo_free(codec->spare_memo);
    atoll_written_free(codec->written);
    PyMem_RawFree(codec->stack);
    PyMem_Free(codec->functions);
    PyMem_Free(codec);
}

/* ---- lookups ---- */

int atoll_codec_need_copyreg(atoll_codec *codec) {
    if (codec->newobj_ex != NULL) {
        return 0;
    }
    PyObject *copyreg = PyImport_ImportModule("copyreg");
    if (copyreg == NULL) {
        return -1;
    }
    Py_XSETREF(codec->copyreg, copyreg);
    Py_XSETREF(codec->dispatch_table, PyObject_GetAttrString(copyreg, "dispatch_table"));
    Py_XSETREF(codec->newobj, PyObject_GetAttrString(copyreg, "__newobj__"));
    PyObject *newobj_ex = PyObject_GetAttrString(copyreg, "__newobj_ex__");
    if (codec->dispatch_table == NULL || codec->newobj == NULL) {
        Py_XDECREF(newobj_ex);
        return -1;
    }
    atoll_watch_table(codec, codec->dispatch_table);
    codec->newobj_ex = newobj_ex;
    return newobj_ex != NULL ? 0 : -1;
}

PyObject *atoll_find_class(PyObject *table, PyObject *cls) {
    PyObject *found = PyObject_GetItem(table, cls);
    if (found == NULL &&
        (PyErr_ExceptionMatches(PyExc_KeyError) || PyErr_ExceptionMatches(PyExc_TypeError))) {
        PyErr_Clear();
    }
    return found;
}

PyObject *atoll_import_once(PyObject **slot, const char *name) {
    if (*slot == NULL) {
        PyObject *module = PyImport_ImportModule(name);
        if (module == NULL) {
            return NULL;
        }
        Py_XSETREF(*slot, module);
    }
    return *slot;
}

PyObject *atoll_codec_byvalue(atoll_codec *codec) {
    return atoll_import_once(&codec->byvalue, "atoll._crossing.byvalue");
}

PyObject *atoll_dotted_get(PyObject *obj, PyObject *qualname) {
    Py_ssize_t len = PyUnicode_GET_LENGTH(qualname);
    if (PyUnicode_FindChar(qualname, '.', 0, len, 1) < 0) {
        return PyObject_GetAttr(obj, qualname);
    }
    PyObject *dot = PyUnicode_FromString(".");
    PyObject *parts = dot != NULL ? PyUnicode_Split(qualname, dot, -1) : NULL;
    Py_XDECREF(dot);
    if (parts == NULL) {
        return NULL;
    }
    Py_INCREF(obj);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts) && obj != NULL; i++) {
        Py_SETREF(obj, PyObject_GetAttr(obj, PyList_GET_ITEM(parts, i)));
    }
    Py_DECREF(parts);
    return obj;
}

bool atoll_is_main_name(atoll_codec *codec, PyObject *name) {
    if (name == codec->names[N_MAIN] || name == codec->names[N_FAKE_MAIN]) {
        return true;
    }
    return PyUnicode_CheckExact(name) && (PyUnicode_CompareWithASCIIString(name, "__main__") == 0 ||
                                          PyUnicode_CompareWithASCIIString(name, "<fake __main__>") == 0);
}

/* ---- what an instance's class says ---- */

PyObject *atoll_find_in_type(PyTypeObject *type, PyObject *name) {
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *dict = PyType_GetDict((PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        PyObject *found = dict != NULL ? PyDict_GetItemWithError(dict, name) : NULL;
        Py_XDECREF(dict);
        if (found != NULL) {
            return found;
        }
        PyErr_Clear();
    }
    return NULL;
}

static bool same_as_object(atoll_codec *codec, PyTypeObject *type, int name) {
    return atoll_find_in_type(type, codec->names[name]) ==
           atoll_find_in_type(&PyBaseObject_Type, codec->names[name]);
}

bool atoll_type_has_own_class(atoll_codec *codec, PyTypeObject *type) {
    return !same_as_object(codec, type, N_CLASS);
}

static bool is_of_c(PyTypeObject *type, PyObject *name) {
    PyObject *found = atoll_find_in_type(type, name);
    return found == NULL || Py_IS_TYPE(found, &PyMethodDescr_Type);
}

bool atoll_is_plain_exception(atoll_codec *codec, PyTypeObject *type) {
    return PyExceptionClass_Check((PyObject *)type) && atoll_is_made_by_code(codec, type) &&
           is_of_c(type, codec->names[N_REDUCE_EX]) && is_of_c(type, codec->names[N_REDUCE]) &&
           is_of_c(type, codec->names[N_GETSTATE]) && is_of_c(type, codec->names[N_SETSTATE]);
}

bool atoll_type_has_dict(const PyTypeObject *type) {
    return type->tp_dictoffset != 0 || (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) != 0;
}

bool atoll_type_has_only(const PyTypeObject *type, Py_ssize_t nslots) {
    Py_ssize_t size = PyBaseObject_Type.tp_basicsize + nslots * (Py_ssize_t)sizeof(PyObject *);
    size += type->tp_dictoffset > 0 ? (Py_ssize_t)sizeof(PyObject *) : 0;
    size += type->tp_weaklistoffset > 0 ? (Py_ssize_t)sizeof(PyObject *) : 0;
    return type->tp_basicsize <= size && type->tp_itemsize == 0;
}

/* 1: instances have no state but their dict and their slots (object.__getstate__'s own test). */
static int is_plain(atoll_codec *codec, PyTypeObject *type, bool *slots) {
    if (!same_as_object(codec, type, N_REDUCE_EX) || !same_as_object(codec, type, N_REDUCE) ||
        !same_as_object(codec, type, N_GETSTATE) || atoll_type_has_own_class(codec, type) ||
        atoll_find_in_type(type, codec->names[N_SETSTATE]) != NULL ||
        atoll_find_in_type(type, codec->names[N_GETNEWARGS]) != NULL ||
        atoll_find_in_type(type, codec->names[N_GETNEWARGS_EX]) != NULL || type->tp_itemsize != 0 ||
        (type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0 || type->tp_new == NULL) {
        return 0;
    }
    PyObject *names = PyObject_CallMethodOneArg(codec->copyreg, codec->names[N_SLOTNAMES], (PyObject *)type);
    if (names == NULL) {
        return -1;
    }
    Py_ssize_t nslots = PyList_Check(names) ? PyList_GET_SIZE(names) : 0;
    Py_DECREF(names);
    *slots = nslots != 0 || !atoll_type_has_dict(type);
    return atoll_type_has_only(type, nslots);
}

static int is_enum(atoll_codec *codec, PyTypeObject *type) {
    PyTypeObject *meta = Py_TYPE(type);
    if (meta == &PyType_Type) {
        return 0;
    }
    if (codec->enum_type == NULL) {
        PyObject *name = PyUnicode_FromString("enum");
        PyObject *module = name != NULL ? atoll_origin_module(name) : NULL;
        Py_XDECREF(name);
        if (module == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        codec->enum_type = PyObject_GetAttrString(module, "EnumType");
        Py_DECREF(module);
        if (codec->enum_type == NULL) {
            PyErr_Clear();
            return 0;
        }
    }
    return PyType_Check(codec->enum_type) && PyType_IsSubtype(meta, (PyTypeObject *)codec->enum_type);
}

bool atoll_is_plain_tuple_class(const atoll_codec *codec, const PyTypeObject *type) {
    while (type != &PyTuple_Type && type != NULL && atoll_is_made_by_code(codec, type)) {
        type = type->tp_base;
    }
    return type == &PyTuple_Type;
}

/* Whether copyreg has something to say of the class: 1, 0, or -1 with an exception. */
static int has_reducer(atoll_codec *codec, PyTypeObject *type) {
    if (!PyDict_Check(codec->dispatch_table)) {
        return 1;
    }
    PyObject *reducer = atoll_find_class(codec->dispatch_table, (PyObject *)type);
    Py_XDECREF(reducer);
    return reducer != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* A library that ctypes has opened. */
static bool is_library(const PyTypeObject *type, PyObject *module) {
    return (strcmp(type->tp_name, "CDLL") == 0 || strcmp(type->tp_name, "PyDLL") == 0) &&
           PyUnicode_CompareWithASCIIString(module, "ctypes") == 0;
}

static int classify(atoll_codec *codec, PyTypeObject *type, atoll_kind *kind) {
    int registered = atoll_is_registered(codec, type);
    if (registered != 0) {
        *kind = KIND_REGISTERED;
        return registered < 0 ? -1 : 0;
    }
    if (atoll_find_in_type(type, codec->names[N_INTERP_REDUCE]) != NULL) {
        *kind = KIND_OWN;
        return 0;
    }
    *kind = KIND_REDUCE;
    /* As in pickle, what is registered with copyreg comes before whatever else the class is. */
    int rc = has_reducer(codec, type);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    if (PyType_IsSubtype(type, &PyType_Type)) {
        *kind = KIND_CLASS;
        return 0;
    }
    if (type == &PyContext_Type || type == &PyContextVar_Type) {
        *kind = KIND_SPECIAL;
        return 0;
    }
    PyObject *module =
        (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 ? atoll_find_in_type(type, codec->names[N_MODULE]) : NULL;
    if (module != NULL && PyUnicode_CheckExact(module) &&
        (PyUnicode_CompareWithASCIIString(module, "dataclasses") == 0 ||
         PyUnicode_CompareWithASCIIString(module, "weakref") == 0 ||
         PyUnicode_CompareWithASCIIString(module, "_weakrefset") == 0 ||
         PyUnicode_CompareWithASCIIString(module, "itertools") == 0 ||
         PyUnicode_CompareWithASCIIString(module, "_pydatetime") == 0 || is_library(type, module))) {
        *kind = KIND_SPECIAL;
        return 0;
    }
    rc = is_enum(codec, type);
    if (rc != 0) {
        *kind = KIND_ENUM;
        return rc < 0 ? -1 : 0;
    }
    if (PyType_IsSubtype(type, &PyTuple_Type)) {
        if (atoll_find_in_type(type, codec->names[N_FIELDS]) != NULL && !atoll_type_has_dict(type) &&
            atoll_is_plain_tuple_class(codec, type) &&
            atoll_find_in_type(type, codec->names[N_GETNEWARGS]) != NULL &&
            same_as_object(codec, type, N_REDUCE_EX) && same_as_object(codec, type, N_REDUCE) &&
            same_as_object(codec, type, N_GETSTATE)) {
            *kind = KIND_NAMEDTUPLE;
        }
        return 0;
    }
    bool slots = false;
    rc = is_plain(codec, type, &slots);
    if (rc > 0) {
        *kind = slots ? KIND_PLAIN_SLOTS : KIND_PLAIN;
    }
    return rc < 0 ? -1 : 0;
}

atoll_type_info *atoll_type_info_get(atoll_encoder *enc, PyTypeObject *type) {
    atoll_codec *codec = enc->codec;
    atoll_type_info *info = atoll_type_info_known(codec, type);
    if (info != NULL) {
        return info;
    }
    if (atoll_codec_need_copyreg(codec) < 0) { /* its table is watched from then on */
        return NULL;
    }
    /* Classifying may run code that changes the class: what is kept is of before. */
    uint64_t epoch = atoll_tables_epoch();
    unsigned int version = PyUnstable_Type_AssignVersionTag(type) ? type->tp_version_tag : 0;
    atoll_kind kind;
    if (classify(codec, type, &kind) < 0) {
        return NULL;
    }
    info = &codec->types[atoll_memo_hash(type) % ATOLL_TYPE_CACHE];
    info->type = type;
    info->version = version;
    info->kind = kind;
    info->epoch = epoch;
    return info;
}
