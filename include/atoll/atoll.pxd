# Atoll's C API for Cython: `cimport atoll`, with atoll.get_include() among the include paths of both Cython and the C compiler.
# atoll.h says what the functions do; those that return an int raise the exception that they have set.
#
#     cimport atoll
#     atoll.atoll_import()

from libc.stdint cimport int64_t, uint64_t


cdef extern from "atoll.h":
    enum:
        ATOLL_API_MAJOR
        ATOLL_API_MINOR

    enum:
        ATOLL_OK
        ATOLL_ERROR
        ATOLL_INVALID
        ATOLL_NOT_FOUND
        ATOLL_NO_MEMORY
        ATOLL_TIMEOUT
        ATOLL_SHUT
        ATOLL_STUCK
        ATOLL_INTERRUPTED
        ATOLL_NO_PYTHON

    enum:
        ATOLL_NO_SITE
        ATOLL_NO_DAEMON_THREADS
        ATOLL_MAY_FORK

    enum:
        ATOLL_ITEM_NONE
        ATOLL_ITEM_OPAQUE
        ATOLL_ITEM_BYTES
        ATOLL_ITEM_SHARED
        ATOLL_ITEM_OBJECT
        ATOLL_ITEM_UNBOUND

    ctypedef struct atoll_interp
    ctypedef struct atoll_queue
    ctypedef struct atoll_shared
    ctypedef struct atoll_visit

    ctypedef struct atoll_options:
        size_t size
        const char *name
        const char *extensions
        unsigned flags
        uint64_t memory_limit
        double cpu_limit

    ctypedef void (*atoll_release_function)(void *data, size_t size, void *context) noexcept nogil
    ctypedef object (*atoll_encode_function)(object)
    ctypedef object (*atoll_decode_function)(object)

    ctypedef struct atoll_item:
        int kind
        int readonly
        void *data
        size_t size
        atoll_release_function release
        void *context
        atoll_shared *shared
        void *held

    # Attached: with the exception that is set.
    int atoll_import() except -1
    int atoll_adopt(atoll_interp **interp) except *
    object atoll_object(atoll_interp *interp)
    int atoll_from_object(object obj, atoll_interp **interp) except *
    object atoll_queue_object(atoll_queue *queue)
    int atoll_queue_from_object(object obj, atoll_queue **queue) except *
    object atoll_item_object(const atoll_item *item)
    object atoll_shared_object(atoll_shared *shared)
    int atoll_shared_from_object(object obj, atoll_shared **shared, void **data, size_t *size, int *readonly) except *
    int atoll_register(object type, atoll_encode_function encode, atoll_decode_function decode) except *

    # Anywhere: whoever calls them looks at the result.
    const char *atoll_message() noexcept nogil
    int atoll_create(const atoll_options *options, atoll_interp **interp) noexcept nogil
    int atoll_find(int64_t id, atoll_interp **interp) noexcept nogil
    void atoll_retain(atoll_interp *interp) noexcept nogil
    void atoll_release(atoll_interp *interp) noexcept nogil
    int64_t atoll_id(const atoll_interp *interp) noexcept nogil
    int64_t atoll_current_id() noexcept nogil
    int atoll_enter(atoll_interp *interp, atoll_visit **visit) noexcept nogil
    int atoll_leave(atoll_visit *visit) noexcept nogil
    int atoll_close(atoll_interp *interp, double timeout, int force) noexcept nogil

    int atoll_queue_create(int64_t maxsize, atoll_queue **queue) noexcept nogil
    int atoll_queue_find(int64_t id, atoll_queue **queue) noexcept nogil
    void atoll_queue_retain(atoll_queue *queue) noexcept nogil
    void atoll_queue_release(atoll_queue *queue) noexcept nogil
    int64_t atoll_queue_id(const atoll_queue *queue) noexcept nogil
    uint64_t atoll_queue_count(const atoll_queue *queue) noexcept nogil
    int atoll_queue_put(atoll_queue *queue, void *data, size_t size, atoll_release_function release, void *context,
                        double timeout) noexcept nogil
    int atoll_queue_put_shared(atoll_queue *queue, atoll_shared *shared, double timeout) noexcept nogil
    int atoll_queue_get(atoll_queue *queue, atoll_item *item, double timeout) noexcept nogil
    void atoll_queue_shutdown(atoll_queue *queue, int drop) noexcept nogil
    void atoll_item_release(atoll_item *item) noexcept nogil

    int atoll_shared_create(size_t size, atoll_shared **shared) noexcept nogil
    void atoll_shared_retain(atoll_shared *shared) noexcept nogil
    void atoll_shared_release(atoll_shared *shared) noexcept nogil
    void *atoll_shared_data(const atoll_shared *shared) noexcept nogil
    size_t atoll_shared_size(const atoll_shared *shared) noexcept nogil
