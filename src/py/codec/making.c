/* Classes, and functions, that are there in part: which thread makes them, and who has to wait.
 *
 * One that receives a class, or function, which another thread is making waits until it is whole (codec/arrival.c); who makes one himself does
 * not wait, or each might wait for the other.  In a forked child what other threads were making is nobody's.
 */
#include "py/codec/internal.h"

#include <limits.h>

/* A thread that gave up waiting goes on with what there is: who makes the class may need something of that thread's. */
#define PATIENCE 10.0

void atoll_making_enter(const atoll_decoder *dec, atoll_making **list, atoll_making *making,
                        uint64_t number) {
    *making = (atoll_making){
        .next = *list, .number = number, .thread = PyThread_get_thread_ident(), .reading = dec->reading};
    *list = making;
}

void atoll_making_leave(atoll_making **list, const atoll_making *making) {
    while (*list != making) {
        list = &(*list)->next;
    }
    *list = making->next;
}

void atoll_begin_making(const atoll_decoder *dec, atoll_making *making, uint64_t number) {
    atoll_making_enter(dec, &dec->codec->making, making, number);
}

void atoll_end_making(atoll_codec *codec, const atoll_making *making) {
    atoll_making_leave(&codec->making, making);
    atomic_fetch_add(&codec->made, 1);
    atoll_word_wake(&codec->made, INT_MAX);
}

_Atomic(uint64_t) atoll_forks;

void atoll_arrivals_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_CHILD) {
        atomic_fetch_add(&atoll_forks, 1);
    }
}

/* The first of a list that is another thread's, taken out; or NULL. */
static atoll_making *take_orphan(atoll_making **list) {
    unsigned long self = PyThread_get_thread_ident();
    while (*list != NULL && (*list)->thread == self) {
        list = &(*list)->next;
    }
    atoll_making *orphan = *list;
    if (orphan != NULL) {
        *list = orphan->next;
    }
    return orphan;
}

void atoll_drop_orphans(atoll_codec *codec) {
    codec->forks = atomic_load(&atoll_forks);
    atoll_making *orphan;
    while ((orphan = take_orphan(&codec->making)) != NULL) {
        atoll_hide(codec, orphan);
        PyObject *key = PyLong_FromUnsignedLongLong(orphan->number);
        atoll_weak_drop(codec->class_refs, key);
        atoll_weak_drop(codec->function_refs, key);
        PyErr_Clear();
        Py_XDECREF(key);
    }
    while ((orphan = take_orphan(&codec->changing)) != NULL) {
        atoll_take_again(orphan->seen);
    }
}

/* Whether another thread makes it, and this one makes none: else each might wait for the other. */
static bool is_made_elsewhere(const atoll_codec *codec, uint64_t number) {
    unsigned long self = PyThread_get_thread_ident();
    bool found = false;
    for (const atoll_making *m = codec->making; m != NULL; m = m->next) {
        if (m->thread == self) {
            return false;
        }
        found |= m->number == number;
    }
    return found;
}

const atoll_making *atoll_coming(const atoll_codec *codec, uint64_t number) {
    unsigned long self = PyThread_get_thread_ident();
    const atoll_making *m = codec->making;
    while (m != NULL && (m->number != number || m->thread != self)) {
        m = m->next;
    }
    return m;
}

void atoll_lean_on_coming(const atoll_decoder *dec, uint64_t number) {
    const atoll_making *coming = dec->codec->making != NULL ? atoll_coming(dec->codec, number) : NULL;
    if (coming != NULL) {
        atoll_reading_lean(dec, coming->reading);
    }
}

bool atoll_is_being_made(const atoll_codec *codec, const PyTypeObject *type) {
    unsigned long self = codec->making != NULL ? PyThread_get_thread_ident() : 0;
    for (const atoll_making *m = codec->making; m != NULL; m = m->next) {
        if (m->cls == (const PyObject *)type) {
            return m->thread == self;
        }
    }
    return false;
}

/* Whether an error about obj's attribute, or a class's, is one about what m's class still awaits. */
static bool is_awaited(const atoll_making *m, PyObject *obj, PyObject *name) {
    if (m->awaited == NULL || m->thread != PyThread_get_thread_ident()) {
        return false;
    }
    PyTypeObject *type = PyType_Check(obj) ? (PyTypeObject *)obj : Py_TYPE(obj);
    return PyType_IsSubtype(type, (PyTypeObject *)m->cls) && PySequence_Contains(m->awaited, name) > 0;
}

bool atoll_stand_in(const atoll_codec *codec) {
    if (codec->making == NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return false;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *name = PyObject_GetAttrString(exc, "name");
    PyObject *obj = name != NULL ? PyObject_GetAttrString(exc, "obj") : NULL;
    bool found = false;
    for (const atoll_making *m = codec->making; obj != NULL && !found && m != NULL; m = m->next) {
        PyObject *dict = is_awaited(m, obj, name) ? PyType_GetDict((PyTypeObject *)m->cls) : NULL;
        found = dict != NULL && PyDict_Contains(dict, name) == 0 &&
                PyType_Type.tp_setattro(m->cls, name, Py_None) == 0;
        Py_XDECREF(dict);
    }
    Py_XDECREF(obj);
    Py_XDECREF(name);
    if (atoll_error_is_urgent()) {
        Py_DECREF(exc);
        return false;
    }
    PyErr_Clear();
    if (found) {
        Py_DECREF(exc);
    } else {
        PyErr_SetRaisedException(exc);
    }
    return found;
}

/* Until the class is whole, or what made it has failed.  0, or -1 with an exception. */
int atoll_wait_for_maker(atoll_codec *codec, uint64_t number) {
    double limit = atoll_clock() + PATIENCE;
    while (is_made_elsewhere(codec, number) && atoll_clock() < limit) {
        uint32_t made = atomic_load(&codec->made);
        if (codec->await(&codec->made, made, atoll_clock() + 0.05) < 0) {
            return -1;
        }
    }
    return 0;
}
