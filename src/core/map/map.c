/* What is done with a map.  See map.h. */
#include "core/map/internal.h"

#include <stdlib.h>

enum { SWEEP = 8 /* entries that have expired, and are removed by who comes by */ };

/* ---- life ---- */

atoll_list atoll_hashmaps;

atoll_hashmap *atoll_hashmap_new(uint64_t max_bytes, double ttl) {
    atoll_hashmap *map = aligned_alloc(CACHE_LINE, sizeof *map);
    if (map == NULL) {
        return NULL;
    }
    memset(map, 0, sizeof *map);
    atomic_init(&map->refs, 1);
    map->max_bytes = max_bytes;
    map->ttl = ttl;
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        atomic_init(&map->stripes[i].oldest_use, UINT64_MAX);
    }
    atoll_list_add(&atoll_hashmaps, &map->link);
    return map;
}

void atoll_hashmap_retain(atoll_hashmap *map) {
    atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
}

/* What a stripe had, which nobody else has. */
static void free_table(const atoll_hashmap_stripe *stripe) {
    for (size_t at = 0; at < stripe->slots; at++) {
        atoll_hashmap_entries_release(stripe->chains[at]);
    }
    free(stripe->chains);
    free(stripe->heap);
}

static void destroy(atoll_link *link) {
    atoll_hashmap *map = (atoll_hashmap *)link;
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        free_table(&map->stripes[i]);
    }
    free(map);
}

static _Thread_local atoll_doomed doomed;

void atoll_hashmap_release(atoll_hashmap *map) {
    if (atomic_fetch_sub_explicit(&map->refs, 1, memory_order_acq_rel) == 1) {
        atoll_list_destroy(&atoll_hashmaps, &map->link, &doomed, destroy);
    }
}

static void handle_retain(void *ptr) { atoll_hashmap_retain(ptr); }
static void handle_release(void *ptr) { atoll_hashmap_release(ptr); }

const atoll_handle_class atoll_hashmap_class = {"map", handle_retain, handle_release};

uint64_t atoll_hashmap_max_bytes(const atoll_hashmap *map) { return map->max_bytes; }
double atoll_hashmap_ttl(const atoll_hashmap *map) { return map->ttl; }

/* ---- stripes ---- */

static double now_of(const atoll_hashmap *map) {
    return atomic_load_explicit(&map->expires, memory_order_relaxed) ? atoll_clock() : -INFINITY;
}

static void drop_locked(atoll_hashmap *map, atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry,
                        atoll_hashmap_entry **dead) {
    atomic_fetch_sub(&map->bytes, entry->size);
    atoll_hashmap_stripe_remove_locked(stripe, entry, dead);
}

static void expire_locked(atoll_hashmap *map, atoll_hashmap_stripe *stripe, double now, int most,
                          atoll_hashmap_entry **dead) {
    atoll_hashmap_entry *entry;
    while (most-- != 0 && (entry = atoll_hashmap_stripe_expired_locked(stripe, now)) != NULL) {
        stripe->expirations++;
        drop_locked(map, stripe, entry, dead);
    }
}

/* Takes the key's stripe. */
static atoll_hashmap_stripe *take(atoll_hashmap *map, const atoll_hashmap_key *key, double now,
                                  atoll_hashmap_entry **dead) {
    atoll_hashmap_stripe *stripe = &map->stripes[key->hash >> 59];
    atoll_lock_take(&stripe->lock);
    atoll_test_yield();
    expire_locked(map, stripe, now, SWEEP, dead);
    return stripe;
}

static void give(atoll_hashmap_stripe *stripe, atoll_hashmap_entry *dead) {
    atoll_lock_give(&stripe->lock);
    atoll_hashmap_entries_release(dead);
}

/* The entry of the key, unless it has expired. */
static atoll_hashmap_entry *find_locked(const atoll_hashmap_stripe *stripe, const atoll_hashmap_key *key,
                                        double now) {
    atoll_hashmap_entry *entry = atoll_hashmap_stripe_find_locked(stripe, key);
    return entry != NULL && entry->expires > now ? entry : NULL;
}

static void use_locked(atoll_hashmap *map, atoll_hashmap_stripe *stripe, atoll_hashmap_entry *entry) {
    if (map->max_bytes != 0) {
        atoll_hashmap_stripe_use_locked(stripe, entry, atomic_fetch_add(&map->uses, 1));
    }
}

/* Until what is stored is within the limit. */
static void evict(atoll_hashmap *map) {
    while (map->max_bytes != 0 && atomic_load(&map->bytes) > map->max_bytes) {
        atoll_hashmap_stripe *stripe = NULL;
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
            uint64_t use = atomic_load(&map->stripes[i].oldest_use);
            if (use < least) {
                least = use;
                stripe = &map->stripes[i];
            }
        }
        if (stripe == NULL) {
            return;
        }
        atoll_hashmap_entry *dead = NULL;
        double now = now_of(map);
        atoll_lock_take(&stripe->lock);
        atoll_test_yield();
        expire_locked(map, stripe, now, -1, &dead);
        if (dead == NULL && stripe->oldest != NULL) {
            stripe->evictions++;
            drop_locked(map, stripe, stripe->oldest, &dead);
        }
        give(stripe, dead);
    }
}

/* ---- operations ---- */

static atoll_hashmap_result get(atoll_hashmap *map, const atoll_hashmap_key *key, atoll_hashmap_value *value,
                                bool counts) {
    atoll_hashmap_entry *dead = NULL;
    double now = now_of(map);
    atoll_hashmap_stripe *stripe = take(map, key, now, &dead);
    atoll_hashmap_entry *entry = find_locked(stripe, key, now);
    if (entry != NULL) {
        *value = entry->value;
        atoll_hashmap_value_retain(value);
    }
    if (counts) {
        *(entry != NULL ? &stripe->hits : &stripe->misses) += 1;
    }
    if (counts && entry != NULL) {
        use_locked(map, stripe, entry);
    }
    give(stripe, dead);
    return entry != NULL ? ATOLL_HASHMAP_DONE : ATOLL_HASHMAP_ABSENT;
}

atoll_hashmap_result atoll_hashmap_get(atoll_hashmap *map, const atoll_hashmap_key *key,
                                       atoll_hashmap_value *value) {
    return get(map, key, value, true);
}

atoll_hashmap_result atoll_hashmap_look(atoll_hashmap *map, const atoll_hashmap_key *key,
                                        atoll_hashmap_value *value) {
    return get(map, key, value, false);
}

bool atoll_hashmap_has(atoll_hashmap *map, const atoll_hashmap_key *key) {
    atoll_hashmap_entry *dead = NULL;
    double now = now_of(map);
    atoll_hashmap_stripe *stripe = take(map, key, now, &dead);
    bool has = find_locked(stripe, key, now) != NULL;
    give(stripe, dead);
    return has;
}

/* A new entry for the key, in place of one that has expired.  NULL when out of memory. */
static atoll_hashmap_entry *add_locked(atoll_hashmap *map, atoll_hashmap_stripe *stripe,
                                       atoll_hashmap_entry *fresh, const atoll_hashmap_key *key,
                                       double expires, atoll_hashmap_entry **dead) {
    atoll_hashmap_entry *late = atoll_hashmap_stripe_find_locked(stripe, key);
    if (late != NULL) {
        stripe->expirations++;
        drop_locked(map, stripe, late, dead);
    }
    fresh->used = atomic_fetch_add(&map->uses, 1);
    fresh->serial = atomic_fetch_add(&map->serials, 1);
    if (atoll_hashmap_stripe_add_locked(stripe, fresh) < 0) {
        return NULL;
    }
    if (expires != INFINITY && atoll_hashmap_stripe_set_expiry_locked(stripe, fresh, expires) < 0) {
        atoll_hashmap_entry *none = NULL;
        atoll_hashmap_stripe_remove_locked(stripe, fresh, &none);
        return NULL;
    }
    return fresh;
}

/* What an entry counts with such a key and value. */
static uint64_t size_of(const atoll_hashmap_key *key, const atoll_hashmap_value *value) {
    return sizeof(atoll_hashmap_entry) + key->len + atoll_hashmap_value_size(value);
}

static bool is_too_large(const atoll_hashmap *map, const atoll_hashmap_key *key,
                         const atoll_hashmap_value *value) {
    return map->max_bytes != 0 && size_of(key, value) > map->max_bytes;
}

static void set_value_locked(atoll_hashmap *map, atoll_hashmap_entry *entry, const atoll_hashmap_key *key,
                             const atoll_hashmap_value *value) {
    uint64_t size = size_of(key, value);
    atomic_fetch_add(&map->bytes, size - entry->size);
    entry->size = size;
    entry->value = *value;
}

static void note_expiry(atoll_hashmap *map, double expires) {
    if (isfinite(expires)) {
        atomic_store(&map->expires, true);
    }
}

atoll_hashmap_result atoll_hashmap_put(atoll_hashmap *map, const atoll_hashmap_key *key,
                                       const atoll_hashmap_value *value, double expires,
                                       atoll_hashmap_when when, atoll_hashmap_value *old) {
    if (is_too_large(map, key, value)) {
        atoll_hashmap_value_release(value);
        return ATOLL_HASHMAP_TOO_LARGE;
    }
    atoll_hashmap_entry *fresh =
        atoll_hashmap_entry_new(key); /* before the lock: it is needed more often than not */
    if (fresh == NULL) {
        atoll_hashmap_value_release(value);
        return ATOLL_HASHMAP_NO_MEMORY;
    }
    note_expiry(map, expires);
    atoll_hashmap_result result = ATOLL_HASHMAP_DONE;
    atoll_hashmap_value gone = *value;
    atoll_hashmap_entry *dead = NULL;
    double now = now_of(map);
    atoll_hashmap_stripe *stripe = take(map, key, now, &dead);
    atoll_hashmap_entry *entry = find_locked(stripe, key, now);
    if (entry == NULL && when == ATOLL_HASHMAP_IF_SAME) {
        result = ATOLL_HASHMAP_ABSENT;
    } else if (entry != NULL && when == ATOLL_HASHMAP_IF_ABSENT) {
        result = ATOLL_HASHMAP_PRESENT;
        *old = entry->value;
        atoll_hashmap_value_retain(old);
        use_locked(map, stripe, entry);
    } else if (entry != NULL && when == ATOLL_HASHMAP_IF_SAME &&
               !atoll_hashmap_value_is_same(&entry->value, old)) {
        result = ATOLL_HASHMAP_OTHER;
    } else if (entry != NULL) {
        if (!isnan(expires) && atoll_hashmap_stripe_set_expiry_locked(stripe, entry, expires) < 0) {
            result = ATOLL_HASHMAP_NO_MEMORY;
        } else {
            gone = entry->value;
            atoll_hashmap_value_adopt(value, &atoll_hashmap_class, map);
            set_value_locked(map, entry, key, value);
            use_locked(map, stripe, entry);
        }
    } else {
        entry = add_locked(map, stripe, fresh, key, isnan(expires) ? INFINITY : expires, &dead);
        if (entry != NULL) {
            fresh = NULL;
            gone = (atoll_hashmap_value){0};
            atoll_hashmap_value_adopt(value, &atoll_hashmap_class, map);
            set_value_locked(map, entry, key, value);
        } else {
            result = ATOLL_HASHMAP_NO_MEMORY;
        }
    }
    give(stripe, dead);
    atoll_hashmap_value_release(&gone);
    if (fresh != NULL) {
        atoll_hashmap_entry_release(fresh);
    }
    evict(map);
    return result;
}

atoll_hashmap_result atoll_hashmap_remove(atoll_hashmap *map, const atoll_hashmap_key *key,
                                          const atoll_hashmap_value *same) {
    atoll_hashmap_result result = ATOLL_HASHMAP_ABSENT;
    atoll_hashmap_entry *dead = NULL;
    double now = now_of(map);
    atoll_hashmap_stripe *stripe = take(map, key, now, &dead);
    atoll_hashmap_entry *entry = find_locked(stripe, key, now);
    if (entry != NULL && same != NULL && !atoll_hashmap_value_is_same(&entry->value, same)) {
        result = ATOLL_HASHMAP_OTHER;
    } else if (entry != NULL) {
        result = ATOLL_HASHMAP_DONE;
        drop_locked(map, stripe, entry, &dead);
    }
    give(stripe, dead);
    return result;
}

atoll_hashmap_result atoll_hashmap_add(atoll_hashmap *map, const atoll_hashmap_key *key, int64_t delta,
                                       double expires, int64_t *sum) {
    const atoll_hashmap_value begins = {NULL, delta};
    if (is_too_large(map, key, &begins)) { /* so it cannot be there either */
        return ATOLL_HASHMAP_TOO_LARGE;
    }
    atoll_hashmap_entry *fresh = NULL;
    for (;;) {
        atoll_hashmap_result result = ATOLL_HASHMAP_DONE;
        atoll_hashmap_entry *dead = NULL;
        double now = now_of(map);
        atoll_hashmap_stripe *stripe = take(map, key, now, &dead);
        atoll_hashmap_entry *entry = find_locked(stripe, key, now);
        if (entry == NULL && fresh == NULL) {
            give(stripe, dead);
            note_expiry(map, expires);
            fresh = atoll_hashmap_entry_new(key);
            if (fresh == NULL) {
                return ATOLL_HASHMAP_NO_MEMORY;
            }
            continue;
        }
        if (entry == NULL) {
            entry = add_locked(map, stripe, fresh, key, expires, &dead);
            if (entry != NULL) {
                fresh = NULL;
                set_value_locked(map, entry, key, &begins);
                *sum = delta;
            } else {
                result = ATOLL_HASHMAP_NO_MEMORY;
            }
        } else if (entry->value.box != NULL) {
            result = ATOLL_HASHMAP_OTHER;
        } else if (__builtin_add_overflow(entry->value.number, delta, sum)) {
            result = ATOLL_HASHMAP_OVERFLOW;
        } else {
            entry->value.number = *sum;
            use_locked(map, stripe, entry);
        }
        give(stripe, dead);
        if (fresh != NULL) {
            atoll_hashmap_entry_release(fresh);
        }
        evict(map);
        return result;
    }
}

/* ---- all entries ---- */

static void take_all(atoll_hashmap *map) {
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        atoll_lock_take(&map->stripes[i].lock);
        atoll_test_yield();
    }
}

static void give_all(atoll_hashmap *map) {
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        atoll_lock_give(&map->stripes[i].lock);
    }
}

void atoll_hashmap_clear(atoll_hashmap *map) {
    atoll_hashmap_stripe gone[ATOLL_HASHMAP_STRIPES];
    take_all(map);
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        atoll_hashmap_stripe *stripe = &map->stripes[i];
        gone[i].chains = stripe->chains;
        gone[i].slots = stripe->slots;
        gone[i].heap = stripe->heap;
        stripe->chains = NULL;
        stripe->heap = NULL;
        stripe->slots = stripe->count = stripe->heap_count = stripe->heap_room = 0;
        stripe->newest = stripe->oldest = NULL;
        atomic_store(&stripe->oldest_use, UINT64_MAX);
    }
    atomic_store(&map->bytes, 0);
    give_all(map);
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        free_table(&gone[i]);
    }
}

/* Removes all that has expired in a stripe, whose lock is taken: how many entries are left. */
static size_t expire_all_locked(atoll_hashmap *map, atoll_hashmap_stripe *stripe,
                                atoll_hashmap_entry **dead) {
    expire_locked(map, stripe, now_of(map), -1, dead);
    return stripe->count;
}

void atoll_hashmap_get_stats(atoll_hashmap *map, atoll_hashmap_stats *stats) {
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES;
         i++) { /* most of what has expired, so that the next step is short */
        atoll_hashmap_entry *dead = NULL;
        atoll_lock_take(&map->stripes[i].lock);
        (void)expire_all_locked(map, &map->stripes[i], &dead);
        give(&map->stripes[i], dead);
    }
    atoll_hashmap_entry *dead = NULL;
    *stats = (atoll_hashmap_stats){0};
    take_all(map);
    for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
        atoll_hashmap_stripe *stripe = &map->stripes[i];
        stats->count += expire_all_locked(map, stripe, &dead);
        stats->hits += stripe->hits;
        stats->misses += stripe->misses;
        stats->evictions += stripe->evictions;
        stats->expirations += stripe->expirations;
    }
    stats->bytes = atomic_load(&map->bytes);
    give_all(map);
    atoll_hashmap_entries_release(dead);
}

uint64_t atoll_hashmap_count(atoll_hashmap *map) {
    atoll_hashmap_stats stats;
    atoll_hashmap_get_stats(map, &stats);
    return stats.count;
}

static int by_serial(const void *one, const void *other) {
    uint64_t a = ((const atoll_hashmap_item *)one)->entry->serial;
    uint64_t b = ((const atoll_hashmap_item *)other)->entry->serial;
    return a < b ? -1 : a > b;
}

atoll_hashmap_item *atoll_hashmap_items(atoll_hashmap *map, size_t *count) {
    size_t room = 16;
    size_t n = 0;
    atoll_hashmap_item *items = malloc(room * sizeof *items);
    for (int i = 0; items != NULL && i < ATOLL_HASHMAP_STRIPES;) {
        atoll_hashmap_stripe *stripe = &map->stripes[i];
        atoll_hashmap_entry *dead = NULL;
        atoll_lock_take(&stripe->lock);
        size_t more = expire_all_locked(map, stripe, &dead);
        if (more > room - n) { /* room is made with no lock held */
            give(stripe, dead);
            room = (n + more) * 2;
            atoll_hashmap_item *larger = realloc(items, room * sizeof *items);
            if (larger == NULL) {
                atoll_hashmap_items_free(items, n);
            }
            items = larger;
            continue;
        }
        for (atoll_hashmap_entry *entry = stripe->oldest; entry != NULL; entry = entry->newer) {
            atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
            items[n] = (atoll_hashmap_item){entry, entry->value};
            atoll_hashmap_value_retain(&items[n].value);
            n++;
        }
        give(stripe, dead);
        i++;
    }
    if (items != NULL) {
        qsort(items, n, sizeof *items, by_serial);
    }
    *count = n;
    return items;
}

void atoll_hashmap_items_free(atoll_hashmap_item *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        atoll_hashmap_value_release(&items[i].value);
        atoll_hashmap_entry_release(items[i].entry);
    }
    free(items);
}
