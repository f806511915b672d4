/* Queues, for C: atoll.h says what these promise, opaque.c what becomes of memory that is put.
 *
 * A message is what Python code would have sent: one with an opaque message is that of a memoryview, one with shared memory that of a SharedBuffer.  So
 * either side may be C or Python.  It is written and read without Python; only who is attached waits as Python code does, and everybody else,
 * also in an interpreter that ends, in core's wait alone, which nothing interrupts.
 *
 * An item has the record that was taken, and a reference to its queue, whose number is in what is raised.  Nothing is lost: an item that C code
 * can make nothing of is one all the same, of which it can make an object.
 *
 * Locks: none but core's.
 */
#include "module/capi_parts.h"
#include "module/opaque.h"
#include "module/pyshared.h"
#include "module/queue_ops.h"

#include <math.h>
#include <stdlib.h>

enum { NOBODY = -1 }; /* as the interpreter that has put an item: none ends with this id */

int atoll_capi_queue_create(int64_t maxsize, atoll_queue **queue) {
    *queue = atoll_queue_new(maxsize, 0);
    return *queue != NULL ? ATOLL_OK : atoll_capi_fail(ATOLL_NO_MEMORY, "out of memory");
}

/* Attached: the class of what says that a queue is not there; one that it derives from where that cannot be had any more; or NULL with an
 * exception. */
static PyObject *not_found_class(void) {
    atoll_state *state = atoll_capi_state();
    PyObject *type = state != NULL ? atoll_pyqueue_name_get(state, ATOLL_Q_NOT_FOUND) : NULL;
    if (type == NULL && PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_ImportError)) {
        return NULL;
    }
    PyErr_Clear();
    return type != NULL ? type : PyExc_RuntimeError;
}

int atoll_capi_queue_find(int64_t id, atoll_queue **queue) {
    *queue = atoll_queue_find(id);
    if (*queue != NULL) {
        return ATOLL_OK;
    }
    if (atoll_thread_state_attached() != NULL && !PyErr_Occurred()) {
        PyObject *type = not_found_class();
        if (type == NULL) {
            return atoll_capi_fail_raised();
        }
        PyErr_Format(type, "queue %lld not found", (long long)id);
    }
    return atoll_capi_fail(ATOLL_NOT_FOUND, "queue %lld not found", (long long)id);
}

void atoll_capi_queue_release(atoll_queue *queue) {
    if (queue != NULL) {
        atoll_queue_release(queue);
    }
}

void atoll_capi_queue_shutdown(atoll_queue *queue, int drop) { atoll_queue_shutdown(queue, drop != 0); }

PyObject *atoll_capi_queue_object(atoll_queue *queue) {
    atoll_state *state;
    if (atoll_capi_attached(&state) != ATOLL_OK) {
        return NULL;
    }
    PyObject *object = atoll_pyqueue_for(state, queue);
    if (object == NULL) {
        (void)atoll_capi_fail_raised();
    }
    return object;
}

int atoll_capi_queue_from_object(PyObject *object, atoll_queue **queue) {
    *queue = NULL;
    atoll_state *state;
    int code = atoll_capi_attached(&state);
    if (code != ATOLL_OK) {
        return code;
    }
    if (!Py_IS_TYPE(object, state->queue_type)) {
        PyErr_Format(PyExc_TypeError, "a Queue is needed, not %.200s", Py_TYPE(object)->tp_name);
        return atoll_capi_fail_raised();
    }
    if (atoll_pyqueue_state(object) == NULL) {
        return atoll_capi_fail_raised();
    }
    *queue = atoll_pyqueue_of(object);
    atoll_queue_retain(*queue);
    return ATOLL_OK;
}

/* ---- waiting ---- */

static int fail_at(atoll_queue *queue, atoll_queue_result result, const char *what) {
    long long id = (long long)atoll_queue_id(queue);
    switch (result) {
    case ATOLL_QUEUE_SHUT:
        return atoll_capi_fail(ATOLL_SHUT, "queue %lld is shut down", id);
    case ATOLL_QUEUE_NO_MEMORY:
        return atoll_capi_fail(ATOLL_NO_MEMORY, "out of memory");
    default:
        return atoll_capi_fail(ATOLL_TIMEOUT, "queue %lld is %s", id, what);
    }
}

/* 0 with a deadline, or a code. */
static int deadline_of(double timeout, double *deadline) {
    if (isnan(timeout)) {
        return atoll_capi_fail(ATOLL_INVALID, "timeout is no number");
    }
    *deadline = timeout < 0 ? INFINITY : timeout == 0 ? ATOLL_NO_WAIT : atoll_deadline_after(timeout);
    return ATOLL_OK;
}

static int put_batch(atoll_queue *queue, atoll_batch *batch, double deadline) {
    atoll_state *state = atoll_capi_state();
    if (state != NULL) {
        int rc = atoll_pyqueue_put_batch(state, queue, batch, deadline);
        return rc == 0 ? ATOLL_OK : atoll_capi_fail_raised();
    }
    atoll_waiter waiter = {0};
    atoll_queue_result result;
    while ((result = atoll_queue_put(queue, batch)) == ATOLL_QUEUE_AGAIN && deadline != ATOLL_NO_WAIT &&
           atoll_queue_wait(queue, ATOLL_QUEUE_PUT, &waiter, deadline) != ATOLL_WAIT_TIMEOUT) {
    }
    return result == ATOLL_QUEUE_OK ? ATOLL_OK : fail_at(queue, result, "full");
}

static int take(atoll_queue *queue, atoll_record *out, double deadline) {
    *out = (atoll_record){0};
    atoll_state *state = atoll_capi_state();
    if (state != NULL) {
        int rc = atoll_pyqueue_take(state, queue, out, deadline);
        return rc == 0 ? ATOLL_OK : atoll_capi_fail_raised();
    }
    atoll_waiter waiter = {0};
    atoll_queue_result result;
    while ((result = atoll_queue_get(queue, out)) == ATOLL_QUEUE_AGAIN && deadline != ATOLL_NO_WAIT &&
           atoll_queue_wait(queue, ATOLL_QUEUE_GET, &waiter, deadline) != ATOLL_WAIT_TIMEOUT) {
    }
    return result == ATOLL_QUEUE_OK ? ATOLL_OK : fail_at(queue, result, "empty");
}

/* ---- putting ---- */

/* Puts the message that write() makes of what. */
static int put(atoll_queue *queue, void (*write)(atoll_message *msg, void *what), void *what, int64_t sender,
               uint8_t unbound, double deadline) {
    atoll_batch batch = {0};
    size_t start = atoll_batch_begin(&batch);
    if (start != SIZE_MAX) {
        write(&batch.msg, what);
    }
    int code;
    if (start == SIZE_MAX || batch.msg.body.failed || atoll_batch_end(&batch, start, sender, unbound) < 0) {
        code = atoll_capi_fail(ATOLL_NO_MEMORY, "out of memory");
    } else {
        code = put_batch(queue, &batch, deadline);
    }
    atoll_batch_reset(&batch);
    atoll_message_clear(&batch.msg);
    return code;
}

static void write_opaque(atoll_message *msg, void *what) { atoll_sharedview_put(msg, what); }

int atoll_capi_queue_put(atoll_queue *queue, void *data, size_t size, atoll_release_function release,
                         void *context, double timeout) {
    double deadline = ATOLL_NO_WAIT;
    int code = deadline_of(timeout, &deadline);
    if (code != ATOLL_OK) {
        return code;
    }
    if (size > PY_SSIZE_T_MAX || (data == NULL && size != 0)) {
        return atoll_capi_fail(ATOLL_INVALID, "there cannot be %zu bytes at %p", size, data);
    }
    bool shut;
    atoll_opaque *opaque = atoll_opaque_new(data, size, release, context, &shut);
    if (opaque == NULL) {
        return shut ? atoll_capi_fail(ATOLL_ERROR,
                                      "the interpreter is about to end whose module has the function "
                                      "that releases the message")
                    : atoll_capi_fail(ATOLL_NO_MEMORY, "out of memory");
    }
    uint8_t said = atoll_queue_unbound(queue);
    uint8_t unbound = opaque->owner == NULL ? ATOLL_UNBOUND_KEEP : said != 0 ? said : ATOLL_UNBOUND_REPLACE;
    code = put(queue, write_opaque, opaque, opaque->owner != NULL ? opaque->owner->id : NOBODY, unbound,
               deadline);
    if (code != ATOLL_OK) {
        atoll_opaque_disarm(opaque);
    }
    atoll_opaque_class.release(opaque);
    return code;
}

static void write_shared(atoll_message *msg, void *what) { atoll_pyshared_put(msg, what); }

int atoll_capi_queue_put_shared(atoll_queue *queue, atoll_shared *shared, double timeout) {
    double deadline = ATOLL_NO_WAIT;
    int code = deadline_of(timeout, &deadline);
    return code != ATOLL_OK ? code : put(queue, write_shared, shared, NOBODY, ATOLL_UNBOUND_KEEP, deadline);
}

/* ---- getting ---- */

/* What an item has. */
typedef struct {
    atoll_queue *queue; /* a reference */
    union {
        atoll_record record;
        uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
    } taken;
} holding;

static void describe_hook(const atoll_message *msg, atoll_peek *peek, atoll_item *item) {
    bool readonly = false;
    void *data;
    size_t size;
    if (peek->hook == ATOLL_HOOK_SHARED_BUFFER || peek->hook == ATOLL_HOOK_SHARED_ARRAY) {
        item->shared = atoll_pyshared_peek(msg, &peek->rd, &data, &size, &readonly);
        item->kind = item->shared != NULL ? ATOLL_ITEM_SHARED : ATOLL_ITEM_OBJECT;
    } else if (peek->hook == ATOLL_HOOK_MEMORYVIEW || peek->hook == ATOLL_HOOK_BYTES) {
        atoll_opaque *opaque;
        if (atoll_sharedview_peek(msg, peek->hook, &peek->rd, &data, &size, &readonly, &opaque)) {
            item->kind = opaque != NULL ? ATOLL_ITEM_OPAQUE : ATOLL_ITEM_BYTES;
        }
        if (item->kind == ATOLL_ITEM_OPAQUE) {
            item->release = opaque->release;
            item->context = opaque->context;
            readonly = false;
        }
    }
    if (item->kind != ATOLL_ITEM_OBJECT) {
        item->data = data;
        item->size = size;
        item->readonly = readonly;
    }
}

static void describe(const atoll_record *record, atoll_item *item) {
    item->kind = ATOLL_ITEM_OBJECT;
    if (record->kind == ATOLL_RECORD_UNBOUND) {
        item->kind = ATOLL_ITEM_UNBOUND;
        return;
    }
    const atoll_message msg = atoll_record_message(record);
    atoll_peek peek = atoll_codec_peek(&msg);
    if (peek.kind == ATOLL_PEEK_BYTES) {
        item->kind = ATOLL_ITEM_BYTES;
        item->data = (void *)(uintptr_t)peek.data;
        item->size = peek.size;
        item->readonly = 1;
    } else if (peek.kind == ATOLL_PEEK_HOOK) {
        describe_hook(&msg, &peek, item);
    }
}

int atoll_capi_queue_get(atoll_queue *queue, atoll_item *item, double timeout) {
    double deadline = ATOLL_NO_WAIT;
    *item = (atoll_item){0};
    int code = deadline_of(timeout, &deadline);
    if (code != ATOLL_OK) {
        return code;
    }
    holding *held = calloc(1, sizeof *held);
    if (held == NULL) {
        return atoll_capi_fail(ATOLL_NO_MEMORY, "out of memory");
    }
    code = take(queue, &held->taken.record, deadline);
    if (code != ATOLL_OK) {
        free(held);
        return code;
    }
    atoll_queue_retain(queue);
    held->queue = queue;
    item->held = held;
    describe(&held->taken.record, item);
    return ATOLL_OK;
}

void atoll_capi_item_release(atoll_item *item) {
    holding *held = item->held;
    *item = (atoll_item){0};
    if (held != NULL) {
        atoll_record_release(&held->taken.record);
        atoll_queue_release(held->queue);
        free(held);
    }
}

PyObject *atoll_capi_item_object(const atoll_item *item) {
    atoll_state *state;
    const holding *held = item->held;
    if (atoll_capi_attached(&state) != ATOLL_OK) {
        return NULL;
    }
    if (held == NULL) {
        (void)atoll_capi_fail(ATOLL_INVALID, "the item was released");
        return NULL;
    }
    PyObject *object = atoll_pyqueue_receive(state, held->queue, &held->taken.record);
    if (object == NULL) {
        (void)atoll_capi_fail_raised();
    }
    return object;
}
