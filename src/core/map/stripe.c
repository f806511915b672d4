/* One stripe of a map: its table, the order of use, and the heap of what expires.  See map.h.  Every function has its lock held. */
#include "core/map/internal.h"

#include <stdlib.h>

/* ---- the table ---- */

static atoll_hashmap_entry **chain_of(const atoll_hashmap_stripe *stripe, uint64_t hash) {
    return &stripe->chains[hash & (stripe->slots - 1)];
}

atoll_hashmap_entry *atoll_hashmap_stripe_find_locked(const atoll_hashmap_stripe *stripe,
                                                      const atoll_hashmap_key *key) {
    if (stripe->slots == 0) {
        return NULL;
    }
    atoll_hashmap_entry *entry = *chain_of(stripe, key->hash);
    while (entry != NULL && (entry->hash != key->hash || entry->key_len != key->len ||
                             memcmp(entry->key, key->bytes, key->len) != 0)) {
        entry = entry->next;
    }
    return entry;
}

static int grow(atoll_hashmap_stripe *stripe) {
    if (stripe->count < stripe->slots) {
        return 0;
    }
    size_t slots = stripe->slots != 0 ? stripe->slots * 2 : 4;
    atoll_hashmap_entry **chains = calloc(slots, sizeof(atoll_hashmap_entry *));
    if (chains == NULL) {
        return stripe->slots != 0 ? 0 : -1; /* longer chains will do */
    }
    atoll_hashmap_entry **before = stripe->chains;
    size_t count = stripe->slots;
    stripe->chains = chains;
    stripe->slots = slots;
    for (size_t i = 0; i < count; i++) {
        atoll_hashmap_entry *next;
        for (atoll_hashmap_entry *entry = before[i]; entry != NULL; entry = next) {
            next = entry->next;
            atoll_hashmap_entry **chain = chain_of(stripe, entry->hash);
            entry->next = *chain;
            *chain = entry;
        }
    }
    free(before);
    return 0;
}

/* ---- the order of use ---- */

static void unlink_use(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry) {
    *(entry->newer != NULL ? &entry->newer->older : &stripe->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &stripe->oldest) = entry->newer;
    atomic_store(&stripe->oldest_use, stripe->oldest != NULL ? stripe->oldest->used : UINT64_MAX);
}

static void link_use(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry) {
    entry->newer = NULL;
    entry->older = stripe->newest;
    *(entry->older != NULL ? &entry->older->newer : &stripe->oldest) = entry;
    stripe->newest = entry;
    atomic_store(&stripe->oldest_use, stripe->oldest->used);
}

void atoll_hashmap_stripe_use_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry, uint64_t use) {
    entry->used = use;
    unlink_use(stripe, entry);
    link_use(stripe, entry);
}

/* ---- the heap ---- */

static void place(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry, size_t at) {
    stripe->heap[at] = entry;
    entry->heap_at = at;
}

/* Finds the place of an entry that may be too far down, or up. */
static void sift(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry, size_t at) {
    while (at > 0 && stripe->heap[(at - 1) / 2]->expires > entry->expires) {
        place(stripe, stripe->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (size_t child; (child = 2 * at + 1) < stripe->heap_count; at = child) {
        child +=
            child + 1 < stripe->heap_count && stripe->heap[child + 1]->expires < stripe->heap[child]->expires;
        if (stripe->heap[child]->expires >= entry->expires) {
            break;
        }
        place(stripe, stripe->heap[child], at);
    }
    place(stripe, entry, at);
}

static void leave_heap(atoll_hashmap_stripe *stripe, const atoll_hashmap_entry *entry) {
    atoll_hashmap_entry *last = stripe->heap[--stripe->heap_count];
    if (last != entry) {
        sift(stripe, last, entry->heap_at);
    }
}

int atoll_hashmap_stripe_set_expiry_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry,
                                           double expires) {
    bool was_in = entry->expires != INFINITY;
    if (expires == INFINITY) {
        if (was_in) {
            leave_heap(stripe, entry);
        }
        entry->expires = expires;
        return 0;
    }
    if (!was_in && stripe->heap_count == stripe->heap_room) {
        size_t room = stripe->heap_room != 0 ? stripe->heap_room * 2 : 4;
        atoll_hashmap_entry **heap = realloc(stripe->heap, room * sizeof(atoll_hashmap_entry *));
        if (heap == NULL) {
            return -1;
        }
        stripe->heap = heap;
        stripe->heap_room = room;
    }
    entry->expires = expires;
    sift(stripe, entry, was_in ? entry->heap_at : stripe->heap_count++);
    return 0;
}

atoll_hashmap_entry *atoll_hashmap_stripe_expired_locked(const atoll_hashmap_stripe *stripe, double now) {
    return stripe->heap_count != 0 && stripe->heap[0]->expires <= now ? stripe->heap[0] : NULL;
}

/* ---- all of it ---- */

int atoll_hashmap_stripe_add_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry) {
    if (grow(stripe) < 0) {
        return -1;
    }
    atoll_hashmap_entry **chain = chain_of(stripe, entry->hash);
    entry->next = *chain;
    *chain = entry;
    link_use(stripe, entry);
    stripe->count++;
    return 0;
}

void atoll_hashmap_stripe_remove_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry,
                                        atoll_hashmap_entry **dead) {
    atoll_hashmap_entry **at = chain_of(stripe, entry->hash);
    while (*at != entry) {
        at = &(*at)->next;
    }
    *at = entry->next;
    unlink_use(stripe, entry);
    (void)atoll_hashmap_stripe_set_expiry_locked(stripe, entry, INFINITY);
    stripe->count--;
    entry->next = *dead;
    *dead = entry;
}
