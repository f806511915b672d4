/* References to what is lent: lent.h says who has which. */
#include "module/lent.h"

#include <stdlib.h>

static _Atomic(uint64_t) serials;

atoll_lent *atoll_lent_new(atoll_lent_kind kind) {
    atoll_lent *lent = calloc(1, sizeof *lent);
    if (lent == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&lent->refs, 1);
    lent->kind = kind;
    lent->serial = atomic_fetch_add(&serials, 1) + 1;
    return lent;
}

/* With a thread state or without one.  What is the producer's may be Python (ctypes), so an exception that is on its way is kept from it. */
static void release_all(atoll_lent *lent) {
    bool attached = atoll_thread_state_attached() != NULL;
    PyObject *exc = attached ? PyErr_GetRaisedException() : NULL;
    for (int64_t i = 0; i < lent->arrow.count; i++) {
        if (lent->arrow.arrays[i].release != NULL) {
            lent->arrow.arrays[i].release(&lent->arrow.arrays[i]);
        }
    }
    if (lent->arrow.schema.release != NULL) {
        lent->arrow.schema.release(&lent->arrow.schema);
    }
    if (lent->dl.plain != NULL && lent->dl.plain->deleter != NULL) {
        lent->dl.plain->deleter(lent->dl.plain);
    }
    if (lent->dl.versioned != NULL && lent->dl.versioned->deleter != NULL) {
        lent->dl.versioned->deleter(lent->dl.versioned);
    }
    if (attached) {
        PyErr_SetRaisedException(exc);
    }
}

void atoll_lent_drop(atoll_lent *lent, bool alive) {
    if (atomic_fetch_sub(&lent->refs, 1) != 1) {
        return;
    }
    if (alive) {
        release_all(lent);
    }
    free(lent->arrow.arrays);
    free(lent);
}

atoll_lent_ref atoll_lent_ref_copy(const atoll_lent_ref *ref) {
    if (ref->own != NULL) {
        atomic_fetch_add(&ref->own->refs, 1);
    } else {
        atoll_export_retain(ref->away);
    }
    return *ref;
}

void atoll_lent_ref_drop(const atoll_lent_ref *ref) {
    if (ref->own != NULL) {
        atoll_lent_drop(ref->own, true);
    } else if (ref->away != NULL) {
        atoll_export_release(ref->away);
    }
}

const atoll_lent *atoll_lent_of(const atoll_lent_ref *ref) {
    return ref->own != NULL ? ref->own : ref->away->what;
}

int atoll_lent_method(PyObject *obj, const char *name, PyObject **out) {
    *out = PyType_Check(obj) ? NULL : PyObject_GetAttrString(obj, name);
    if (*out != NULL) {
        return 1;
    }
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}
