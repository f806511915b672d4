#include "core/registry/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define GATE_CLOSING (UINT64_C(1) << 63)
#define GATE_BAR (UINT64_C(1) << 48)
#define GATE_BARS (UINT64_C(0x3fff) << 48)
#define GATE_GUARD (UINT64_C(1) << 32)
#define GATE_PINS UINT64_C(0xffffffff)

static atoll_mutex registry_lock = ATOLL_MUTEX_INIT;
static atoll_entry *registry_head; /* newest first */
static uint64_t serials;

/* After it has changed.  Two threads that have each changed it may come here in another order: whoever is last has shown what it is.  It is
 * exchanged, not stored: emulators of Arm let a load pass a store before it, though both are sequentially consistent. */
static void show_life(atoll_entry *entry) {
    int life;
    do {
        life = atomic_load(&entry->life);
        (void)atomic_exchange(&entry->stats->life, (uint64_t)life);
    } while (life != atomic_load(&entry->life));
}

atoll_entry *atoll_registry_add(int64_t id, void *interp, bool owned) {
    atoll_entry *entry = calloc(1, sizeof *entry);
    if (entry == NULL) {
        return NULL;
    }
    entry->stats = atoll_stats_interp_new(id, owned);
    if (entry->stats == NULL) {
        free(entry);
        return NULL;
    }
    atoll_stats_set(&entry->stats->life, owned ? ATOLL_LIFE_SPARE : ATOLL_LIFE_OPEN);
    entry->id = id;
    entry->interp = interp;
    entry->owned = owned;
    entry->listed = true;
    atomic_init(&entry->gate, owned ? GATE_CLOSING : 0);
    atomic_init(&entry->life, owned ? ATOLL_LIFE_SPARE : ATOLL_LIFE_OPEN);
    atomic_init(&entry->refs, 2); /* the caller's and the registry's */
    atoll_mutex_init(&entry->lock);
    atoll_mutex_lock(&registry_lock);
    entry->serial = ++serials;
    entry->next = registry_head;
    if (registry_head != NULL) {
        registry_head->prev = entry;
    }
    registry_head = entry;
    atoll_mutex_unlock(&registry_lock);
    return entry;
}

void atoll_registry_remove(atoll_entry *entry) {
    atoll_mutex_lock(&registry_lock);
    bool listed = entry->listed;
    if (listed) {
        entry->listed = false;
        if (entry->prev != NULL) {
            entry->prev->next = entry->next;
        } else {
            registry_head = entry->next;
        }
        if (entry->next != NULL) {
            entry->next->prev = entry->prev;
        }
        entry->prev = entry->next = NULL;
    }
    atoll_mutex_unlock(&registry_lock);
    if (listed) {
        atoll_stats_interp_end(entry->stats);
        atoll_entry_release(entry);
    }
}

atoll_entry *atoll_registry_find(int64_t id) {
    atoll_mutex_lock(&registry_lock);
    atoll_entry *entry = registry_head;
    while (entry != NULL && entry->id != id) {
        entry = entry->next;
    }
    if (entry != NULL) {
        atoll_entry_retain(entry);
    }
    atoll_mutex_unlock(&registry_lock);
    return entry;
}

atoll_entry *atoll_registry_newest(int64_t below, bool (*want)(const atoll_entry *)) {
    atoll_mutex_lock(&registry_lock);
    atoll_entry *best = NULL;
    for (atoll_entry *entry = registry_head; entry != NULL; entry = entry->next) {
        if (entry->owned && entry->id < below && (best == NULL || entry->id > best->id) && want(entry)) {
            best = entry;
        }
    }
    if (best != NULL) {
        atoll_entry_retain(best);
    }
    atoll_mutex_unlock(&registry_lock);
    return best;
}

void atoll_entry_set_name(atoll_entry *entry, const char *name) {
    atoll_stats_cut(entry->name, sizeof entry->name, name);
    atoll_stats_interp_name(entry->stats, entry->name);
}

const char *atoll_entry_label(const atoll_entry *entry, atoll_label *label) {
    bool named = entry->name[0] != '\0';
    (void)snprintf(label->text, sizeof label->text, named ? "%" PRId64 " ('%s')" : "%" PRId64, entry->id,
                   entry->name);
    return label->text;
}

void atoll_entry_retain(atoll_entry *entry) {
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
}

void atoll_entry_release(atoll_entry *entry) {
    if (atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&entry->lock);
        atoll_stats_interp_free(entry->stats);
        free(entry);
    }
}

void atoll_entry_add_user(atoll_entry *entry) {
    atoll_entry_retain(entry);
    atomic_fetch_add_explicit(&entry->users, 1, memory_order_relaxed);
}

bool atoll_entry_remove_user(atoll_entry *entry) {
    bool last = atomic_fetch_sub_explicit(&entry->users, 1, memory_order_acq_rel) == 1 && entry->owned;
    atoll_entry_release(entry);
    return last;
}

void atoll_entry_unpin(atoll_entry *entry) {
    uint64_t before = atomic_fetch_sub(&entry->gate, 1);
    if ((before & GATE_BARS) != 0 && (before & GATE_PINS) == 1) {
        atoll_entry_tell(entry);
    }
}

/* seq_cst, because a session that starts and a close that starts must not both miss each other. */
bool atoll_entry_pin(atoll_entry *entry) {
    uint64_t before = atomic_fetch_add(&entry->gate, 1);
    if ((before & (GATE_CLOSING | GATE_BARS)) != 0) {
        atoll_entry_unpin(entry);
        return false;
    }
    return true;
}

bool atoll_entry_guard(atoll_entry *entry) {
    uint64_t before = atomic_fetch_add(&entry->gate, GATE_GUARD);
    if ((before & GATE_CLOSING) != 0) {
        atoll_entry_unguard(entry);
        return false;
    }
    return true;
}

void atoll_entry_unguard(atoll_entry *entry) { atomic_fetch_sub(&entry->gate, GATE_GUARD); }

void atoll_entry_bar(atoll_entry *entry) { atomic_fetch_add(&entry->gate, GATE_BAR); }

void atoll_entry_unbar(atoll_entry *entry) {
    uint64_t gate = atomic_load(&entry->gate); /* in a child that was forked meanwhile there is none */
    while ((gate & GATE_BARS) != 0 && !atomic_compare_exchange_weak(&entry->gate, &gate, gate - GATE_BAR)) {
    }
}

bool atoll_entry_is_barred(const atoll_entry *entry) { return (atomic_load(&entry->gate) & GATE_BARS) != 0; }

bool atoll_entry_is_being_closed(const atoll_entry *entry) {
    return atoll_entry_is_open(entry) ||
           (atoll_entry_is_barred(entry) && atoll_entry_life(entry) <= ATOLL_LIFE_CLOSING);
}

void atoll_entry_tell(atoll_entry *entry) {
    atoll_waiters_wake(&entry->leaving, &entry->closers, NULL, NULL, UINT32_MAX);
}

atoll_wait_result atoll_entry_await(atoll_entry *entry, bool (*ready)(void *what), void *what,
                                    atoll_waiter *waiter, double deadline) {
    return atoll_waiters_sleep(&entry->leaving, &entry->closers, NULL, NULL, ready, what, waiter, deadline);
}

bool atoll_entry_is_open(const atoll_entry *entry) { return (atomic_load(&entry->gate) & GATE_CLOSING) == 0; }

uint32_t atoll_entry_pins(const atoll_entry *entry) {
    return (uint32_t)(atomic_load(&entry->gate) & GATE_PINS);
}

bool atoll_entry_is_left(void *entry) { return atoll_entry_pins(entry) == 0 || !atoll_entry_is_open(entry); }

/* Of one that is no spare; `bar` is 0 or GATE_BAR. */
static atoll_close_result begin_close(atoll_entry *entry, uint64_t bar) {
    uint64_t gate = atomic_load(&entry->gate);
    do {
        if ((gate & GATE_CLOSING) != 0) {
            return ATOLL_CLOSE_GONE;
        }
        if ((gate & GATE_PINS) != 0) {
            return ATOLL_CLOSE_BUSY;
        }
    } while (!atomic_compare_exchange_weak(&entry->gate, &gate, (gate | GATE_CLOSING) + bar));
    atoll_test_yield();
    atoll_entry_set_life(entry, ATOLL_LIFE_CLOSING);
    /* A refused pin or a guard may still be counted for an instant. */
    while ((atomic_load(&entry->gate) & ~GATE_BARS) != GATE_CLOSING) {
        atoll_yield();
    }
    return atoll_entry_life(entry) != ATOLL_LIFE_LEFT ? ATOLL_CLOSE_BEGUN : ATOLL_CLOSE_GONE;
}

atoll_close_result atoll_entry_begin_close(atoll_entry *entry) {
    int life = ATOLL_LIFE_SPARE;
    if (atomic_compare_exchange_strong(&entry->life, &life, ATOLL_LIFE_CLOSING)) {
        show_life(entry);
        return ATOLL_CLOSE_BEGUN;
    }
    return begin_close(entry, 0);
}

atoll_close_result atoll_entry_begin_close_barred(atoll_entry *entry) { return begin_close(entry, GATE_BAR); }

void atoll_entry_open(atoll_entry *entry) {
    atoll_entry_set_life(entry, ATOLL_LIFE_OPEN);
    if (atoll_entry_life(entry) == ATOLL_LIFE_OPEN) {
        atomic_fetch_and(&entry->gate, ~GATE_CLOSING);
    }
    if (atoll_entry_life(entry) == ATOLL_LIFE_LEFT) { /* meanwhile */
        atomic_fetch_or(&entry->gate, GATE_CLOSING);
    }
}

atoll_life atoll_entry_life(const atoll_entry *entry) { return (atoll_life)atomic_load(&entry->life); }

void atoll_entry_set_life(atoll_entry *entry, atoll_life life) {
    int now = atomic_load(&entry->life);
    while (now != ATOLL_LIFE_LEFT && !atomic_compare_exchange_weak(&entry->life, &now, (int)life)) {
    }
    show_life(entry);
    atoll_entry_tell(entry);
}

void atoll_entry_leave(atoll_entry *entry) {
    atomic_store(&entry->life, ATOLL_LIFE_LEFT); /* first: whoever opens the gate looks at it afterwards */
    show_life(entry);
    atomic_fetch_or(&entry->gate, GATE_CLOSING);
}

bool atoll_entry_claim_zombie(atoll_entry *entry) {
    int life = ATOLL_LIFE_ZOMBIE;
    bool claimed = atomic_compare_exchange_strong(&entry->life, &life, ATOLL_LIFE_STOPPING);
    show_life(entry);
    return claimed;
}

void atoll_entry_add_wait(atoll_entry *entry, atoll_waiter *waiter) {
    atoll_mutex_lock(&entry->lock);
    waiter->entry_prev = NULL;
    waiter->entry_next = entry->waits;
    if (entry->waits != NULL) {
        entry->waits->entry_prev = waiter;
    }
    entry->waits = waiter;
    atoll_mutex_unlock(&entry->lock);
}

void atoll_entry_remove_wait(atoll_entry *entry, atoll_waiter *waiter) {
    atoll_mutex_lock(&entry->lock);
    *(waiter->entry_prev != NULL ? &waiter->entry_prev->entry_next : &entry->waits) = waiter->entry_next;
    if (waiter->entry_next != NULL) {
        waiter->entry_next->entry_prev = waiter->entry_prev;
    }
    atoll_mutex_unlock(&entry->lock);
}

void atoll_entry_interrupt_waits(atoll_entry *entry) {
    atoll_mutex_lock(&entry->lock);
    for (atoll_waiter *waiter = entry->waits; waiter != NULL; waiter = waiter->entry_next) {
        atoll_waiter_interrupt(waiter);
    }
    atoll_mutex_unlock(&entry->lock);
}

/* seq_cst, as is who takes them: who pushes looks afterwards whether the interpreter has ended, and who ends it takes what is there
 * afterwards. */
bool atoll_entry_push_job(atoll_entry *entry, atoll_job *job) {
    atoll_job *head = atomic_load_explicit(&entry->jobs, memory_order_relaxed);
    do {
        job->next = head;
    } while (!atomic_compare_exchange_weak(&entry->jobs, &head, job));
    return head == NULL;
}

atoll_job *atoll_entry_take_jobs(atoll_entry *entry) {
    if (atomic_load(&entry->jobs) == NULL) {
        return NULL;
    }
    atoll_job *job = atomic_exchange(&entry->jobs, NULL);
    atoll_job *oldest = NULL;
    while (job != NULL) {
        atoll_job *next = job->next;
        job->next = oldest;
        oldest = job;
        job = next;
    }
    return oldest;
}

void atoll_entry_run_jobs(atoll_entry *entry, bool alive) {
    atoll_job *job = atoll_entry_take_jobs(entry);
    while (job != NULL) {
        atoll_job *next = job->next;
        job->run(job, alive);
        job = next;
    }
}

void atoll_registry_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_mutex_fork(&registry_lock, when);
    }
    for (atoll_entry *entry = registry_head; entry != NULL; entry = entry->next) {
        atoll_mutex_fork(&entry->lock, when);
    }
    if (when != ATOLL_FORK_BEFORE) {
        atoll_mutex_fork(&registry_lock, when);
    }
}

void atoll_registry_keep_only(const void *interp) {
    for (atoll_entry *entry = registry_head; entry != NULL; entry = entry->next) {
        bool kept = entry->interp == interp;
        entry->waits = NULL;
        entry->cached = NULL;
        entry->line = (atoll_line){0}; /* its tasks are of pools that are not here */
        entry->leaving = (atoll_lock){0};
        entry->closers = (atoll_waiters){0};
        atomic_store(&entry->orphans, 0);
        atomic_store(&entry->runs_taken, false);
        entry->runs = NULL;
        atomic_store(&entry->gate, kept ? 0 : GATE_CLOSING); /* sessions of other threads are not here */
        atomic_store(&entry->life, kept ? ATOLL_LIFE_OPEN : ATOLL_LIFE_LEFT);
        show_life(entry);
        if (kept) {
            entry->owned = false; /* it ends with the process */
            atoll_stats_set(&entry->stats->kind, 0);
        }
    }
}

/* Its thread states are gone: the tables that find them free what they have. */
static void forget_thread_states(atoll_entry *entry) {
    atoll_mutex_lock(&entry->lock);
    atoll_cached *node = entry->cached;
    entry->cached = NULL;
    while (node != NULL) {
        atoll_cached *next = node->next;
        node->tstate = NULL;
        if (node->orphan) {
            free(node);
            atoll_entry_release(entry); /* the caller has one */
        }
        node = next;
    }
    atoll_mutex_unlock(&entry->lock);
}

void atoll_registry_forget(void) {
    for (;;) {
        atoll_mutex_lock(&registry_lock);
        atoll_entry *entry = registry_head;
        if (entry != NULL) {
            atoll_entry_retain(entry);
        }
        atoll_mutex_unlock(&registry_lock);
        if (entry == NULL) {
            return;
        }
        atoll_entry_leave(entry);
        forget_thread_states(entry);
        atoll_registry_remove(entry);
        atoll_entry_run_jobs(entry, false);
        atoll_entry_release(entry);
    }
}
