/* What each interpreter has of CPython's memory, and the limits of that.
 *
 * An account is kept for each interpreter but for main's limits, which there are none of: the bytes of its arenas (arena.c), and those of its
 * blocks that are too large for arenas (noted.c).  That is what the interpreter has taken from the process: an arena counts whole, however
 * little of it is used.  What C code takes from malloc by itself, and CPython's own raw memory, is nobody's.
 *
 * A limit is kept where memory is taken:
 *
 *   a large block   refused when the sum would be larger: CPython raises MemoryError
 *   an arena        refused likewise, and nothing is raised: CPython then takes each small block that has no place in an arena from malloc, where
 *                   it is noted as a large one is.  So the last MiB below the limit is given out block by block
 *   a small block   that is taken like this: refused when the sum would be larger
 *
 * Whoever handles a MemoryError needs memory for it.  So once something was refused, small blocks may go RESERVE bytes beyond the
 * limit, until the interpreter has as much below it again; while Atoll describes the exception, or ends the interpreter, HEADROOM more.
 *
 * Ownership.  Accounts stay in their chain for ever, where any thread finds them without a lock; one whose interpreter is gone is used for
 * another.  An account is opened by the first memory that is taken, and closed when nothing of its interpreter's is noted any more, by the thread
 * that has ended it.  (Interpreters that Atoll did not make are not known to end: their accounts stay.)
 *
 * Locks: none.  What is added comes from the thread that has the interpreter's GIL, so that two never open one account; a block may be given back
 * by any thread, so that sums are atomic.  Failure: without memory for an account nothing is counted, and no limit can be set.
 */
#include "py/memory/account.h"

#include "py/memory/owner.h"

#include <stdatomic.h>
#include <stdlib.h>

#define CHAINS 1024

typedef struct account {
    struct account *next;
    _Atomic(int64_t) key; /* its owner and 1; 0: free */
    _Atomic(int64_t) bytes[ATOLL_MEMORY_KINDS];
    _Atomic(uint64_t) limit; /* 0: none */
    _Atomic(uint64_t) refusals;
    _Atomic(int) relaxed;       /* that many have asked for headroom, which is for blocks only */
    _Atomic(bool) into_reserve; /* something was refused */
    _Atomic(uint64_t) soft;     /* 0: none */
    _Atomic(int) crossed;
    _Atomic(atoll_stats_interp *) stats;
    _Atomic(void *) kept; /* malloc */
} account;

enum { NOT_CROSSED, CROSSED, TOLD };

static _Atomic(account *) chains[CHAINS];
static _Atomic(bool) limited; /* somebody has had a limit */
_Atomic(bool) atoll_account_due;
static void (*_Atomic tell_soft)(int64_t id);

static const atoll_stat shown_as[] = {ATOLL_STAT_ARENA_BYTES, ATOLL_STAT_LARGE_BYTES};

static _Atomic(account *) *chain_of(int64_t owner) { return &chains[(uint64_t)owner % CHAINS]; }

static account *find(int64_t owner) {
    account *one = atomic_load_explicit(chain_of(owner), memory_order_acquire);
    while (one != NULL && atomic_load_explicit(&one->key, memory_order_relaxed) != owner + 1) {
        one = one->next;
    }
    return one;
}

static account *find_or_open(int64_t owner) {
    account *one = find(owner);
    if (one != NULL) {
        return one;
    }
    _Atomic(account *) *chain = chain_of(owner);
    for (one = atomic_load(chain); one != NULL; one = one->next) {
        int64_t nobody = 0;
        if (atomic_compare_exchange_strong(&one->key, &nobody, owner + 1)) {
            return one;
        }
    }
    one = calloc(1, sizeof *one);
    if (one != NULL) {
        atomic_init(&one->key, owner + 1);
        account *first = atomic_load(chain);
        do {
            one->next = first;
        } while (!atomic_compare_exchange_weak(chain, &first, one));
    }
    return one;
}

static account *find_of(const atoll_entry *entry) { return find(atoll_memory_owner(entry->id)); }

/* ---- what it has ---- */

static uint64_t sum(const account *one) {
    int64_t all = atomic_load_explicit(&one->bytes[ATOLL_IN_ARENAS], memory_order_relaxed) +
                  atomic_load_explicit(&one->bytes[ATOLL_IN_BLOCKS], memory_order_relaxed);
    return all > 0 ? (uint64_t)all : 0;
}

static void show(account *one, atoll_memory_kind kind, int64_t bytes) {
    atoll_stats_interp *stats = atomic_load_explicit(&one->stats, memory_order_relaxed);
    if (stats != NULL) {
        atoll_stat_set(stats, shown_as[kind], bytes > 0 ? (uint64_t)bytes : 0);
    }
}

static void look_at_soft(account *one) {
    uint64_t soft = atomic_load_explicit(&one->soft, memory_order_relaxed);
    if (soft == 0) {
        return;
    }
    uint64_t all = sum(one);
    int was = atomic_load(&one->crossed);
    if (all > soft && was == NOT_CROSSED) {
        (void)atomic_compare_exchange_strong(&one->crossed, &was, CROSSED);
    } else if (all <= soft - soft / 8 && was == TOLD) {
        (void)atomic_compare_exchange_strong(&one->crossed, &was, NOT_CROSSED);
    }
    if (was != TOLD && atomic_load(&one->crossed) == CROSSED) {
        atomic_store(&atoll_account_due, true);
    }
}

void atoll_account_tell(int64_t owner) {
    account *one = find(owner);
    int was = CROSSED;
    if (one == NULL || !atomic_compare_exchange_strong(&one->crossed, &was, TOLD)) {
        return;
    }
    atomic_store(&atoll_account_due, false); /* another one's is seen when it takes more */
    atomic_load (&tell_soft)(atoll_memory_id(owner));
}

void atoll_account_add(int64_t owner, atoll_memory_kind kind, int64_t bytes) {
    account *one = bytes > 0 ? find_or_open(owner) : find(owner);
    if (one != NULL) {
        show(one, kind, atomic_fetch_add_explicit(&one->bytes[kind], bytes, memory_order_relaxed) + bytes);
        look_at_soft(one);
    }
}

void atoll_account_end(int64_t owner) {
    account *one = find(owner);
    if (one == NULL) {
        return;
    }
    for (int kind = 0; kind < ATOLL_MEMORY_KINDS; kind++) {
        atomic_store(&one->bytes[kind], 0);
    }
    atomic_store(&one->limit, 0);
    atomic_store(&one->soft, 0);
    atomic_store(&one->crossed, NOT_CROSSED);
    atomic_store(&one->refusals, 0);
    atomic_store(&one->relaxed, 0);
    atomic_store(&one->into_reserve, false);
    atomic_store(&one->stats, NULL);
    free(atomic_exchange(&one->kept, NULL));
    atomic_store(&one->key, 0); /* last: it may be another one's at once */
}

/* ---- what it may have ---- */

bool atoll_account_has_room(int64_t owner, size_t bytes) {
    const account *one = atomic_load_explicit(&limited, memory_order_relaxed) ? find(owner) : NULL;
    uint64_t limit = one != NULL ? atomic_load_explicit(&one->limit, memory_order_relaxed) : 0;
    return limit == 0 || sum(one) + bytes <= limit;
}

/* How much beyond its limit this one may go for a block. */
static uint64_t allowance(const account *one, size_t bytes) {
    uint64_t more = 0;
    if (atomic_load_explicit(&one->relaxed, memory_order_relaxed) > 0) {
        more += ATOLL_ACCOUNT_HEADROOM;
    }
    if (bytes <= ATOLL_ACCOUNT_SMALL && atomic_load_explicit(&one->into_reserve, memory_order_relaxed)) {
        more += ATOLL_ACCOUNT_RESERVE;
    }
    return more;
}

bool atoll_account_allows(int64_t owner, size_t bytes) {
    account *one = atomic_load_explicit(&limited, memory_order_relaxed) ? find(owner) : NULL;
    uint64_t limit = one != NULL ? atomic_load_explicit(&one->limit, memory_order_relaxed) : 0;
    if (limit == 0) {
        return true;
    }
    uint64_t then = sum(one) + bytes;
    if (then <= limit) {
        if (then + ATOLL_ACCOUNT_RESERVE <= limit) {
            atomic_store_explicit(&one->into_reserve, false, memory_order_relaxed);
        }
        return true;
    }
    if (then <= limit + allowance(one, bytes)) {
        return true;
    }
    atomic_store_explicit(&one->into_reserve, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&one->refusals, 1, memory_order_relaxed);
    return false;
}

/* ---- by entry ---- */

bool atoll_account_show(atoll_entry *entry) {
    account *one = find_or_open(atoll_memory_owner(entry->id));
    if (one == NULL) {
        return false;
    }
    atomic_store(&one->stats, entry->stats);
    for (int kind = 0; kind < ATOLL_MEMORY_KINDS; kind++) {
        show(one, (atoll_memory_kind)kind, atomic_load(&one->bytes[kind]));
    }
    return true;
}

void atoll_account_hide(atoll_entry *entry) {
    account *one = find_of(entry);
    if (one != NULL) {
        atomic_store(&one->stats, NULL);
    }
}

void atoll_account_set_limit(atoll_entry *entry, uint64_t bytes) {
    account *one = find_of(entry);
    if (one != NULL) {
        if (bytes != 0) {
            atomic_store(&limited, true);
        }
        atomic_store(&one->limit, bytes);
        atoll_stat_set(entry->stats, ATOLL_STAT_LIMIT_BYTES, bytes);
    }
}

void atoll_account_set_soft(atoll_entry *entry, uint64_t bytes, void (*tell)(int64_t id)) {
    account *one = find_of(entry);
    if (one != NULL) {
        atomic_store(&tell_soft, tell);
        atomic_store(&one->soft, bytes);
        look_at_soft(one);
    }
}

uint64_t atoll_account_limit(const atoll_entry *entry) {
    account *one = find_of(entry);
    return one != NULL ? atomic_load_explicit(&one->limit, memory_order_relaxed) : 0;
}

uint64_t atoll_account_soft(const atoll_entry *entry) {
    account *one = find_of(entry);
    return one != NULL ? atomic_load_explicit(&one->soft, memory_order_relaxed) : 0;
}

uint64_t atoll_account_used(const atoll_entry *entry) {
    const account *one = find_of(entry);
    return one != NULL ? sum(one) : 0;
}

bool atoll_account_keep(const atoll_entry *entry, void *memory) {
    account *one = find_of(entry);
    void *nothing = NULL;
    return one != NULL && atomic_compare_exchange_strong(&one->kept, &nothing, memory);
}

uint64_t atoll_account_refusals(const atoll_entry *entry) {
    account *one = atomic_load_explicit(&limited, memory_order_relaxed) ? find_of(entry) : NULL;
    return one != NULL ? atomic_load_explicit(&one->refusals, memory_order_relaxed) : 0;
}

void atoll_account_relax(const atoll_entry *entry, bool relaxed) {
    account *one = atomic_load_explicit(&limited, memory_order_relaxed) ? find_of(entry) : NULL;
    if (one != NULL) {
        atomic_fetch_add_explicit(&one->relaxed, relaxed ? 1 : -1, memory_order_relaxed);
    }
}
