/* Queues of messages: many producers, many consumers, first in first out.  Pure C; src/module/queue.c gives them to Python.
 *
 * Storage.  An item is a record: 16 bytes of header and the encoded bytes, one after the other in chunks that grow
 * with the queue up to 16 KiB.  What is longer than ATOLL_RECORD_INLINE, or has handles, is a pointer to a box
 * instead, so no long copy is made with a lock held.  A queue that has never been used has no chunk.
 *
 * Locks, each for a few dozen instructions, in the order in which they may be nested:
 *
 *   list   every queue of the process; also held by fork, with all that follow
 *   head   where items are taken; `gets`, `head`
 *   tail   where items are put; `puts`, `tail`, `closed`
 *   wait   who waits, and the events of fileno()
 *
 * Producers take `tail` only, consumers `head` only, and each keeps what it knows of the other's count, so that
 * one producer and one consumer with items between them share nothing but the records.  An item is there
 * when puts > gets.
 *
 * Waiting.  Who finds nothing (or no room) spins for a moment (wait.h), then adds itself to `getters` (or `putters`), counts itself in `attention`, and
 * looks once more before it sleeps; who has put (or taken) looks at `attention` after publishing its count.  All
 * four are sequentially consistent, so one of the two sees the other and no wake-up is lost.  An item wakes one
 * getter.  Another that comes by may take the item first; the one that was woken then goes back to the front.
 *
 *   operation x operation   put              get              shutdown          unbind
 *   put                     tail             nothing shared   refused after     tail
 *   get                                      head             gets what is      head
 *                                                             left, then fails
 *   shutdown                                                  once              head, tail
 *
 * Watchers (select) and events (fileno) take no item, so they are told besides the getter, never instead of it.
 *
 * Lifetime.  A reference for each Queue object and each message that holds the queue.  A message in the queue itself
 * holds none (it could never be taken again once nobody else has the queue); two queues that hold each other are not
 * freed.  When an interpreter ends, its items are removed, marked as unbound, or kept (atoll_queues_unbind).
 *
 * No function needs a thread state, or blocks but atoll_queue_wait; messages are released with no lock held.
 */
#ifndef ATOLL_CORE_QUEUE_H
#define ATOLL_CORE_QUEUE_H

#include "core/base/base.h"
#include "core/stats/stats.h"

enum { ATOLL_RECORD_INLINE = 512 };

/* What becomes of an item whose sender's interpreter ends.  The numbers are the standard library's; the last is only
 * an item's. */
typedef enum {
    ATOLL_UNBOUND_REMOVE = 1,
    ATOLL_UNBOUND_ERROR = 2,
    ATOLL_UNBOUND_REPLACE = 3,
    ATOLL_UNBOUND_KEEP = 4 /* nothing: it lends no memory of the sender's but what a view shows */
} atoll_unbound;

typedef enum {
    ATOLL_RECORD_BYTES,   /* size bytes follow */
    ATOLL_RECORD_BOX,     /* a pointer to an atoll_box follows */
    ATOLL_RECORD_UNBOUND, /* its sender ended */
    ATOLL_RECORD_REMOVED, /* likewise, and it does not count any more */
    ATOLL_RECORD_END      /* the next record is in the next chunk */
} atoll_record_kind;

typedef struct {
    uint32_t size; /* of what follows, without the padding to 8 bytes */
    uint8_t kind;
    uint8_t unbound;
    uint16_t unused;
    int64_t sender; /* the id of the interpreter that put it */
} atoll_record;

typedef struct atoll_box {
    atoll_message msg;
    size_t start; /* where the item's bytes begin in the message's body */
    struct atoll_box *next;
} atoll_box;

/* Records on their way into a queue: those from `at` on have not been put yet. */
typedef struct {
    atoll_message msg; /* its body holds records; its handles are those of the item being written */
    size_t at;
    size_t count; /* how many are left */
} atoll_batch;

/* Begins an item: where its record is.  SIZE_MAX when out of memory.  The item is then appended to batch->msg. */
size_t atoll_batch_begin(atoll_batch *batch);
/* Completes the record at `start`. 0, or -1 when out of memory, and the item is gone. */
int atoll_batch_end(atoll_batch *batch, size_t start, int64_t sender, uint8_t unbound);
/* Releases what was not put; storage is kept in batch->msg. */
void atoll_batch_reset(atoll_batch *batch);

/* Records that were taken: `at` is the first that was not read yet. */
typedef struct atoll_chunk {
    struct atoll_chunk *next;
    uint32_t size; /* of data */
    uint32_t at;
    uint8_t data[] __attribute__((aligned(8)));
} atoll_chunk;

/* The next record of a chunk of taken records, or NULL after the last. */
const atoll_record *atoll_chunk_next(atoll_chunk *chunk);
/* A view of a record's message: valid as long as the record.  It must be of kind BYTES or BOX. */
atoll_message atoll_record_message(const atoll_record *record);
/* Releases what a record owns. */
void atoll_record_release(const atoll_record *record);

typedef enum {
    ATOLL_QUEUE_OK,
    ATOLL_QUEUE_AGAIN,
    ATOLL_QUEUE_SHUT,
    ATOLL_QUEUE_NO_MEMORY
} atoll_queue_result;
typedef enum { ATOLL_QUEUE_GET, ATOLL_QUEUE_PUT } atoll_queue_side;

typedef struct atoll_queue atoll_queue;

/* A new queue with one reference, or NULL when out of memory.  maxsize <= 0: unbounded.  unbound: 0 when nobody has said. */
atoll_queue *atoll_queue_new(int64_t maxsize, uint8_t unbound);
void atoll_queue_retain(atoll_queue *queue);
void atoll_queue_release(atoll_queue *queue);
extern const atoll_handle_class atoll_queue_class;

/* A new reference to the queue with this id, or NULL. */
atoll_queue *atoll_queue_find(int64_t id);
/* A new reference to the queue with the lowest id above `above`, or NULL. */
atoll_queue *atoll_queue_after(int64_t above);

int64_t atoll_queue_id(const atoll_queue *queue);
int64_t atoll_queue_maxsize(const atoll_queue *queue);
uint8_t atoll_queue_unbound(const atoll_queue *queue);
uint64_t atoll_queue_count(const atoll_queue *queue);
bool atoll_queue_is_full(const atoll_queue *queue);
bool atoll_queue_is_shut(const atoll_queue *queue);
/* What is counted of it; its `waits` are added to by who has waited. */
atoll_stats_queue *atoll_queue_stats_of(const atoll_queue *queue);

/* Puts as many records as there is room for.  OK: all; AGAIN: some are left; SHUT and NO_MEMORY likewise. */
atoll_queue_result atoll_queue_put(atoll_queue *queue, atoll_batch *batch);
/* Takes one item; `out` has room for a record with ATOLL_RECORD_INLINE bytes.  AGAIN: empty. */
atoll_queue_result atoll_queue_get(atoll_queue *queue, atoll_record *out);
/* Takes at most `most` items, at least 1, as many as fit in `into`, an empty chunk in which the longest fits; *taken_count says
 * how many. */
atoll_queue_result atoll_queue_get_many(atoll_queue *queue, size_t most, atoll_chunk *into,
                                        size_t *taken_count);
/* An empty chunk for get_many(), or NULL when out of memory; free() it, or return it. */
atoll_chunk *atoll_chunk_new(uint32_t size);
/* Puts the `count` records of a chunk that were not read back to the front, and takes over the chunk. */
void atoll_queue_return(atoll_queue *queue, atoll_chunk *chunk, size_t count);
/* Likewise a record that atoll_queue_get() took; takes it over.  -1 when out of memory: it stays the caller's. */
int atoll_queue_return_one(atoll_queue *queue, const atoll_record *record);

/* Waits until it is worth while to try again: an item or room, or the queue is shut, or it has spun in vain and sleeps the
 * next time (waiter->spun).  TIMEOUT, or SIGNAL (also for an interrupted waiter) when it returns for that. */
atoll_wait_result atoll_queue_wait(atoll_queue *queue, atoll_queue_side side, atoll_waiter *waiter,
                                   double deadline);

/* No more items are put; what is left may still be got, or is dropped at once. Wakes everybody. */
void atoll_queue_shutdown(atoll_queue *queue, bool drop);

/* A file descriptor, readable while an item can be got (or put) without waiting, and when the queue is shut.  It is the queue's
 * own, and says what is so until as many calls of event_end() have come: meanwhile it costs every put and get two system
 * calls.  -1 with errno. */
int atoll_queue_event(atoll_queue *queue, atoll_queue_side side);
void atoll_queue_event_end(atoll_queue *queue, atoll_queue_side side);

/* select(): one watch for each queue, on the waiter of the thread. */
typedef struct atoll_watch {
    struct atoll_watch *next;
    struct atoll_watch *prev;
    atoll_queue *queue;
    atoll_waiter *waiter;
    bool linked;
    bool ready; /* at the end of the wait */
} atoll_watch;
bool atoll_queue_ready(const atoll_queue *queue); /* an item, or shut */
/* Waits until one of the queues is ready, or for another reason: OK does not mean that one still is. */
atoll_wait_result atoll_queue_select(atoll_watch *watches, size_t n, atoll_waiter *waiter, double deadline);

/* An interpreter ends: what it put is removed or marked, as its sender wished. */
void atoll_queues_unbind(int64_t sender);
/* Once per process: makes fork leave every queue whole. */
void atoll_queues_init(void);

#endif
