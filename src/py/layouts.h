/* How CPython's immutable objects lie in memory: what py/frozen needs to make them where no interpreter has allocated.
 *
 * A part of compat.h, which includes it.  What CPython's headers declare is taken from there; what only its internal ones do is
 * declared here, as it is in 3.12 to 3.15.  py/frozen/proof.c looks whether it is so before the first object is made.
 */
#ifndef ATOLL_PY_LAYOUTS_H
#define ATOLL_PY_LAYOUTS_H

#ifndef ATOLL_PY_COMPAT_H
#error "include py/compat.h"
#endif

/* What a frozen dict is: since 3.15 there is a type for it. */
#define ATOLL_HAS_FROZENDICT (PY_VERSION_HEX >= 0x030F0000)

/* Since 3.14 a tuple keeps its hash. */
#define ATOLL_TUPLES_KEEP_HASHES (PY_VERSION_HEX >= 0x030E0000)

/* The count of references of an object that is not counted (PEP 683): the value that the version itself gives to its own.  Since 3.14 a flag
 * says so as well, and the evaluation loop looks at that alone. */
static inline void atoll_immortal_init(PyObject *op) {
#if PY_VERSION_HEX >= 0x030E0000
    op->ob_refcnt = (uint32_t)_Py_IMMORTAL_INITIAL_REFCNT;
    op->ob_flags = _Py_IMMORTAL_FLAGS;
#else
    op->ob_refcnt = _Py_IMMORTAL_REFCNT;
#endif
}

/* What lies before an object whose type takes part in garbage collection.  All zeros: not tracked. */
#define ATOLL_GC_HEAD (2 * sizeof(uintptr_t))

/* How many digits an int has; the bits below say its sign and, since 3.14, that it is one of the small ones, which are static. */
static inline size_t atoll_int_digits(const PyObject *op) {
    return ((const PyLongObject *)op)->long_value.lv_tag >> 3;
}
#define ATOLL_INT_SMALL ((uintptr_t)4)
#define atoll_int_tag(op) (((PyLongObject *)(op))->long_value.lv_tag)
#define ATOLL_INT_SIZE(digits)                                                                               \
    (offsetof(PyLongObject, long_value.ob_digit) + ((digits) != 0 ? (digits) : 1) * sizeof(digit))

/* The table of a dict: this, the indices, the entries.  Without a key that is no str the entries have no hash. */
typedef struct {
    Py_ssize_t dk_refcnt;
    uint8_t dk_log2_size;
    uint8_t dk_log2_index_bytes;
    uint8_t dk_kind;
    uint32_t dk_version;
    Py_ssize_t dk_usable;
    Py_ssize_t dk_nentries;
    char dk_indices[];
} atoll_dict_keys;
enum { ATOLL_KEYS_GENERAL = 0, ATOLL_KEYS_UNICODE = 1 };
typedef struct {
    Py_hash_t hash;
    PyObject *key;
    PyObject *value;
} atoll_dict_entry;
typedef struct {
    PyObject *key;
    PyObject *value;
} atoll_dict_unicode_entry;
/* A table of 2 to the power of log2 has room for so many, and this is how a key that was not found at one place is looked for at the next. */
#define ATOLL_DICT_USABLE(log2) ((((size_t)1 << (log2)) << 1) / 3)
#define ATOLL_DICT_LEAST_LOG2 3
#define ATOLL_PERTURB_SHIFT 5
/* In sets so many neighbours are looked at first. */
#define ATOLL_SET_PROBES 9

#if ATOLL_HAS_FROZENDICT
#define atoll_frozen_dict_type (&PyFrozenDict_Type)
typedef struct {
    PyDictObject dict;
    Py_hash_t hash;
} atoll_frozen_dict;
#else
#define atoll_frozen_dict_type (&PyDictProxy_Type)
#endif

/* types.MappingProxyType; and a range. */
typedef struct {
    PyObject_HEAD
    PyObject *mapping;
} atoll_mapping_proxy;
typedef struct {
    PyObject_HEAD
    PyObject *parts[4]; /* start, stop, step, length */
} atoll_range;

/* The type of weak references, whose tp_new is exchanged: frozen/guard.c. */
#define atoll_weakref_type (&_PyWeakref_RefType)

/* That a str is interned, for good. */
#define ATOLL_INTERNED_FOR_GOOD SSTATE_INTERNED_IMMORTAL

#endif
