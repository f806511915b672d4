/* Frozen objects: what never changes, once for all interpreters of the process.
 *
 *   region  address space of the process that frozen objects lie in, in blocks; nothing else lies there
 *   area    memory from it that is filled and given back as one, and who has seen it
 *   shared  objects that CPython itself has once for the process
 *   table   which objects have been made so far, so that equal ones are made once
 *   text    str objects
 *   build   tuples, sets, dicts and the other objects, field by field
 *   proof   whether CPython finds in such objects what is in them
 *   guard   weak references to frozen objects, which there are none of
 *   own     what belongs to an interpreter after all: arrays and what leads to them
 *   freeze  the walk through what is frozen, and what it refuses
 *   intern  sys.intern() of a frozen str
 *   constants  docstrings and the like of imported modules, once for all interpreters
 *
 * A frozen object looks to every interpreter like an immortal one of CPython's own (PEP 683): its references are not counted, it is not tracked
 * by the garbage collector, its type is a static one that all interpreters share, and all that it refers to is frozen or static too.  What CPython
 * would note in it later is there from the beginning: hashes, the UTF-8 form of a str, that a str is interned.  So it is only read, by
 * any number of interpreters at once.  With ATOLL_DEBUG_FROZEN=1 in the environment its pages are read-only, and who writes crashes.
 *
 *   who would write                         why nobody does
 *   counting, PEP 683                       the count is that of immortal objects
 *   the garbage collector                   it writes to what it tracks; it looks at flags in the head that are 0
 *   hash()                                  str, bytes, frozenset, frozendict, tuple (3.14 on) have theirs, or none
 *   PyUnicode_AsUTF8()                      there already; text with surrogates has none, and fails before it writes
 *   interning (names of attributes, keywords, code)   a str that says it is interned is taken as it is, and never comes into
 *                                           an interpreter's table.  That there are then two interned strings of equal text matters to those
 *                                           who compare names by identity alone, as CPython does with names that it knows itself: such a
 *                                           name is not copied, but is CPython's static string (shared.c); and to users of sys.intern() (intern.c)
 *   watchers and versions of dicts          the dict behind a mapping proxy is not reachable where these are set: a namespace, globals, builtins
 *   specialised code                        it keeps versions of types and of namespaces' keys, neither of which is frozen
 *   weak references                         of the types there are frozenset has them: guard.c refuses them
 *   freeing                                 immortal objects are never freed
 *
 * Ownership.  An area belongs to those who have seen it: each interpreter that has made or received something of it, each message
 * that carries something of it, and the block (`with freezing()`) that still fills it.  When the last of them is gone its memory is given back.
 * What the main interpreter has seen stays for good, and so does what was seen by an interpreter whose end Atoll does not see, that was
 * left behind, or whose libraries may have kept something.
 * Locks: one, a leaf, for who has seen what and which blocks are free, and before it one of the constants; held in a fork.  Whether an object is frozen is asked without it: the
 * region is made once and never moves.
 * Thread states: freezing needs one.  It keeps the GIL but for copies of large arrays; handlers of signals run meanwhile.  Messages are released without any.
 * Failure: what could not be frozen leaves nothing behind; an area without memory raises MemoryError.
 * Fork: a child has all areas, and those that gone interpreters have seen stay.  The end of an interpreter: atoll_areas_ended(), last of all.  Another
 * Python in the process (restart): all areas stay, as static data of libraries may lead into them.
 */
#ifndef ATOLL_PY_FROZEN_H
#define ATOLL_PY_FROZEN_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "core/base/base.h"
#include "port/port.h"
#include "py/state.h"

#include <stdatomic.h>

/* Where frozen objects lie; both 0 as long as there are none. */
typedef struct {
    _Atomic(uintptr_t) base;
    _Atomic(size_t) size;
} atoll_frozen_region;
extern atoll_frozen_region atoll_frozen;

/* Each of the two may be seen without the other: then the answer is no, and right, as whoever has a frozen object sees both. */
static inline bool atoll_frozen_has(const void *obj) {
    uintptr_t base = atomic_load_explicit(&atoll_frozen.base, memory_order_relaxed);
    return base != 0 &&
           (uintptr_t)obj - base < atomic_load_explicit(&atoll_frozen.size, memory_order_relaxed);
}

/* Whether who writes to what is frozen ends the process: ATOLL_DEBUG_FROZEN is in the environment. */
bool atoll_frozen_is_guarded(void);
/* The attached interpreter is to have frozen objects, for the first time.  0, or -1 with an exception. */
int atoll_frozen_expect(void);
/* Frozen, or as good: None, small ints and the like, which all interpreters have in common. */
bool atoll_frozen_is(PyObject *obj);
/* Likewise, or an array, or tuples and mappings that hold nothing else (own.c); -1 with MemoryError. */
int atoll_frozen_is_all(PyObject *obj);

/* ---- areas ---- */

typedef struct atoll_area atoll_area;

/* Empty, one reference: whoever fills it.  NULL when out of memory. */
atoll_area *atoll_area_new(void);
/* The references of those who fill it, and of messages.  Any thread, no thread state needed. */
void atoll_area_retain(atoll_area *area);
void atoll_area_release(atoll_area *area);
extern const atoll_handle_class atoll_area_class;
/* Makes it stay for good; whether it does. */
void atoll_area_keep(atoll_area *area);
bool atoll_area_stays(const atoll_area *area);
/* Never given to another area. */
uint64_t atoll_area_serial(const atoll_area *area);
size_t atoll_area_bytes(const atoll_area *area);
/* Whether any mapping proxy was made in it, or what is in it may lead to one. */
bool atoll_area_has_proxies(const atoll_area *area);
/* Of all areas but the constants'. */
size_t atoll_areas_bytes(void);
/* Whether the area with this serial has its memory still. */
bool atoll_area_is_there(uint64_t serial);
/* The area that an address in the region belongs to, or NULL: borrowed from who has the object. */
atoll_area *atoll_area_of(const void *obj);
/* How far into the region an object lies, and the other way round: NULL where no area is. */
size_t atoll_area_place(const void *obj);
PyObject *atoll_area_at(size_t place);

/* The attached interpreter has something of the area from now on.  0, or -1 with MemoryError. */
int atoll_area_seen(atoll_area *area, int64_t interp_id);
/* The interpreter has ended.  clean: nothing of it is left that could lead to what it has seen. */
void atoll_areas_ended(int64_t interp_id, bool clean);
/* The process is forked; Python has ended. */
void atoll_areas_fork(atoll_fork_moment when);
void atoll_areas_forget(void);

/* sys.intern() is right for frozen text in the attached interpreter from now on (intern.c).  0, or -1 with an exception. */
int atoll_frozen_intern(void);

/* ---- constants of modules (constants.c) ---- */

/* What is imported in the attached interpreter from now on has its constants in common with others.  0, or -1 with an exception. */
int atoll_frozen_constants(void);
/* How much memory they take; it is no part of atoll_areas_bytes(). */
size_t atoll_frozen_constants_bytes(void);
void atoll_frozen_constants_fork(atoll_fork_moment when);

/* ---- freezing ---- */

/* What has been made in an area, for those that make more in it. */
typedef struct atoll_frozen_table atoll_frozen_table;
atoll_frozen_table *atoll_frozen_table_new(void); /* NULL when out of memory */
void atoll_frozen_table_free(atoll_frozen_table *table);

/* How it is to be done.  area: not filled by anybody else meanwhile; table: what has been made in it, or NULL for this once. */
typedef struct {
    atoll_area *area;
    atoll_frozen_table *table;
    PyObject *refuse;   /* the exception for what cannot be frozen, with the path and the reason */
    int (*check)(void); /* asked now and then: -1 with an exception ends it.  May run anything. */
} atoll_frozen_way;
/* obj's frozen copy: a new reference, or NULL with an exception. */
PyObject *atoll_frozen_make(const atoll_frozen_way *way, PyObject *obj);

/* ---- what belongs to an interpreter (own.c) ---- */

/* What the types of arrays do. */
typedef struct {
    int (*freeze)(PyObject *obj, PyObject **frozen);
    bool (*is)(PyObject *obj); /* a frozen one */
} atoll_frozen_arrays;
void atoll_frozen_init_arrays(const atoll_frozen_arrays *functions);
/* What an interpreter needs for it.  0, or -1 with an exception. */
int atoll_frozen_add_own(atoll_state *state);
/* A dict to be filled by PyDict_SetItem(), and the frozen mapping of it, which nobody else has.  NULL with an exception. */
PyObject *atoll_frozen_own_dict(void);
PyObject *atoll_frozen_own_mapping(PyObject *dict);
/* The str that is equal to this one and that CPython has once for the process, or NULL. */
PyObject *atoll_frozen_shared_str(PyObject *obj);

#endif
