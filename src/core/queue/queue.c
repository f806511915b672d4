/* Putting, getting and waiting.  See queue.h for the design. */
#include "core/queue/internal.h"

#include <stdlib.h>

#define CHUNK_LEAST 512
#define CHUNK_MOST (16 * 1024)

/* ---- life ---- */

atoll_list atoll_queues;

static void enlist(atoll_queue *queue) {
    static int64_t last_id; /* under the list's lock */
    atoll_lock_take(&atoll_queues.lock);
    queue->id = ++last_id;
    atoll_list_add_locked(&atoll_queues, &queue->link);
    atoll_lock_give(&atoll_queues.lock);
}

atoll_queue *atoll_queue_new(int64_t maxsize, uint8_t unbound) {
    atoll_queue *queue = aligned_alloc(CACHE_LINE, sizeof *queue);
    if (queue == NULL) {
        return NULL;
    }
    memset(queue, 0, sizeof *queue);
    queue->maxsize = maxsize;
    queue->unbound = unbound;
    atomic_init(&queue->refs, 1);
    for (int side = 0; side < 2; side++) {
        atoll_spin_init(&queue->spin[side]);
        queue->event[side] = -1;
    }
    queue->stats = atoll_stats_queue_new(maxsize);
    if (queue->stats == NULL) {
        free(queue);
        return NULL;
    }
    enlist(queue);
    atoll_stats_queue_name(queue->stats, queue->id);
    return queue;
}

void atoll_queue_retain(atoll_queue *queue) {
    atomic_fetch_add_explicit(&queue->refs, 1, memory_order_relaxed);
}

/* Nobody else has the queue: releases all records of a list of chunks, and the chunks. */
static void free_chunks(atoll_chunk *chunk) {
    while (chunk != NULL) {
        const atoll_record *record;
        while ((record = atoll_chunk_next(chunk)) != NULL) {
            atoll_record_release(record);
        }
        atoll_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

static void set_end(atoll_chunk *chunk, uint32_t at) {
    const atoll_record end = {.kind = ATOLL_RECORD_END};
    memcpy(chunk->data + at, &end, sizeof end);
}

static void destroy(atoll_link *link) {
    atoll_queue *queue = (atoll_queue *)link;
    if (queue->tail != NULL) {
        set_end(queue->tail, queue->tail_at);
    }
    free_chunks(atomic_load(&queue->head));
    atoll_stats_queue_free(queue->stats);
    free(atomic_load(&queue->spare));
    for (int side = 0; side < 2; side++) {
        if (queue->event[side] >= 0) {
            atoll_event_free(queue->event[side]);
        }
    }
    free(queue);
}

static _Thread_local atoll_doomed doomed;

void atoll_queue_release(atoll_queue *queue) {
    if (atomic_fetch_sub_explicit(&queue->refs, 1, memory_order_acq_rel) == 1) {
        atoll_list_destroy(&atoll_queues, &queue->link, &doomed, destroy);
    }
}

static void handle_retain(void *ptr) { atoll_queue_retain(ptr); }
static void handle_release(void *ptr) { atoll_queue_release(ptr); }

const atoll_handle_class atoll_queue_class = {"queue", handle_retain, handle_release};

int64_t atoll_queue_id(const atoll_queue *queue) { return queue->id; }
int64_t atoll_queue_maxsize(const atoll_queue *queue) { return queue->maxsize; }
atoll_stats_queue *atoll_queue_stats_of(const atoll_queue *queue) { return queue->stats; }
uint8_t atoll_queue_unbound(const atoll_queue *queue) { return queue->unbound; }
uint64_t atoll_queue_count(const atoll_queue *queue) { return atoll_queue_live(queue); }
bool atoll_queue_is_shut(const atoll_queue *queue) { return atomic_load(&queue->closed); }

bool atoll_queue_is_full(const atoll_queue *queue) {
    return queue->maxsize > 0 && atoll_queue_live(queue) >= (uint64_t)queue->maxsize;
}

bool atoll_queue_ready(const atoll_queue *queue) {
    return atoll_queue_live(queue) != 0 || atomic_load(&queue->closed);
}

/* Whether an operation on this side would not have to wait. */
static bool is_ready(const atoll_queue *queue, atoll_queue_side side) {
    if (side == ATOLL_QUEUE_GET) {
        return atoll_queue_ready(queue);
    }
    return !atoll_queue_is_full(queue) || atomic_load(&queue->closed);
}

/* ---- putting ---- */

/* Under `tail`: room for a record of `span` bytes and an end after it. */
static int make_room(atoll_queue *queue, uint32_t span) {
    atoll_chunk *tail = queue->tail;
    if (tail != NULL && tail->size - queue->tail_at >= span + sizeof(atoll_record)) {
        return 0;
    }
    uint32_t least = span + (uint32_t)sizeof(atoll_record);
    atoll_chunk *chunk = atomic_exchange(&queue->spare, NULL);
    if (chunk == NULL || chunk->size < least) {
        free(chunk);
        uint32_t size = tail == NULL ? CHUNK_LEAST : tail->size < CHUNK_MOST ? tail->size * 2 : CHUNK_MOST;
        chunk = atoll_chunk_new(size < least ? least : size);
        if (chunk == NULL) {
            return -1;
        }
    }
    chunk->next = NULL;
    chunk->at = 0;
    if (tail != NULL) {
        set_end(tail, queue->tail_at);
        tail->next = chunk;
    } else {
        atomic_store(&queue->head, chunk);
    }
    queue->tail = chunk;
    queue->tail_at = 0;
    return 0;
}

atoll_queue_result atoll_queue_put(atoll_queue *queue, atoll_batch *batch) {
    atoll_queue_result result = ATOLL_QUEUE_OK;
    atoll_lock_take(&queue->tail_lock);
    uint64_t puts = atomic_load_explicit(&queue->puts, memory_order_relaxed);
    uint64_t done = 0;
    if (atomic_load_explicit(&queue->closed, memory_order_relaxed)) {
        result = ATOLL_QUEUE_SHUT;
    }
    while (result == ATOLL_QUEUE_OK && batch->count > 0) {
        if (queue->maxsize > 0 && puts + done - queue->known_gets >= (uint64_t)queue->maxsize) {
            queue->known_gets = atomic_load(&queue->gets);
            if (puts + done - queue->known_gets >= (uint64_t)queue->maxsize) {
                result = ATOLL_QUEUE_AGAIN;
                break;
            }
        }
        const atoll_record *record = (const atoll_record *)(const void *)(batch->msg.body.data + batch->at);
        uint32_t span = atoll_record_span(record->size);
        if (make_room(queue, span) < 0) {
            result = ATOLL_QUEUE_NO_MEMORY;
            break;
        }
        if (record->kind == ATOLL_RECORD_BOX) {
            atoll_box_let_go_of(atoll_record_box(record), &atoll_queue_class, queue);
        }
        atoll_record_copy(queue->tail->data + queue->tail_at, record, span);
        queue->tail_at += span;
        batch->at += span;
        batch->count--;
        done++;
    }
    atoll_test_yield();
    if (done != 0) {
        atomic_store(&queue->puts, puts + done);
        atoll_stats_set(&queue->stats->puts, puts + done);
    }
    atoll_lock_give(&queue->tail_lock);
    if (done != 0 && atomic_load(&queue->attention[ATOLL_QUEUE_GET]) != 0) {
        atoll_queue_notify(queue, ATOLL_QUEUE_GET, done);
    }
    if (result == ATOLL_QUEUE_NO_MEMORY && atomic_load(&queue->attention[ATOLL_QUEUE_PUT]) != 0) {
        atoll_queue_notify(queue, ATOLL_QUEUE_PUT, 1); /* it may have been told of the room that it leaves */
    }
    return result;
}

/* ---- getting ---- */

/* Under `head`, with an item there: its record, which is taken.  The chunk before it goes back to producers. */
static const atoll_record *take_record(atoll_queue *queue) {
    atoll_chunk *head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    for (;;) {
        const atoll_record *record = atoll_record_at(head, head->at);
        if (record->kind == ATOLL_RECORD_END) {
            atoll_chunk *next = head->next;
            free(atomic_exchange(&queue->spare, head));
            atomic_store_explicit(&queue->head, next, memory_order_relaxed);
            head = next;
            continue;
        }
        head->at += atoll_record_span(record->size);
        if (record->kind != ATOLL_RECORD_REMOVED) {
            return record;
        }
    }
}

/* Under `head`, after it has changed. */
static void show_gets(atoll_queue *queue) {
    atoll_stats_set(&queue->stats->gets, atomic_load_explicit(&queue->gets, memory_order_relaxed));
}

/* Under `head`: how many items are there, at least. */
static uint64_t items_there(atoll_queue *queue, uint64_t gets) {
    if (queue->known_puts == gets) {
        queue->known_puts = atomic_load(&queue->puts);
    }
    return queue->known_puts - gets;
}

/* After items were taken, with no lock held. */
static void taken(atoll_queue *queue, uint64_t count) {
    if (atomic_load(&queue->attention[ATOLL_QUEUE_PUT]) != 0) {
        atoll_queue_notify(queue, ATOLL_QUEUE_PUT, count);
    }
}

atoll_queue_result atoll_queue_get(atoll_queue *queue, atoll_record *out) {
    atoll_lock_take(&queue->head_lock);
    uint64_t gets = atomic_load_explicit(&queue->gets, memory_order_relaxed);
    if (items_there(queue, gets) == 0) {
        atoll_lock_give(&queue->head_lock);
        /* Nothing is put after it was shut, but something may have been between the two looks. */
        return !atomic_load(&queue->closed)   ? ATOLL_QUEUE_AGAIN
               : atoll_queue_live(queue) == 0 ? ATOLL_QUEUE_SHUT
                                              : atoll_queue_get(queue, out);
    }
    const atoll_record *record = take_record(queue);
    if (record->kind == ATOLL_RECORD_UNBOUND) {
        memcpy(out, record, sizeof *out);
    } else {
        atoll_record_copy(out, record, atoll_record_span(record->size));
    }
    atoll_test_yield();
    atomic_store(&queue->gets, gets + 1);
    atoll_stats_set(&queue->stats->gets, gets + 1);
    atoll_lock_give(&queue->head_lock);
    if (out->kind == ATOLL_RECORD_BOX) {
        atoll_box_take_hold_of(atoll_record_box(out), &atoll_queue_class, queue);
    }
    taken(queue, 1);
    return ATOLL_QUEUE_OK;
}

atoll_queue_result atoll_queue_get_many(atoll_queue *queue, size_t most, atoll_chunk *into,
                                        size_t *taken_count) {
    *taken_count = 0;
    atoll_lock_take(&queue->head_lock);
    uint64_t gets = atomic_load_explicit(&queue->gets, memory_order_relaxed);
    uint64_t done = 0;
    uint32_t at = 0;
    while (done < most && items_there(queue, gets + done) != 0) {
        const atoll_record *record = take_record(queue);
        uint32_t span = atoll_record_span(record->size);
        if (into->size - at < span + sizeof(atoll_record)) {
            /* take_record() stops in the chunk where the record is. */
            atomic_load_explicit(&queue->head, memory_order_relaxed)->at -= span;
            break;
        }
        atoll_record_copy(into->data + at, record, span);
        at += span;
        done++;
    }
    if (done != 0) {
        atomic_store(&queue->gets, gets + done);
        show_gets(queue);
    }
    atoll_lock_give(&queue->head_lock);
    set_end(into, at);
    into->at = 0;
    if (done == 0) {
        return !atomic_load(&queue->closed)   ? ATOLL_QUEUE_AGAIN
               : atoll_queue_live(queue) == 0 ? ATOLL_QUEUE_SHUT
                                              : atoll_queue_get_many(queue, most, into, taken_count);
    }
    for (uint32_t i = 0; i < at;) {
        const atoll_record *record = atoll_record_at(into, i);
        if (record->kind == ATOLL_RECORD_BOX) {
            atoll_box_take_hold_of(atoll_record_box(record), &atoll_queue_class, queue);
        }
        i += atoll_record_span(record->size);
    }
    *taken_count = done;
    taken(queue, done);
    return ATOLL_QUEUE_OK;
}

void atoll_queue_return(atoll_queue *queue, atoll_chunk *chunk, size_t count) {
    for (uint32_t i = chunk->at; atoll_record_at(chunk, i)->kind != ATOLL_RECORD_END;) {
        const atoll_record *record = atoll_record_at(chunk, i);
        if (record->kind == ATOLL_RECORD_BOX) {
            atoll_box_let_go_of(atoll_record_box(record), &atoll_queue_class, queue);
        }
        i += atoll_record_span(record->size);
    }
    atoll_lock_take(&queue->head_lock);
    chunk->next = atomic_load_explicit(&queue->head, memory_order_relaxed);
    atomic_store_explicit(&queue->head, chunk, memory_order_relaxed);
    atomic_store(&queue->gets, atomic_load_explicit(&queue->gets, memory_order_relaxed) - count);
    show_gets(queue);
    atoll_lock_give(&queue->head_lock);
    if (atomic_load(&queue->attention[ATOLL_QUEUE_GET]) != 0) {
        atoll_queue_notify(queue, ATOLL_QUEUE_GET, count);
    }
}

int atoll_queue_return_one(atoll_queue *queue, const atoll_record *record) {
    uint32_t span = atoll_record_span(record->size);
    atoll_chunk *chunk = atoll_chunk_new(span + (uint32_t)sizeof *record);
    if (chunk == NULL) {
        return -1;
    }
    if (record->kind == ATOLL_RECORD_UNBOUND) {
        memset(chunk->data, 0, span);
        memcpy(chunk->data, record, sizeof *record);
    } else {
        atoll_record_copy(chunk->data, record, span);
    }
    set_end(chunk, span);
    atoll_queue_return(queue, chunk, 1);
    return 0;
}

/* ---- waiting ---- */

/* Under `wait`: makes an event say what is so.  One that nobody uses says what it likes. */
static void update_event(atoll_queue *queue, atoll_queue_side side) {
    bool ready = is_ready(queue, side);
    if (queue->event_users[side] != 0 && queue->event_is_set[side] != ready) {
        queue->event_is_set[side] = ready;
        atoll_event_set(queue->event[side], ready);
    }
}

/* Under `wait`: takes a watch off and grants its waiter, once. */
static _Atomic(uint32_t) *fire(atoll_queue *queue) {
    atoll_watch *watch = queue->watches;
    queue->watches = watch->next;
    if (watch->next != NULL) {
        watch->next->prev = NULL;
    }
    watch->linked = false;
    atomic_fetch_sub(&queue->attention[ATOLL_QUEUE_GET], 1);
    return atoll_waiter_grant(watch->waiter);
}

void atoll_queue_notify(atoll_queue *queue, atoll_queue_side side, uint64_t count) {
    atoll_asleep asleep;
    do {
        asleep.count = 0;
        atoll_lock_take(&queue->wait_lock);
        atoll_waiters_grant(&queue->waiters[side], &queue->attention[side], &queue->spin[side], &count,
                            &asleep);
        while (asleep.count < ATOLL_ASLEEP_MOST && side == ATOLL_QUEUE_GET && queue->watches != NULL) {
            asleep.words[asleep.count] = fire(queue);
            asleep.count += asleep.words[asleep.count] != NULL;
        }
        update_event(queue, ATOLL_QUEUE_GET);
        update_event(queue, ATOLL_QUEUE_PUT);
        atoll_lock_give(&queue->wait_lock);
        atoll_test_yield();
        atoll_asleep_wake(&asleep);
    } while (asleep.count == ATOLL_ASLEEP_MOST);
}

/* More threads wait now, or fewer. */
static void count_waiting(atoll_queue *queue, atoll_queue_side side, int more) {
    atoll_stats_add_shared(side == ATOLL_QUEUE_GET ? &queue->stats->getters : &queue->stats->putters,
                           (uint64_t)more);
}

static bool can_get(void *queue) { return is_ready(queue, ATOLL_QUEUE_GET); }
static bool can_put(void *queue) { return is_ready(queue, ATOLL_QUEUE_PUT); }

atoll_wait_result atoll_queue_wait(atoll_queue *queue, atoll_queue_side side, atoll_waiter *waiter,
                                   double deadline) {
    bool (*ready)(void *) = side == ATOLL_QUEUE_GET ? can_get : can_put;
    if (atoll_waiter_spin(waiter, &queue->spin[side], ready, queue)) {
        return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
    }
    count_waiting(queue, side, 1);
    atoll_wait_result result =
        atoll_waiters_sleep(&queue->wait_lock, &queue->waiters[side], &queue->attention[side],
                            &queue->spin[side], ready, queue, waiter, deadline);
    count_waiting(queue, side, -1);
    return result;
}

static void count_watching(const atoll_watch *watches, size_t n, int more) {
    for (size_t i = 0; i < n; i++) {
        count_waiting(watches[i].queue, ATOLL_QUEUE_GET, more);
    }
}

atoll_wait_result atoll_queue_select(atoll_watch *watches, size_t n, atoll_waiter *waiter, double deadline) {
    atoll_waiter_reset(waiter);
    bool ready = false;
    for (size_t i = 0; i < n; i++) {
        atoll_watch *watch = &watches[i];
        atoll_queue *queue = watch->queue;
        watch->waiter = waiter;
        atoll_lock_take(&queue->wait_lock);
        watch->prev = NULL;
        watch->next = queue->watches;
        if (watch->next != NULL) {
            watch->next->prev = watch;
        }
        queue->watches = watch;
        watch->linked = true;
        atomic_fetch_add(&queue->attention[ATOLL_QUEUE_GET], 1);
        atoll_lock_give(&queue->wait_lock);
        ready |= atoll_queue_ready(queue);
    }
    atoll_wait_result result = ATOLL_WAIT_OK;
    if (!ready && !atomic_load(&waiter->interrupted)) {
        count_watching(watches, n, 1);
        result = atoll_waiter_block(waiter, deadline, NULL);
        count_watching(watches, n, -1);
    }
    for (size_t i = 0; i < n; i++) {
        atoll_watch *watch = &watches[i];
        atoll_queue *queue = watch->queue;
        atoll_lock_take(&queue->wait_lock);
        if (watch->linked) {
            *(watch->prev != NULL ? &watch->prev->next : &queue->watches) = watch->next;
            if (watch->next != NULL) {
                watch->next->prev = watch->prev;
            }
            atomic_fetch_sub(&queue->attention[ATOLL_QUEUE_GET], 1);
        }
        atoll_lock_give(&queue->wait_lock);
        watch->ready = atoll_queue_ready(queue);
    }
    return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : result;
}

int atoll_queue_event(atoll_queue *queue, atoll_queue_side side) {
    atoll_lock_take(&queue->wait_lock);
    if (queue->event[side] < 0) {
        queue->event[side] = atoll_event_new();
    }
    int fd = queue->event[side];
    if (fd >= 0 && queue->event_users[side]++ == 0) {
        /* From now on every put and every get looks after it. */
        atomic_fetch_add(&queue->attention[ATOLL_QUEUE_GET], 1);
        atomic_fetch_add(&queue->attention[ATOLL_QUEUE_PUT], 1);
        update_event(queue, side);
    }
    atoll_lock_give(&queue->wait_lock);
    return fd;
}

void atoll_queue_event_end(atoll_queue *queue, atoll_queue_side side) {
    atoll_lock_take(&queue->wait_lock);
    if (--queue->event_users[side] == 0) {
        atomic_fetch_sub(&queue->attention[ATOLL_QUEUE_GET], 1);
        atomic_fetch_sub(&queue->attention[ATOLL_QUEUE_PUT], 1);
    }
    atoll_lock_give(&queue->wait_lock);
}

/* ---- the end of a queue, and of a sender ---- */

void atoll_queue_shutdown(atoll_queue *queue, bool drop) {
    atoll_chunk *dropped = NULL;
    atoll_lock_take(&queue->head_lock);
    atoll_lock_take(&queue->tail_lock);
    atomic_store(&queue->closed, true);
    if (drop && queue->tail != NULL) {
        set_end(queue->tail, queue->tail_at);
        dropped = atomic_load(&queue->head);
        atomic_store(&queue->head, NULL);
        queue->tail = NULL;
        queue->known_puts = atomic_load(&queue->puts);
        atomic_store(&queue->gets, queue->known_puts);
        show_gets(queue);
    }
    atoll_stats_set(&queue->stats->shut, 1);
    atoll_lock_give(&queue->tail_lock);
    atoll_lock_give(&queue->head_lock);
    free_chunks(dropped);
    atoll_queue_notify(queue, ATOLL_QUEUE_GET, UINT64_MAX);
    atoll_queue_notify(queue, ATOLL_QUEUE_PUT, UINT64_MAX);
}

void atoll_queue_unbind(atoll_queue *queue, int64_t sender, atoll_box **dead) {
    uint64_t removed = 0;
    atoll_lock_take(&queue->head_lock);
    atoll_lock_take(&queue->tail_lock);
    for (atoll_chunk *chunk = atomic_load(&queue->head); chunk != NULL; chunk = chunk->next) {
        uint32_t end = chunk == queue->tail ? queue->tail_at : UINT32_MAX;
        for (uint32_t at = chunk->at; at < end;) {
            atoll_record *record = (atoll_record *)(void *)(chunk->data + at);
            if (record->kind == ATOLL_RECORD_END) {
                break;
            }
            at += atoll_record_span(record->size);
            if (record->sender != sender || record->kind >= ATOLL_RECORD_UNBOUND ||
                record->unbound == ATOLL_UNBOUND_KEEP) {
                continue;
            }
            if (record->kind == ATOLL_RECORD_BOX) {
                atoll_box *box = atoll_record_box(record);
                box->next = *dead;
                *dead = box;
            }
            bool remove = record->unbound == ATOLL_UNBOUND_REMOVE;
            record->kind = remove ? ATOLL_RECORD_REMOVED : ATOLL_RECORD_UNBOUND;
            removed += remove;
        }
    }
    queue->known_puts = atomic_load(&queue->puts); /* it must not be behind gets */
    atomic_fetch_add(&queue->gets, removed);
    show_gets(queue);
    atoll_lock_give(&queue->tail_lock);
    atoll_lock_give(&queue->head_lock);
    if (removed != 0) {
        taken(queue, removed);
    }
}

void atoll_queue_lock_all(atoll_queue *queue) {
    atoll_lock_take(&queue->head_lock);
    atoll_lock_take(&queue->tail_lock);
    atoll_lock_take(&queue->wait_lock);
}

void atoll_queue_unlock_all(atoll_queue *queue, bool forked) {
    if (forked) {
        queue->watches = NULL;
        uint32_t events = (queue->event_users[0] != 0) + (queue->event_users[1] != 0);
        for (int side = 0; side < 2; side++) {
            queue->waiters[side].first = queue->waiters[side].last = NULL;
            atomic_store(&queue->attention[side], events);
            if (queue->event[side] >= 0) {
                atoll_event_renew(queue->event[side]);
                queue->event_is_set[side] = false;
                update_event(queue, side);
            }
        }
    }
    atoll_lock_give(&queue->wait_lock);
    atoll_lock_give(&queue->tail_lock);
    atoll_lock_give(&queue->head_lock);
}
