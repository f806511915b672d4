# cython: language_level=3
"""A Cython module that uses atoll.pxd, for the tests."""

cimport atoll
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

atoll.atoll_import()


cdef void give_back(void *data, size_t size, void *context) noexcept nogil:
    free(data)


def put(queue, bytes data, double timeout=-1):
    """Put a copy of the bytes as an opaque message, with the GIL given back."""
    cdef atoll.atoll_queue *q
    cdef char *text = data
    cdef size_t size = len(data)
    cdef int code
    atoll.atoll_queue_from_object(queue, &q)
    with nogil:
        copy = malloc(size + 1)
        memcpy(copy, text, size)
        code = atoll.atoll_queue_put(q, copy, size, give_back, NULL, timeout)
        if code < 0:
            free(copy)
        atoll.atoll_queue_release(q)
    return code, atoll.atoll_message().decode() if code < 0 else ""


def get(queue, double timeout=-1):
    """Return the kind, the bytes and the object of the first item."""
    cdef atoll.atoll_queue *q
    cdef atoll.atoll_item item
    cdef int code
    atoll.atoll_queue_from_object(queue, &q)
    with nogil:
        code = atoll.atoll_queue_get(q, &item, timeout)
        atoll.atoll_queue_release(q)
    if code < 0:
        raise TimeoutError(atoll.atoll_message().decode())
    try:
        data = (<char *>item.data)[:item.size] if item.data != NULL else b""
        return item.kind, data, atoll.atoll_item_object(&item)
    finally:
        atoll.atoll_item_release(&item)


def twice(buffer):
    """Double each byte of shared memory."""
    cdef atoll.atoll_shared *shared
    cdef void *data
    cdef size_t size
    cdef size_t i
    cdef int readonly
    atoll.atoll_shared_from_object(buffer, &shared, &data, &size, &readonly)
    try:
        if readonly:
            raise ValueError("read-only")
        for i in range(size):
            (<unsigned char *>data)[i] *= 2
    finally:
        atoll.atoll_shared_release(shared)


def run(interp, bytes source):
    """Run the source in the interpreter, by the C API of CPython; raise what it raises."""
    cdef atoll.atoll_interp *target
    cdef const char *text = source
    cdef int code
    atoll.atoll_from_object(interp, &target)
    with nogil:
        code = run_there(target, text)
        atoll.atoll_release(target)
    if code < 0:
        raise RuntimeError(atoll.atoll_message().decode())


cdef extern from "Python.h":
    int PyRun_SimpleString(const char *source) noexcept nogil


cdef int run_there(atoll.atoll_interp *target, const char *text) noexcept nogil:
    # What is attached inside is another interpreter: nothing of this one may be touched, and no Cython code that needs the GIL be run.
    cdef atoll.atoll_visit *visit
    cdef int code = atoll.atoll_enter(target, &visit)
    if code == 0:
        PyRun_SimpleString(text)
        code = atoll.atoll_leave(visit)
    return code


cdef class Money:
    """A type of Cython that crosses by what C says."""

    cdef readonly long cents

    def __init__(self, long cents):
        self.cents = cents


cdef object encode_money(object money):
    return (<Money>money).cents


cdef object decode_money(object cents):
    return Money(cents)


atoll.atoll_register(Money, encode_money, decode_money)
