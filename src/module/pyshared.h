/* SharedBuffer and SharedArray: what their files share.
 *
 * Both are one struct: a reference to a block of memory (core/shared/shared.h) and a layout (geometry.h) that lies in it.  An object's
 * block and layout never change; what other objects show of the same block (slices, views, what was sent) has references of its own.
 * So an exported buffer needs no count: it keeps its object, which keeps the block.
 *
 *   dtype         what a dtype means, and elements as Python objects
 *   shareditems   indices, slices, assignment, tolist()
 *   pyshared      making, sharing, crossing
 *   sharedfrozen  read-only copies for what is frozen
 *   sharedpickle  pickle
 *   shareddlpack  __dlpack__()
 *   sharedtypes   the types: attributes, views, comparison
 *
 * Thread states: attached everywhere.  Large copies, and making memory that has a name, give the GIL back meanwhile.
 * Objects of Python are not in it.
 *
 * Ends.  The types do not know their module.  Else an object that only C code holds (a numpy array has it, and the garbage collector cannot
 * look into those) would hold the type, which would hold the module and with it __main__: at the end of the interpreter nothing of that would be
 * finalized, and the memory never freed.
 */
#ifndef ATOLL_MODULE_PYSHARED_H
#define ATOLL_MODULE_PYSHARED_H

#include "core/shared/shared.h"
#include "module/geometry.h"
#include "module/module.h"

typedef struct {
    PyObject_HEAD
    atoll_shared *block; /* a reference; NULL only while it is being made */
    PyObject *weakrefs;
    atoll_geometry g;
} atoll_pyshared;

/* A new object of this type that shows part of a block, a reference to which it takes over, also on failure.  Its layout has room for ndim
 * dimensions and this format; the rest is the caller's to fill.  NULL with MemoryError. */
atoll_pyshared *atoll_pyshared_make(PyTypeObject *type, atoll_shared *block, int ndim, const char *format);
/* The same with another's block, format, element size and readonly flag. */
atoll_pyshared *atoll_pyshared_derive(const atoll_pyshared *from, int ndim);
/* `size` bytes of a block as an object of SharedBuffer; takes over the reference. */
PyObject *atoll_pyshared_buffer_of(PyTypeObject *type, atoll_shared *block, size_t size);
/* A message that holds all of a block, as a SharedBuffer; the message says whether that failed.  And what such a message, or one with a SharedArray,
 * holds: the block, which is the message's, or NULL when the elements do not lie one after the other.  No thread state needed. */
void atoll_pyshared_put(atoll_message *msg, atoll_shared *block);
atoll_shared *atoll_pyshared_peek(const atoll_message *msg, atoll_reader *rd, void **data, size_t *size,
                                  bool *readonly);
/* A copy of a buffer in new memory, packed.  NULL with an exception. */
PyObject *atoll_pyshared_packed(PyTypeObject *type, const Py_buffer *from);
/* A copy of what has a buffer in new memory.  NULL with an exception. */
PyObject *atoll_pyshared_copy(atoll_state *state, PyObject *obj);
/* The slots that both types have, and the constructors. */
void atoll_pyshared_dealloc(PyObject *raw);
int atoll_pyshared_traverse(PyObject *self, visitproc visit, void *arg);
int atoll_pyshared_getbuffer(PyObject *self, Py_buffer *b, int flags);
PyObject *atoll_pyshared_buffer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
PyObject *atoll_pyshared_array_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
PyObject *atoll_pyshared_from_bytes(PyObject *type, PyObject *data);
extern const char atoll_pyshared_from_bytes_doc[];
int atoll_pyshared_add_hooks(atoll_state *state);
extern PyMethodDef atoll_pyshared_functions[];
/* A new tuple of ints. */
PyObject *atoll_pyshared_tuple(const Py_ssize_t *values, int n);
/* Sizes from an int or a sequence of them, at most PyBUF_MAX_NDIM; how many, or -1 with an exception. */
int atoll_pyshared_sizes(PyObject *shape, Py_ssize_t sizes[PyBUF_MAX_NDIM]);
/* The block that is found by its name, which is whatever the user has given: a new reference, or NULL with an exception. */
atoll_shared *atoll_pyshared_find(PyObject *name);

/* ---- dtype.c ---- */

enum { ATOLL_FORMAT_MOST = 32 };
typedef struct {
    char near[ATOLL_FORMAT_MOST];
    char *far; /* PyMem: one that does not fit */
    const char *format;
    Py_ssize_t itemsize; /* not 0 */
} atoll_dtype;

/* What a dtype means: numpy's strings, objects and classes, formats of struct and of the buffer protocol, float, int, bool, complex.  0 (clear it
 * then), or -1 with TypeError that names it. */
int atoll_dtype_parse(PyObject *dtype, atoll_dtype *out);
void atoll_dtype_clear(atoll_dtype *dtype);
/* Says why an array, whose buffer the current exception refuses, cannot be `what` ("frozen"), and which of its forms can be ("freeze"): -1, with
 * TypeError. */
int atoll_dtype_explain(PyObject *obj, const char *what, const char *how);
/* The format that stands for the same elements here without a sign of byte order, where that is the machine's: a part of it.  By the size that
 * they have: ctypes says '<l' of 64 bits, too. */
const char *atoll_dtype_usual(const char *format, Py_ssize_t itemsize);
/* Whether elements of this format may have so many bytes. */
bool atoll_dtype_is_true(const char *format, Py_ssize_t itemsize);
/* Whether the module struct knows a format, and so memoryview does: 1, 0, or -1 with an exception. */
int atoll_dtype_is_known(const char *format);
/* numpy's letter for the kind of a native element: b(ool), i(nt), u(nsigned), f(loat), c(omplex), S (a byte); 0 for other formats. */
char atoll_dtype_kind(const char *format);
/* numpy's name for a format, or what numpy takes for it: a new str. */
PyObject *atoll_dtype_name(const char *format);
/* One element, unaligned or not. NULL, or -1, with an exception. */
PyObject *atoll_element_get(const char *format, Py_ssize_t itemsize, const char *at);
int atoll_element_set(const char *format, Py_ssize_t itemsize, char *at, PyObject *value);

/* ---- shareditems.c ---- */

PyObject *atoll_pyshared_get_item(PyObject *self, PyObject *key);
int atoll_pyshared_set_item(PyObject *self, PyObject *key, PyObject *value);
PyObject *atoll_pyshared_sequence_item(PyObject *self, Py_ssize_t index);
Py_ssize_t atoll_pyshared_length(PyObject *self);
PyObject *atoll_pyshared_tolist(PyObject *self, PyObject *ignored);
/* The same of the buffer that a memoryview has, whatever has given it. */
PyObject *atoll_pyshared_list(const Py_buffer *from);

/* ---- sharedfrozen.c ---- */

/* Whether it shows memory that never changes. */
bool atoll_pyshared_is_frozen(PyObject *obj);
/* py/frozen learns how arrays are frozen. */
void atoll_pyshared_init_frozen(void);

/* ---- sharedpickle.c ---- */

PyObject *atoll_pyshared_reduce(PyObject *raw, PyObject *protocol);
extern const char atoll_pyshared_reduce_doc[];
extern PyMethodDef atoll_pyshared_pickle_functions[];

/* ---- shareddlpack.c ---- */

PyObject *atoll_pyshared_dlpack(PyObject *raw, PyObject *args, PyObject *kwargs);
PyObject *atoll_pyshared_dlpack_device(PyObject *self, PyObject *ignored);
extern const char atoll_pyshared_dlpack_doc[];
extern const char atoll_pyshared_dlpack_device_doc[];

#endif
