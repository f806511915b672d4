/* A map from bytes to messages that threads of all interpreters share.  Pure C; src/module/shareddict.c gives it to Python, and says
 * what the bytes of a key are.
 *
 * Storage.  An entry has its key's bytes and a value: a number of 64 bits, or a box, which is a message with a count.  Boxes never
 * change, so whoever has looked one up reads it with no lock held, also when it was replaced meanwhile.
 *
 * Locks.  A key's hash chooses one of ATOLL_HASHMAP_STRIPES stripes, each with a lock, a table, a list in the order of use and a heap
 * in the order of expiry.  One lock is held at a time, for a few instructions, and no value is released under it.  Who clears or counts takes all of
 * them, in their order.
 *
 *   operation x operation   look up         store, remove          evict                    clear, count             list all
 *   look up                 stripe          stripe                 stripe                   all at once              stripe by stripe
 *   store, remove           stripe          stripe: the last one   stripe: it is gone       before or after          an entry is there or not
 *                                           stays                  before or after
 *   store if it is the same                 fails when the value is another by then         fails
 *
 * Memory.  Keys, values and what an entry itself takes are counted.  Where there is a limit, whoever has stored evicts the
 * entries that were used least recently, of all stripes, until it holds; what handles lead to is not counted.  A value that alone is too large is
 * refused.
 *
 * Expiry.  Whoever works on a stripe removes some of what has expired there; what has expired is never found nor counted.
 *
 * Lifetime.  A reference for each Python object and each message that carries the map.  A value that has a handle of its own map
 * does not count for it, or it would keep itself; maps, or maps and queues, that hold each other are not freed.  When a map is released
 * its values may release others, any number of them in a row, without more stack.
 *
 * Failure: out of memory changes nothing.  Fork: every lock is taken before.  No function needs a thread state, none blocks.
 */
#ifndef ATOLL_CORE_MAP_H
#define ATOLL_CORE_MAP_H

#include "core/base/base.h"

enum { ATOLL_HASHMAP_STRIPES = 32 };

typedef struct atoll_hashmap atoll_hashmap;
typedef struct atoll_hashmap_box atoll_hashmap_box;

/* A value.  Whoever gets one has a reference to its box. */
typedef struct {
    atoll_hashmap_box *box; /* NULL: a number */
    int64_t number;
} atoll_hashmap_value;

/* A box with the message, which is empty afterwards; NULL when out of memory, and the message stays. */
atoll_hashmap_box *atoll_hashmap_box_new(atoll_message *msg);
const atoll_message *atoll_hashmap_box_message(const atoll_hashmap_box *box);
void atoll_hashmap_value_retain(const atoll_hashmap_value *value);
void atoll_hashmap_value_release(const atoll_hashmap_value *value);

/* One reference.  max_bytes 0: no limit.  ttl: what its users have said, INFINITY for nothing.  NULL when out of memory. */
atoll_hashmap *atoll_hashmap_new(uint64_t max_bytes, double ttl);
void atoll_hashmap_retain(atoll_hashmap *map);
void atoll_hashmap_release(atoll_hashmap *map);
extern const atoll_handle_class atoll_hashmap_class;
uint64_t atoll_hashmap_max_bytes(const atoll_hashmap *map);
double atoll_hashmap_ttl(const atoll_hashmap *map);

typedef struct {
    const uint8_t *bytes;
    size_t len;
    uint64_t hash;
} atoll_hashmap_key;

/* The bytes stay the caller's. */
atoll_hashmap_key atoll_hashmap_key_of(const uint8_t *bytes, size_t len);

typedef enum {
    ATOLL_HASHMAP_DONE,
    ATOLL_HASHMAP_ABSENT,    /* there is no such key */
    ATOLL_HASHMAP_PRESENT,   /* there is already */
    ATOLL_HASHMAP_OTHER,     /* its value is another, or no number */
    ATOLL_HASHMAP_OVERFLOW,  /* the sum is beyond 64 bits */
    ATOLL_HASHMAP_TOO_LARGE, /* alone it is above the limit */
    ATOLL_HASHMAP_NO_MEMORY
} atoll_hashmap_result;

/* DONE or ABSENT. */
atoll_hashmap_result atoll_hashmap_get(atoll_hashmap *map, const atoll_hashmap_key *key,
                                       atoll_hashmap_value *value);
/* Not counted as a hit or a miss, and no use. */
bool atoll_hashmap_has(atoll_hashmap *map, const atoll_hashmap_key *key);

typedef enum {
    ATOLL_HASHMAP_ALWAYS,
    ATOLL_HASHMAP_IF_ABSENT, /* else PRESENT, and *old is the value */
    ATOLL_HASHMAP_IF_SAME    /* as *old, which stays the caller's; else OTHER, or ABSENT */
} atoll_hashmap_when;

/* Takes over the caller's reference to value, also on failure.  expires: on the monotonic clock, INFINITY: never, NAN: as it is. */
atoll_hashmap_result atoll_hashmap_put(atoll_hashmap *map, const atoll_hashmap_key *key,
                                       const atoll_hashmap_value *value, double expires,
                                       atoll_hashmap_when when, atoll_hashmap_value *old);
/* As get(), but neither counted nor a use. */
atoll_hashmap_result atoll_hashmap_look(atoll_hashmap *map, const atoll_hashmap_key *key,
                                        atoll_hashmap_value *value);
/* same: the value that it has to have, or else OTHER; NULL: any. */
atoll_hashmap_result atoll_hashmap_remove(atoll_hashmap *map, const atoll_hashmap_key *key,
                                          const atoll_hashmap_value *same);
/* Adds to a number, which is 0 where there is none; expires: of one that is new. */
atoll_hashmap_result atoll_hashmap_add(atoll_hashmap *map, const atoll_hashmap_key *key, int64_t delta,
                                       double expires, int64_t *sum);
void atoll_hashmap_clear(atoll_hashmap *map);
uint64_t atoll_hashmap_count(atoll_hashmap *map);

typedef struct {
    uint64_t count;
    uint64_t bytes;
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t expirations;
} atoll_hashmap_stats;

void atoll_hashmap_get_stats(atoll_hashmap *map, atoll_hashmap_stats *stats);

typedef struct atoll_hashmap_entry atoll_hashmap_entry;

/* An entry as it was when it was listed. */
typedef struct {
    atoll_hashmap_entry *entry; /* a reference */
    atoll_hashmap_value value;  /* likewise */
} atoll_hashmap_item;

/* All entries, in the order in which their keys came; *count of them, NULL when out of memory.  To be given to atoll_hashmap_items_free(). */
atoll_hashmap_item *atoll_hashmap_items(atoll_hashmap *map, size_t *count);
void atoll_hashmap_items_free(atoll_hashmap_item *items, size_t count);
const uint8_t *atoll_hashmap_entry_key(const atoll_hashmap_entry *entry, size_t *len);

/* Holds every lock of every map while the process is forked. */
void atoll_hashmaps_fork(atoll_fork_moment when);

#endif
