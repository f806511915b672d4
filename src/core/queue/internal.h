/* What the files of core/queue share. */
#ifndef ATOLL_CORE_QUEUE_INTERNAL_H
#define ATOLL_CORE_QUEUE_INTERNAL_H

#include "core/base/base.h"
#include "core/queue/queue.h"

#define CACHE_LINE 64

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): each side has cache lines of its own */
struct atoll_queue {
    atoll_link link; /* in atoll_queues, by id */
    int64_t id;
    int64_t maxsize;
    uint8_t unbound;
    _Atomic(bool) closed; /* changed under `tail` */
    _Atomic(uint32_t) refs;
    atoll_stats_queue *stats;
    atoll_spin spin[2]; /* by side */
    /* How many wait on a side, watches and events included: whoever sees 0 has nobody to tell. */
    _Atomic(uint32_t) attention[2];

    /* Producers */
    atoll_lock tail_lock __attribute__((aligned(CACHE_LINE)));
    uint32_t tail_at; /* where the next record goes in tail->data */
    atoll_chunk *tail;
    uint64_t known_gets;
    _Atomic(uint64_t) puts;

    /* Consumers */
    atoll_lock head_lock __attribute__((aligned(CACHE_LINE)));
    _Atomic(atoll_chunk *) head; /* NULL until the first put, which sets it */
    uint64_t known_puts;
    _Atomic(uint64_t) gets; /* got or removed */

    /* Those who wait */
    atoll_lock wait_lock __attribute__((aligned(CACHE_LINE)));
    _Atomic(atoll_chunk *) spare; /* an empty chunk on its way back from consumers to producers */
    atoll_waiters waiters[2];
    atoll_watch *watches;
    int event[2]; /* file descriptors, -1: none */
    bool event_is_set[2];
    uint32_t event_users[2];
};

/* Bytes of a record with its padding. */
static inline uint32_t atoll_record_span(uint32_t size) {
    return (uint32_t)sizeof(atoll_record) + ((size + 7U) & ~7U);
}

/* Copies a whole record, padding included: nearly always so short that a call of memcpy would cost more. */
static inline void atoll_record_copy(void *to, const void *from, uint32_t span) {
    if (span > 64) {
        memcpy(to, from, span);
        return;
    }
    for (uint32_t i = 0; i < span; i += 8) {
        memcpy((uint8_t *)to + i, (const uint8_t *)from + i, 8);
    }
}

static inline const atoll_record *atoll_record_at(const atoll_chunk *chunk, uint32_t at) {
    return (const atoll_record *)(const void *)(chunk->data + at);
}

static inline atoll_box *atoll_record_box(const atoll_record *record) {
    atoll_box *box;
    memcpy(&box, record + 1, sizeof box);
    return box;
}

/* Tells whoever waits that `count` items (or places) more are there.  No lock held. */
void atoll_queue_notify(atoll_queue *queue, atoll_queue_side side, uint64_t count);

static inline uint64_t atoll_queue_live(const atoll_queue *queue) {
    /* gets first: it never passes puts, so the difference cannot be negative. */
    uint64_t gets = atomic_load(&queue->gets);
    return atomic_load(&queue->puts) - gets;
}

/* queue.c */
extern atoll_list atoll_queues;
/* Marks or removes what `sender` put; the boxes to release are added to *dead. */
void atoll_queue_unbind(atoll_queue *queue, int64_t sender, atoll_box **dead);
void atoll_queue_lock_all(atoll_queue *queue);
/* forked: waiting threads do not exist here. */
void atoll_queue_unlock_all(atoll_queue *queue, bool forked);

/* A queue's own handle in its own message does not count: see "Lifetime". */
void atoll_box_let_go_of(atoll_box *box, const atoll_handle_class *cls, void *queue);
void atoll_box_take_hold_of(atoll_box *box, const atoll_handle_class *cls, void *queue);
void atoll_box_free(atoll_box *box);

#endif
