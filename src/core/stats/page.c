/* The page and its slots.  See stats.h.
 *
 * Each kind of slots is a range of the page with a list of those that were given back; while there are none of these, the next that was
 * never used is taken, so that a page of which little is used takes little memory.
 */
#include "core/stats/stats.h"

#include <stdlib.h>
#include <string.h>

static const char file_name[] = "atoll-stats";

enum { INTERPS, QUEUES, POOLS, KINDS };

enum { CHANGES_BITS = 16 }; /* of a slot's `seq`: how often who has it has changed it; above, who that is */

typedef struct {
    size_t size;
    uint32_t most;
    uint32_t *free; /* numbers of slots that were given back; room for all */
    uint32_t nfree;
} kind;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_stats_header *page;
static size_t page_size;
static atoll_page file; /* where the page is */
static uint64_t taken;  /* slots, of all kinds */
static kind kinds[KINDS] = {
    {sizeof(atoll_stats_interp), ATOLL_STATS_INTERPS, NULL, 0},
    {sizeof(atoll_stats_queue), ATOLL_STATS_QUEUES, NULL, 0},
    {sizeof(atoll_stats_pool), ATOLL_STATS_POOLS, NULL, 0},
};

_Static_assert(sizeof(atoll_stats_interp) == 512 && sizeof(atoll_stats_queue) == 192 &&
                   sizeof(atoll_stats_pool) == 512 && (int)ATOLL_STAT_WORDS <= 48,
               "atoll/_stats/page.py has these numbers");

static void *range_of(int which) {
    uint32_t at = which == INTERPS ? page->interps.at : which == QUEUES ? page->queues.at : page->pools.at;
    return (char *)page + at;
}

static _Atomic(uint32_t) *used_of(int which) {
    return which == INTERPS ? &page->interps.used : which == QUEUES ? &page->queues.used : &page->pools.used;
}

/* ---- the page ---- */

static void begin_header_locked(void) {
    uint32_t at = 4096;
    page->version = ATOLL_STATS_VERSION;
    page->words = ATOLL_STAT_WORDS;
    page->interps.at = at;
    page->interps.size = sizeof(atoll_stats_interp);
    page->interps.most = ATOLL_STATS_INTERPS;
    at += ATOLL_STATS_INTERPS * (uint32_t)sizeof(atoll_stats_interp);
    page->queues.at = at;
    page->queues.size = sizeof(atoll_stats_queue);
    page->queues.most = ATOLL_STATS_QUEUES;
    at += ATOLL_STATS_QUEUES * (uint32_t)sizeof(atoll_stats_queue);
    page->pools.at = at;
    page->pools.size = sizeof(atoll_stats_pool);
    page->pools.most = ATOLL_STATS_POOLS;
    _Static_assert(sizeof *page <= 4096, "the slots begin behind the header");
}

static void begin_clock_locked(void) {
    atoll_stats_set(&page->pid, (uint64_t)atoll_thread_main_number());
    (void)atoll_tick_ns(); /* the longer ago, the more exact */
    atoll_stats_set(&page->ns, atoll_clock_ns());
    atoll_stats_set(&page->ticks, atoll_ticks());
}

/* 0, or -1 when out of memory. */
static int make_page_locked(void) {
    if (page != NULL) {
        return 0;
    }
    size_t size = 4096 + ATOLL_STATS_INTERPS * sizeof(atoll_stats_interp) +
                  ATOLL_STATS_QUEUES * sizeof(atoll_stats_queue) +
                  ATOLL_STATS_POOLS * sizeof(atoll_stats_pool);
    for (int which = 0; which < KINDS; which++) {
        if (kinds[which].free == NULL &&
            (kinds[which].free = malloc(kinds[which].most * sizeof(uint32_t))) == NULL) {
            return -1;
        }
    }
    if (atoll_page_make(file_name, size, &file) < 0) {
        return -1;
    }
    page = file.data;
    page_size = size;
    begin_header_locked();
    begin_clock_locked();
    uint64_t magic;
    memcpy(&magic, "ATOLLST", sizeof magic);
    atomic_store_explicit((_Atomic(uint64_t) *)(void *)page->magic, magic,
                          memory_order_release); /* last: another process may have found the file */
    return 0;
}

const atoll_stats_header *atoll_stats_page(size_t *size) {
    atoll_mutex_lock(&lock);
    const atoll_stats_header *header = page;
    *size = page_size;
    atoll_mutex_unlock(&lock);
    return header;
}

int atoll_stats_file(void) {
    atoll_mutex_lock(&lock);
    int fd = page != NULL ? file.fd : -1;
    atoll_mutex_unlock(&lock);
    return fd;
}

/* ---- slots ---- */

/* A slot whose words are 0 and whose first is odd: it is being written.  NULL when out of memory. */
static void *take(int which) {
    kind *k = &kinds[which];
    char *slot = NULL;
    atoll_mutex_lock(&lock);
    uint64_t seq = ++taken << CHANGES_BITS | 1;
    if (make_page_locked() == 0) {
        _Atomic(uint32_t) *used = used_of(which);
        uint32_t next = atomic_load_explicit(used, memory_order_relaxed);
        if (k->nfree > 0) {
            slot = (char *)range_of(which) + k->free[--k->nfree] * k->size;
        } else if (next < k->most) {
            slot = (char *)range_of(which) + next * k->size;
            atomic_store_explicit(used, next + 1, memory_order_release);
        } else {
            slot = aligned_alloc(64, k->size);
            if (slot != NULL) {
                memset(slot, 0, k->size);
            }
        }
    }
    atoll_mutex_unlock(&lock);
    if (slot != NULL) {
        atomic_store_explicit((atoll_counter *)(void *)slot, seq, memory_order_release);
    }
    return slot;
}

/* What belongs together has been written: it may be read. */
static void publish(atoll_counter *seq) {
    atomic_store_explicit(seq, atoll_stats_get(seq) + 1, memory_order_release);
}

/* It is going to be written again. */
static void begin_change(atoll_counter *seq) {
    atomic_store_explicit(seq, atoll_stats_get(seq) + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

/* Nobody has it any more. */
static void give(int which, void *slot) {
    kind *k = &kinds[which];
    atoll_counter *words = slot;
    char *range = range_of(which);
    if ((char *)slot < range || (char *)slot >= range + k->most * k->size) {
        free(slot);
        return;
    }
    /* It was being written all along, if it was never seen or has ended. */
    atomic_store_explicit(words, atoll_stats_get(words) | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    for (size_t i = 1; i < k->size / sizeof *words; i++) {
        atoll_stats_set(&words[i], 0);
    }
    atoll_test_yield();
    atomic_store_explicit(words, 0, memory_order_release);
    atoll_mutex_lock(&lock);
    k->free[k->nfree++] = (uint32_t)((size_t)((char *)slot - range) / k->size);
    atoll_mutex_unlock(&lock);
}

void atoll_stats_cut(char *to, size_t size, const char *name) {
    size_t length = strnlen(name, size - 1);
    while (name[length] != '\0' && length > 0 && ((unsigned char)name[length] & 0xC0) == 0x80) {
        length--;
    }
    memcpy(to, name, length);
    memset(to + length, 0, size - length);
}

static void write_name(atoll_counter *to, const char *name) {
    char text[ATOLL_STATS_NAME];
    atoll_stats_cut(text, sizeof text, name);
    for (size_t i = 0; i < sizeof text / sizeof(uint64_t); i++) {
        uint64_t word;
        memcpy(&word, text + i * sizeof word, sizeof word);
        atoll_stats_set(&to[i], word);
    }
}

static void change_name(atoll_counter *seq, atoll_counter *words, const char *name) {
    atoll_mutex_lock(&lock);
    begin_change(seq);
    write_name(words, name);
    publish(seq);
    atoll_mutex_unlock(&lock);
}

atoll_stats_interp *atoll_stats_interp_new(int64_t id, bool owned) {
    atoll_stats_interp *stats = take(INTERPS);
    if (stats == NULL) {
        return NULL;
    }
    atoll_stats_set(&stats->id, (uint64_t)id);
    atoll_stats_set(&stats->born, atoll_clock_ns());
    atoll_stats_set(&stats->kind, owned ? ATOLL_STATS_OWNED : 0);
    if (owned) {
        atoll_stats_add_shared(&page->created, 1);
    }
    publish(&stats->seq);
    return stats;
}

void atoll_stats_interp_name(atoll_stats_interp *stats, const char *name) {
    change_name(&stats->seq, stats->name, name);
}

/* What does not stay when an interpreter has gone: it says what is so now. */
static bool is_sum(atoll_stat which) {
    return (which >= ATOLL_STAT_CALLS && which <= ATOLL_STAT_CALLED) ||
           (which >= ATOLL_STAT_SENT && which <= ATOLL_STAT_GIL_TICKS) || which == ATOLL_STAT_WAITS ||
           which == ATOLL_STAT_WAIT_TICKS;
}

void atoll_stats_interp_end(atoll_stats_interp *stats) {
    atomic_fetch_add(&page->ending, 1);
    begin_change(&stats->seq); /* and it stays so: who reads passes it over */
    if ((atoll_stats_get(&stats->kind) & ATOLL_STATS_OWNED) != 0) {
        atoll_stats_add_shared(&page->closed, 1);
    }
    for (int which = 0; which < ATOLL_STAT_WORDS; which++) {
        if (is_sum((atoll_stat)which)) {
            atoll_stats_add_shared(&page->past[which], atoll_stat_get(stats, (atoll_stat)which));
        }
    }
    atomic_fetch_add(&page->ended, 1);
}

void atoll_stats_interp_free(atoll_stats_interp *stats) { give(INTERPS, stats); }

atoll_stats_queue *atoll_stats_queue_new(int64_t maxsize) {
    atoll_stats_queue *stats = take(QUEUES);
    if (stats != NULL) {
        atoll_stats_set(&stats->maxsize, maxsize > 0 ? (uint64_t)maxsize : 0);
    }
    return stats;
}

void atoll_stats_queue_name(atoll_stats_queue *stats, int64_t id) {
    atoll_stats_set(&stats->id, (uint64_t)id);
    publish(&stats->seq);
}

void atoll_stats_queue_free(atoll_stats_queue *stats) { give(QUEUES, stats); }

atoll_stats_pool *atoll_stats_pool_new(uint32_t max_workers) {
    static _Atomic(uint64_t) last_id;
    atoll_stats_pool *stats = take(POOLS);
    if (stats != NULL) {
        atoll_stats_set(&stats->id, atomic_fetch_add(&last_id, 1) + 1);
        atoll_stats_set(&stats->max_workers, max_workers);
        publish(&stats->seq);
    }
    return stats;
}

void atoll_stats_pool_name(atoll_stats_pool *stats, const char *name) {
    change_name(&stats->seq, stats->name, name);
}

void atoll_stats_pool_free(atoll_stats_pool *stats) { give(POOLS, stats); }

/* ---- reading ---- */

enum { READS = 1000 }; /* then who writes was stopped in the midst of it */

bool atoll_stats_read(const atoll_counter *slot, size_t count, uint64_t *words) {
    for (int i = 0; i < READS; i++) {
        uint64_t seq = atomic_load_explicit(slot, memory_order_acquire);
        if (seq == 0) {
            return false;
        }
        /* Each before the next, and so all of them before `seq` is read again. */
        for (size_t at = 0; at < count; at++) {
            words[at] = atomic_load_explicit(&slot[at], memory_order_acquire);
        }
        if (seq % 2 == 0 && atoll_stats_get(slot) == seq) {
            return true;
        }
    }
    return false;
}

/* ---- fork ---- */

/* Counters begin anew; what things are, and how many items are in queues, stays. */
static void begin_anew(void) {
    atoll_stats_interp *interps = range_of(INTERPS);
    for (uint32_t i = 0; i < page->interps.used; i++) {
        atoll_stats_set(&interps[i].turn, 0);
        for (int which = 0; which < ATOLL_STAT_WORDS; which++) {
            bool is_size = which >= ATOLL_STAT_MODULES;
            atoll_stat_set(&interps[i], (atoll_stat)which,
                           is_size ? atoll_stat_get(&interps[i], (atoll_stat)which) : 0);
        }
    }
    atoll_stats_queue *queues = range_of(QUEUES);
    for (uint32_t i = 0; i < page->queues.used; i++) {
        atoll_stats_set(&queues[i].getters, 0); /* who waits is not here */
        atoll_stats_set(&queues[i].putters, 0);
    }
    atoll_stats_pool *pools = range_of(POOLS);
    for (uint32_t i = 0; i < page->pools.used; i++) {
        atoll_stats_set(&pools[i].seq,
                        0); /* they are not the child's: nobody writes to them, or gives them back */
    }
    memset(page->past, 0, sizeof page->past);
    atoll_stats_set(&page->ending, 0);
    atoll_stats_set(&page->ended, 0);
    atoll_stats_set(&page->created, 0);
    atoll_stats_set(&page->closed, 0);
    begin_clock_locked();
}

void atoll_stats_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lock, when);
    if (when != ATOLL_FORK_CHILD || page == NULL) {
        return;
    }
    const atoll_page_part parts[] = {
        {0, sizeof *page},
        {page->interps.at, page->interps.used * sizeof(atoll_stats_interp)},
        {page->queues.at, page->queues.used * sizeof(atoll_stats_queue)},
        {page->pools.at, page->pools.used * sizeof(atoll_stats_pool)},
    };
    atoll_page_renew(file_name, &file, parts, sizeof parts / sizeof *parts);
    begin_anew();
}
