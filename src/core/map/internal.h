/* What the files of core/map share. */
#ifndef ATOLL_CORE_MAP_INTERNAL_H
#define ATOLL_CORE_MAP_INTERNAL_H

#include "core/map/map.h"

#include <math.h>

#define CACHE_LINE 64

struct atoll_hashmap_box {
    _Atomic(uint32_t) refs;
    const atoll_handle_class *own_class; /* handles of this class to `own` are not counted */
    const void *own;
    atoll_message msg;
};

struct atoll_hashmap_entry {
    _Atomic(uint32_t) refs; /* its table, and who lists */
    uint64_t hash;
    atoll_hashmap_entry *next;  /* in its chain, or of those to be released */
    atoll_hashmap_entry *newer; /* in the order of use */
    atoll_hashmap_entry *older;
    uint64_t used;   /* when, in uses of the map */
    uint64_t serial; /* of its key's coming */
    double expires;  /* INFINITY: never */
    size_t heap_at;  /* if it expires */
    uint64_t size;   /* as counted */
    atoll_hashmap_value value;
    size_t key_len;
    uint8_t key[];
};

typedef struct {
    atoll_lock lock __attribute__((aligned(CACHE_LINE)));
    atoll_hashmap_entry **chains;
    size_t slots; /* a power of two, or 0 */
    size_t count;
    atoll_hashmap_entry *newest;
    atoll_hashmap_entry *oldest;
    _Atomic(uint64_t) oldest_use; /* UINT64_MAX: none */
    atoll_hashmap_entry **heap;   /* of those that expire, the first one first */
    size_t heap_count;
    size_t heap_room;
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t expirations;
} atoll_hashmap_stripe;

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): stripes have cache lines of their own */
struct atoll_hashmap {
    atoll_link link; /* in atoll_hashmaps */
    _Atomic(uint32_t) refs;
    uint64_t max_bytes;
    double ttl;
    _Atomic(uint64_t) bytes;
    _Atomic(uint64_t) uses;
    _Atomic(uint64_t) serials;
    _Atomic(bool) expires; /* something may */
    atoll_hashmap_stripe stripes[ATOLL_HASHMAP_STRIPES];
};

/* map.c */
extern atoll_list atoll_hashmaps;

/* box.c */
/* The value is about to be in `map`: handles of it do not count any more. */
void atoll_hashmap_value_adopt(const atoll_hashmap_value *value, const atoll_handle_class *cls, void *map);
uint64_t atoll_hashmap_value_size(const atoll_hashmap_value *value);
bool atoll_hashmap_value_is_same(const atoll_hashmap_value *one, const atoll_hashmap_value *other);

/* entry.c.  NULL when out of memory. */
atoll_hashmap_entry *atoll_hashmap_entry_new(const atoll_hashmap_key *key);
/* Releases the value with the last reference. */
void atoll_hashmap_entry_release(atoll_hashmap_entry *entry);
/* A list of them, linked by `next`. */
void atoll_hashmap_entries_release(atoll_hashmap_entry *entry);

/* stripe.c, with the stripe's lock held. */
atoll_hashmap_entry *atoll_hashmap_stripe_find_locked(const atoll_hashmap_stripe *stripe,
                                                      const atoll_hashmap_key *key);
/* Adds an entry; -1 when out of memory. */
int atoll_hashmap_stripe_add_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry);
/* Takes one off, and puts it in front of *dead. */
void atoll_hashmap_stripe_remove_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry,
                                        atoll_hashmap_entry **dead);
/* It is the one that was used last. */
void atoll_hashmap_stripe_use_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry, uint64_t use);
/* -1 when out of memory. */
int atoll_hashmap_stripe_set_expiry_locked(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry,
                                           double expires);
/* The one that expires first, if it has by `now`. */
atoll_hashmap_entry *atoll_hashmap_stripe_expired_locked(const atoll_hashmap_stripe *stripe, double now);

#endif
