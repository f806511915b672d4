/* One object under several names: globals and attributes of classes that are the same list, dict or instance at home are the same over
 * there, whichever of them come first, and in however many messages.
 *
 * A named value that may change has an identity, made of its address and its interpreter.  It says only which values of
 * one moment are one object: an address may come to be another's.  So the version of the value has to be the same, too.  The receiver
 * notes under which name it has bound what (codec->same: identity -> list of version, namespace or class, name, address), and gives what comes under
 * another name the object that is bound there, if it still is that one.  What has come in the message that is being read, and may not be
 * bound yet, it holds as well (codec/reading.c).
 *
 * Such an object may occur inside of others, too, or be sent by itself (codec/nested.c).  So the sender notes likewise which of its names have which
 * instances (codec->named: address -> identity).  What came inside of something that has a name is noted by a weak
 * reference: it may come to have a name.  A place is never trusted: the object that has the address has to be found there.  An object that was received
 * keeps its identity when it is sent on.
 *
 * What came for a name and gives way to what is bound does so in definitions only.  Data that refers to it, an argument that is behind the
 * function, gets what was sent: what is bound has the receiver's own state.  Of instances it gets that one if the state is the very same
 * (codec/nested.c).
 *
 * Under the GIL.  The tables can be emptied at any time: then what is one object comes as two, as what has no name does.
 */
#include "py/codec/internal.h"

enum { SAME_KEPT = 4096, PLACES_KEPT = 16 };
/* S_VERSION: that was taken, 0 of what was bound here; S_KIND: an atoll_place; S_NAME: of PLACE_HELD a weak reference, or the object. */
enum { S_VERSION, S_KIND, S_OWNER, S_NAME, S_ADDRESS };

/* What atoll._crossing.classes puts in the place of others is made anew each time. */
static bool is_made_for_this(PyObject *value) {
    if (strcmp(Py_TYPE(value)->tp_name, "_Made") != 0) {
        return false;
    }
    PyObject *dict = PyType_GetDict(Py_TYPE(value));
    PyObject *module = dict != NULL ? PyDict_GetItemString(dict, "__module__") : NULL;
    bool ours = module != NULL && PyUnicode_Check(module) &&
                PyUnicode_CompareWithASCIIString(module, "atoll._crossing.classes") == 0;
    Py_XDECREF(dict);
    return ours;
}

/* Of an object that was made here. */
static uint64_t own_identity(const atoll_codec *codec, PyObject *value) {
    return (uint64_t)(uintptr_t)value ^ ((uint64_t)codec->interp_id * UINT64_C(0x9E3779B97F4A7C15));
}

/* The identity that something at this address has, or had: new reference, or NULL, maybe with an exception. */
static PyObject *key_of(const atoll_codec *codec, PyObject *obj) {
    PyObject *address = PyLong_FromVoidPtr(obj);
    PyObject *key = address != NULL ? Py_XNewRef(PyDict_GetItemWithError(codec->named, address)) : NULL;
    Py_XDECREF(address);
    return key;
}

uint64_t atoll_named_identity(const atoll_codec *codec, PyObject *value) {
    PyObject *key = atoll_may_have_name(codec, value) ? key_of(codec, value) : NULL;
    uint64_t identity = key != NULL ? PyLong_AsUnsignedLongLong(key) : 0;
    PyErr_Clear();
    Py_XDECREF(key);
    return identity;
}

uint64_t atoll_identity_of(const atoll_codec *codec, PyObject *value) {
    uint64_t named = codec->has_received ? atoll_named_identity(codec, value) : 0;
    return named != 0 ? named : is_made_for_this(value) ? 0 : own_identity(codec, value);
}

static bool is_number(PyObject *obj, uint64_t number) {
    bool same = PyLong_AsUnsignedLongLong(obj) == number;
    if (!same) {
        PyErr_Clear();
    }
    return same;
}

static atoll_place kind_of(PyObject *entry) {
    return (atoll_place)PyLong_AsLong(PyTuple_GET_ITEM(entry, S_KIND));
}

/* The dict that the entry's name is in, and what was taken into it (NULL, or None, where that is at home): new references.  0, or -1 with
 * an exception. */
static int look_into(atoll_codec *codec, PyObject *entry, PyObject **dict, PyObject **seen) {
    PyObject *owner = PyTuple_GET_ITEM(entry, S_OWNER);
    *dict = *seen = NULL;
    if (kind_of(entry) == PLACE_MODULE) {
        PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
        PyObject *module = PyDict_CheckExact(modules) ? PyDict_GetItemWithError(modules, owner) : NULL;
        *dict = module != NULL && PyModule_Check(module) ? Py_NewRef(PyModule_GetDict(module)) : NULL;
        return PyErr_Occurred() ? -1 : 0;
    }
    uint64_t number = PyLong_AsUnsignedLongLong(owner);
    if (kind_of(entry) == PLACE_SPACE) {
        return atoll_space_look(codec, number, dict, seen);
    }
    PyObject *cls = atoll_weak_get(codec->class_refs, number);
    if (cls != NULL && PyType_Check(cls)) {
        *dict = PyType_GetDict((PyTypeObject *)cls);
        *seen = Py_XNewRef(atoll_class_seen(codec, cls));
    }
    Py_XDECREF(cls);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *look_up_held(PyObject *entry) {
    PyObject *held = PyTuple_GET_ITEM(entry, S_NAME);
    PyObject *value = NULL;
    if (!PyWeakref_Check(held)) {
        return Py_NewRef(held);
    }
    return atoll_weakref_target(held, &value) > 0 ? value : NULL;
}

/* What is bound where the entry says, if it is still that object, and, unless version is 0, was taken there in this version: new
 * reference, or NULL, maybe with an exception. */
static PyObject *look_up(atoll_codec *codec, PyObject *entry, uint64_t version) {
    PyObject *value = NULL;
    if (kind_of(entry) == PLACE_HELD) {
        value = look_up_held(entry);
    } else {
        PyObject *name = PyTuple_GET_ITEM(entry, S_NAME);
        PyObject *dict;
        PyObject *seen;
        if (look_into(codec, entry, &dict, &seen) < 0) {
            return NULL;
        }
        bool taken = version == 0 ||
                     (seen != NULL && PyDict_Check(seen) && atoll_taken(seen, name, version) == ATOLL_SAME);
        if (dict != NULL && taken) {
            value = Py_XNewRef(PyDict_GetItemWithError(dict, name));
        }
        Py_XDECREF(dict);
        Py_XDECREF(seen);
    }
    if (value != NULL && !is_number(PyTuple_GET_ITEM(entry, S_ADDRESS), (uintptr_t)value)) {
        Py_CLEAR(value);
    }
    return value;
}

/* The places of an identity: borrowed, or NULL, maybe with an exception. */
static PyObject *places_of(atoll_codec *codec, PyObject *key) {
    PyObject *places = PyDict_GetItemWithError(codec->same, key);
    if (places != NULL || PyErr_Occurred()) {
        return places;
    }
    if (PyDict_GET_SIZE(codec->same) >= SAME_KEPT) {
        PyDict_Clear(codec->same);
        PyDict_Clear(codec->named);
        memset(codec->named_bits, 0, sizeof codec->named_bits);
    }
    places = PyList_New(0);
    int rc = places != NULL ? PyDict_SetItem(codec->same, key, places) : -1;
    Py_XDECREF(places);
    return rc == 0 ? places : NULL;
}

/* The place with this index: new reference, or NULL; code that ran when another was looked at may have taken some away. */
static PyObject *place_at(PyObject *places, Py_ssize_t i) {
    return i < PyList_GET_SIZE(places) ? Py_NewRef(PyList_GET_ITEM(places, i)) : NULL;
}

/* The object of this identity in this version: new reference, or NULL, maybe with an exception.  Places where it is no more are
 * forgotten. */
static PyObject *find(const atoll_decoder *dec, PyObject *key, PyObject *places, uint64_t version) {
    PyObject *value = atoll_recent_find(dec, key, version);
    for (Py_ssize_t i = PyList_GET_SIZE(places); value == NULL && !PyErr_Occurred() && i-- > 0;) {
        PyObject *entry = place_at(places, i);
        if (entry != NULL && is_number(PyTuple_GET_ITEM(entry, S_VERSION), version)) {
            value = look_up(dec->codec, entry, version);
            if (value == NULL && !PyErr_Occurred() && PyList_SetSlice(places, i, i + 1, NULL) < 0) {
                PyErr_Clear();
            }
        }
        Py_XDECREF(entry);
    }
    return value;
}

/* Something with this identity is here, at its address. */
static int note_named(atoll_codec *codec, PyObject *key, PyObject *obj) {
    if (!atoll_is_nameable(codec, obj)) {
        return 0;
    }
    PyObject *address = PyLong_FromVoidPtr(obj);
    int rc = address != NULL ? PyDict_SetItem(codec->named, address, key) : -1;
    Py_XDECREF(address);
    if (rc < 0) {
        return -1;
    }
    codec->has_received |= !is_number(key, own_identity(codec, obj));
    uint32_t bit = atoll_memo_hash(obj) % ATOLL_NAMED_BITS;
    codec->named_bits[bit / 64] |= UINT64_C(1) << (bit % 64);
    return 0;
}

static PyObject *new_entry(uint64_t version, atoll_place kind, PyObject *owner, PyObject *name,
                           PyObject *obj) {
    PyObject *part[] = {PyLong_FromUnsignedLongLong(version), PyLong_FromLong(kind), PyLong_FromVoidPtr(obj)};
    PyObject *entry = part[0] != NULL && part[1] != NULL && part[2] != NULL
                          ? PyTuple_Pack(5, part[0], part[1], owner, name, part[2])
                          : NULL;
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(part[i]);
    }
    return entry;
}

/* Whether there is nothing any more where the entry says: a class or a namespace is gone, or what had no name. */
static bool is_gone(atoll_codec *codec, PyObject *entry) {
    PyObject *there = kind_of(entry) == PLACE_HELD ? look_up_held(entry) : NULL;
    PyObject *seen = NULL;
    if (kind_of(entry) != PLACE_HELD) {
        (void)look_into(codec, entry, &there, &seen);
    }
    bool gone = there == NULL && kind_of(entry) != PLACE_MODULE && !PyErr_Occurred();
    PyErr_Clear();
    Py_XDECREF(there);
    Py_XDECREF(seen);
    return gone;
}

/* Which place is given up for another: one that is gone; when there are many, a copy that was held, as a name is not lost for it; or -1. */
static Py_ssize_t least_wanted(atoll_codec *codec, PyObject *places) {
    Py_ssize_t held = 0;
    for (Py_ssize_t i = PyList_GET_SIZE(places); i-- > 0;) {
        PyObject *entry = place_at(places, i);
        bool gone = entry != NULL && is_gone(codec, entry);
        held = entry != NULL && kind_of(entry) == PLACE_HELD ? i : held;
        Py_XDECREF(entry);
        if (gone) {
            return i;
        }
    }
    return PyList_GET_SIZE(places) >= PLACES_KEPT ? held : -1;
}

/* Adds a place, or what is known of it now: 0, or -1 with an exception. */
static int add_place(atoll_codec *codec, PyObject *places, PyObject *entry) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(places); i++) {
        PyObject *old = PyList_GET_ITEM(places, i);
        int same = kind_of(entry) != PLACE_HELD && kind_of(old) == kind_of(entry);
        for (int part = S_OWNER; same > 0 && part <= S_NAME; part++) {
            same =
                PyObject_RichCompareBool(PyTuple_GET_ITEM(old, part), PyTuple_GET_ITEM(entry, part), Py_EQ);
        }
        if (same < 0) {
            return -1;
        }
        if (same != 0) {
            bool newer = !is_number(PyTuple_GET_ITEM(entry, S_VERSION), 0) ||
                         PyObject_RichCompareBool(PyTuple_GET_ITEM(old, S_ADDRESS),
                                                  PyTuple_GET_ITEM(entry, S_ADDRESS), Py_EQ) == 0;
            return newer ? PyList_SetItem(places, i, Py_NewRef(entry))
                         : 0; /* else which version was taken is known */
        }
    }
    Py_ssize_t i = least_wanted(codec, places);
    return i >= 0 && PyList_SetSlice(places, i, i + 1, NULL) < 0 ? -1 : PyList_Append(places, entry);
}

/* The value is bound under this name from now on. */
static int note(const atoll_decoder *dec, PyObject *key, PyObject *places, const atoll_named *named,
                uint64_t owner, bool is_class) {
    atoll_codec *codec = dec->codec;
    PyObject *number = PyLong_FromUnsignedLongLong(owner);
    PyObject *entry = number != NULL ? new_entry(named->version, is_class ? PLACE_CLASS : PLACE_SPACE, number,
                                                 named->name, named->value)
                                     : NULL;
    int rc = entry == NULL || atoll_recent_note(dec, key, named->version, named->value) < 0 ||
                     add_place(codec, places, entry) < 0
                 ? -1
                 : note_named(codec, key, named->value);
    Py_XDECREF(entry);
    Py_XDECREF(number);
    return rc;
}

/* What was at an index of the memo. */
typedef struct atoll_yielded {
    struct atoll_yielded *next;
    size_t index;
    PyObject *obj; /* owned */
} atoll_yielded;

void atoll_yielded_free(atoll_decoder *dec) {
    PyObject *exc = PyErr_GetRaisedException();
    while (dec->yielded != NULL) {
        atoll_yielded *item = dec->yielded;
        dec->yielded = item->next;
        Py_DECREF(item->obj);
        PyMem_RawFree(item);
    }
    PyErr_SetRaisedException(exc);
}

/* Among definitions: for data that comes later.  Without memory that has what is bound. */
static void note_yielded(atoll_decoder *dec, size_t index, PyObject *obj) {
    atoll_yielded *item = PyMem_RawMalloc(sizeof *item);
    if (item != NULL) {
        *item = (atoll_yielded){dec->yielded, index, Py_NewRef(obj)};
        dec->yielded = item;
        dec->yielded_end = index >= dec->yielded_end ? index + 1 : dec->yielded_end;
    }
}

void atoll_replace_in_memo(atoll_decoder *dec, size_t from, PyObject *old, PyObject *with) {
    for (size_t i = dec->nmemo; dec->pinned && old != with && i-- > from;) {
        if (dec->memo[i] == old) {
            if (dec->defined != SIZE_MAX) {
                note_yielded(dec, i, old);
            }
            Py_SETREF(dec->memo[i], Py_NewRef(with));
            return;
        }
    }
}

static int has_state(atoll_codec *codec, PyObject *here, uint64_t state);

/* Whether data that refers to what has given way gets what is bound: 1, 0, or -1 with an exception. */
static int gets_bound(atoll_codec *codec, PyObject *old, PyObject *bound) {
    uint64_t state;
    if (!atoll_is_nameable(codec, old)) {
        return 0;
    }
    if (atoll_version_of_state(codec, old, &state) < 0) {
        if (atoll_error_is_urgent()) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    return has_state(codec, bound, state);
}

/* What was at the index first, taken out: new reference, or NULL. */
static PyObject *take_yielded(atoll_decoder *dec, size_t index) {
    PyObject *first = NULL;
    for (atoll_yielded **link = &dec->yielded; *link != NULL;) {
        atoll_yielded *item = *link;
        if (item->index != index) {
            link = &item->next;
            continue;
        }
        *link = item->next; /* newest first */
        Py_XSETREF(first, item->obj);
        PyMem_RawFree(item);
    }
    return first;
}

int atoll_yielded_settle(atoll_decoder *dec, size_t index) {
    PyObject *first = take_yielded(dec, index); /* it is asked once */
    if (first == NULL) {
        return 0;
    }
    PyObject *bound = Py_NewRef(dec->memo[index]);
    int rc = gets_bound(dec->codec, first, bound);
    if (rc == 0) {
        Py_SETREF(dec->memo[index], Py_NewRef(first));
    }
    Py_DECREF(bound);
    Py_DECREF(first);
    return rc < 0 ? -1 : 0;
}

int atoll_same_value(atoll_decoder *dec, atoll_named *named, uint64_t owner, bool is_class) {
    if (named->identity == 0) {
        return 0;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(named->identity);
    PyObject *places = key != NULL ? Py_XNewRef(places_of(dec->codec, key)) : NULL;
    PyObject *found = places != NULL ? find(dec, key, places, named->version) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (found != NULL && Py_TYPE(found) == Py_TYPE(named->value)) {
        atoll_replace_in_memo(dec, dec->defined, named->value, found);
        Py_SETREF(named->value, Py_NewRef(found));
    }
    rc = rc == 0 ? note(dec, key, places, named, owner, is_class) : -1;
    Py_XDECREF(found);
    Py_XDECREF(places);
    Py_XDECREF(key);
    return rc;
}

int atoll_keep_bound(atoll_decoder *dec, PyObject *dict, const atoll_named *named) {
    PyObject *bound =
        named->identity != 0 && dict != NULL ? PyDict_GetItemWithError(dict, named->name) : NULL;
    if (bound != NULL && Py_TYPE(bound) == Py_TYPE(named->value)) {
        atoll_replace_in_memo(dec, dec->defined, named->value, bound);
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- objects that have a name here, and elsewhere ---- */

bool atoll_is_nameable(const atoll_codec *codec, PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    return type == &PyBaseObject_Type ||
           (!PyType_Check(obj) && !PyFunction_Check(obj) && atoll_is_made_by_code(codec, type));
}

int atoll_same_name(atoll_codec *codec, atoll_place kind, PyObject *owner, PyObject *name, PyObject *obj) {
    PyObject *key = NULL;
    PyObject *known = key_of(codec, obj);
    PyObject *places = known != NULL ? Py_XNewRef(PyDict_GetItemWithError(codec->same, known)) : NULL;
    for (Py_ssize_t i = places != NULL ? PyList_GET_SIZE(places) : 0;
         i-- > 0 && key == NULL && !PyErr_Occurred();) {
        PyObject *entry = place_at(places, i);
        PyObject *there = entry != NULL ? look_up(codec, entry, 0) : NULL;
        key = there != NULL && there == obj ? Py_NewRef(known) : NULL;
        Py_XDECREF(there);
        Py_XDECREF(entry);
    }
    Py_XDECREF(known);
    Py_XDECREF(places);
    if (key == NULL && !PyErr_Occurred()) {
        key = PyLong_FromUnsignedLongLong(own_identity(codec, obj));
    }
    places = key != NULL ? Py_XNewRef(places_of(codec, key)) : NULL;
    PyObject *entry = places != NULL ? new_entry(0, kind, owner, name, obj) : NULL;
    int rc = entry == NULL || add_place(codec, places, entry) < 0 ? -1 : note_named(codec, key, obj);
    Py_XDECREF(entry);
    Py_XDECREF(places);
    Py_XDECREF(key);
    return rc;
}

int atoll_same_names(atoll_codec *codec, atoll_place kind, uint64_t owner, PyObject *values) {
    PyObject *number = NULL;
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    int rc = PyErr_Occurred() ? -1 : 0;
    while (rc == 0 && PyDict_Next(values, &pos, &name, &value)) { /* nobody else has it */
        if (PyUnicode_CheckExact(name) && atoll_is_nameable(codec, value)) {
            number = number != NULL ? number : PyLong_FromUnsignedLongLong(owner);
            rc = number != NULL ? atoll_same_name(codec, kind, number, name, value) : -1;
        }
    }
    Py_XDECREF(number);
    return rc;
}

int atoll_same_lookup(atoll_codec *codec, PyObject *obj, uint64_t *identity, PyObject **module,
                      PyObject **name) {
    *module = *name = NULL;
    PyObject *key = key_of(codec, obj);
    PyObject *places = key != NULL ? Py_XNewRef(PyDict_GetItemWithError(codec->same, key)) : NULL;
    bool found = false;
    for (Py_ssize_t i = places != NULL ? PyList_GET_SIZE(places) : 0; i-- > 0 && !PyErr_Occurred();) {
        PyObject *entry = place_at(places, i);
        PyObject *there = entry != NULL ? look_up(codec, entry, 0) : NULL;
        if (there != NULL && there == obj) {
            found = true;
            *identity = PyLong_AsUnsignedLongLong(key);
            if (kind_of(entry) == PLACE_MODULE) {
                Py_XSETREF(*module, Py_NewRef(PyTuple_GET_ITEM(entry, S_OWNER)));
                Py_XSETREF(*name, Py_NewRef(PyTuple_GET_ITEM(entry, S_NAME)));
            }
        }
        Py_XDECREF(there);
        Py_XDECREF(entry);
    }
    Py_XDECREF(places);
    Py_XDECREF(key);
    if (PyErr_Occurred()) {
        Py_CLEAR(*module);
        Py_CLEAR(*name);
        return -1;
    }
    return found;
}

/* Whether one that is here has this state: 1, 0, or -1 with an exception. */
static int has_state(atoll_codec *codec, PyObject *here, uint64_t state) {
    uint64_t now;
    int rc = atoll_version_of_state(codec, here, &now);
    if (rc < 0 && !atoll_error_is_urgent()) {
        PyErr_Clear();
        return 0;
    }
    return rc < 0 ? -1 : now == state;
}

/* What is at one of the places that have a name, or that have none, with this state: new reference, or NULL, maybe with an exception. */
static PyObject *find_among(atoll_codec *codec, PyObject *entries, bool held, uint64_t state,
                            PyObject *like) {
    PyObject *found = NULL;
    for (Py_ssize_t i = PyList_GET_SIZE(entries); i-- > 0 && found == NULL && !PyErr_Occurred();) {
        if ((kind_of(PyList_GET_ITEM(entries, i)) == PLACE_HELD) != held) {
            continue;
        }
        found = look_up(codec, PyList_GET_ITEM(entries, i), 0);
        if (found != NULL && (Py_TYPE(found) != Py_TYPE(like) || has_state(codec, found, state) <= 0)) {
            Py_CLEAR(found);
        }
    }
    return found;
}

/* What is at one of the places, with this state; the one that has the name, if it has it: new reference, or NULL, maybe with an
 * exception. */
static PyObject *find_with_state(atoll_codec *codec, PyObject *places, uint64_t state, PyObject *like) {
    PyObject *entries = PyList_GetSlice(places, 0, PY_SSIZE_T_MAX); /* telling a state may run code */
    PyObject *found = entries != NULL ? find_among(codec, entries, false, state, like) : NULL;
    if (found == NULL && entries != NULL && !PyErr_Occurred()) {
        found = find_among(codec, entries, true, state, like);
    }
    Py_XDECREF(entries);
    return found;
}

/* As long as it lives; an instance of object for as long as others are remembered: it is nothing but itself. */
int atoll_same_hold(atoll_codec *codec, uint64_t identity, uint64_t version, PyObject *obj) {
    bool bare = Py_IS_TYPE(obj, &PyBaseObject_Type);
    if (!bare && !PyType_SUPPORTS_WEAKREFS(Py_TYPE(obj))) {
        return 0;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(identity);
    PyObject *places = key != NULL ? Py_XNewRef(places_of(codec, key)) : NULL;
    PyObject *held = places == NULL ? NULL : bare ? Py_NewRef(obj) : PyWeakref_NewRef(obj, NULL);
    PyObject *entry = held != NULL ? new_entry(version, PLACE_HELD, Py_None, held, obj) : NULL;
    int rc = entry == NULL || add_place(codec, places, entry) < 0 ? -1 : note_named(codec, key, obj);
    Py_XDECREF(entry);
    Py_XDECREF(held);
    Py_XDECREF(places);
    Py_XDECREF(key);
    return rc;
}

PyObject *atoll_same_nested(const atoll_decoder *dec, uint64_t identity, uint64_t state, bool defining,
                            PyObject *obj) {
    atoll_codec *codec = dec->codec;
    uint64_t version = atoll_version_of_identity(state, identity);
    PyObject *key = PyLong_FromUnsignedLongLong(identity);
    PyObject *places = key == NULL ? NULL
                       : defining  ? Py_XNewRef(places_of(codec, key))
                                   : Py_XNewRef(PyDict_GetItemWithError(codec->same, key));
    PyObject *found = places != NULL && defining ? find(dec, key, places, version) : NULL;
    if (found != NULL && Py_TYPE(found) != Py_TYPE(obj)) {
        Py_CLEAR(found);
    }
    if (found == NULL && !defining && !PyErr_Occurred() && places != NULL) {
        found = find_with_state(codec, places, state, obj);
    }
    int rc = PyErr_Occurred() ? -1 : 0;
    if (rc == 0 && found == NULL) {
        found = Py_NewRef(obj);
        /* An argument may be sent back; no name is bound to it because of it. */
        bool lasting = defining || Py_IS_TYPE(obj, &PyBaseObject_Type);
        rc = atoll_same_hold(codec, identity, lasting ? version : 0, obj);
        rc = rc == 0 && defining ? atoll_recent_note(dec, key, version, obj) : rc;
    }
    if (rc < 0) {
        Py_CLEAR(found);
    }
    Py_XDECREF(places);
    Py_XDECREF(key);
    return found;
}

/* What the module has under the name: new reference, or NULL, maybe with an exception that must reach the user. */
static PyObject *of_module(atoll_codec *codec, PyObject *module, PyObject *name) {
    PyObject *imported = atoll_import_module(codec, module, Py_None);
    if (imported == NULL && !atoll_error_is_urgent()) {
        PyErr_Clear(); /* there is no such module here: it is a copy */
    }
    PyObject *found = imported != NULL && PyModule_Check(imported)
                          ? Py_XNewRef(PyDict_GetItemWithError(PyModule_GetDict(imported), name))
                          : NULL;
    Py_XDECREF(imported);
    return found;
}

PyObject *atoll_same_by_path(atoll_codec *codec, PyObject *module, PyObject *name, uint64_t state,
                             PyObject *obj) {
    PyObject *found = of_module(codec, module, name);
    int same = found != NULL && Py_TYPE(found) == Py_TYPE(obj) ? has_state(codec, found, state) : 0;
    if (same < 0 || PyErr_Occurred()) {
        Py_CLEAR(found);
    } else if (same == 0) {
        Py_XSETREF(found, Py_NewRef(obj));
    }
    return found;
}
