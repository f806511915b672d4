/* Maps: one operation after the other, then threads that give up the processor at random places. */
#include "core/map/map.h"
#include "core/queue/queue.h"
#include "dice.h"
#include "harness.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>

static atoll_hashmap_key key_of(const char *text) {
    return atoll_hashmap_key_of((const uint8_t *)text, strlen(text));
}

static atoll_hashmap_value number(int64_t n) { return (atoll_hashmap_value){NULL, n}; }

static atoll_hashmap_value boxed(const char *text, const atoll_handle_class *cls, void *ptr) {
    atoll_message msg = {0};
    atoll_put_bytes(&msg.body, text, strlen(text));
    if (cls != NULL) {
        cls->retain(ptr);
        (void)atoll_message_attach(&msg, cls, ptr);
    }
    return (atoll_hashmap_value){atoll_hashmap_box_new(&msg), 0};
}

static atoll_hashmap_result put(atoll_hashmap *map, const char *key, atoll_hashmap_value value,
                                double expires) {
    atoll_hashmap_key k = key_of(key);
    return atoll_hashmap_put(map, &k, &value, expires, ATOLL_HASHMAP_ALWAYS, NULL);
}

/* The number of a key, -1 where there is none, -2 for a box. */
static int64_t get(atoll_hashmap *map, const char *key) {
    atoll_hashmap_key k = key_of(key);
    atoll_hashmap_value value;
    if (atoll_hashmap_get(map, &k, &value) != ATOLL_HASHMAP_DONE) {
        return -1;
    }
    int64_t n = value.box != NULL ? -2 : value.number;
    atoll_hashmap_value_release(&value);
    return n;
}

TEST(map_puts_gets_and_removes) {
    atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
    REQUIRE(map != NULL);
    CHECK_INT(get(map, "a"), -1);
    char name[32];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "key %d", i);
        CHECK_INT(put(map, name, number(i), INFINITY), ATOLL_HASHMAP_DONE);
    }
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "key %d", i);
        CHECK_INT(get(map, name), i);
    }
    CHECK_UINT(atoll_hashmap_count(map), 1000);
    size_t count;
    atoll_hashmap_item *items = atoll_hashmap_items(map, &count);
    REQUIRE(items != NULL);
    CHECK_UINT(count, 1000);
    for (size_t i = 0; i < count; i++) { /* in the order of their coming */
        CHECK_INT(items[i].value.number, (int64_t)i);
        size_t len;
        (void)snprintf(name, sizeof name, "key %zu", i);
        const uint8_t *bytes = atoll_hashmap_entry_key(items[i].entry, &len);
        CHECK(len == strlen(name) && memcmp(bytes, name, len) == 0);
    }
    atoll_hashmap_items_free(items, count);
    atoll_hashmap_key key = key_of("key 7");
    atoll_hashmap_value value;
    CHECK_INT(atoll_hashmap_look(map, &key, &value), ATOLL_HASHMAP_DONE);
    CHECK_INT(value.number, 7);
    const atoll_hashmap_value another = number(8);
    CHECK_INT(atoll_hashmap_remove(map, &key, &another), ATOLL_HASHMAP_OTHER);
    CHECK_INT(atoll_hashmap_remove(map, &key, &value), ATOLL_HASHMAP_DONE);
    CHECK_INT(atoll_hashmap_remove(map, &key, NULL), ATOLL_HASHMAP_ABSENT);
    CHECK_INT(atoll_hashmap_look(map, &key, &value), ATOLL_HASHMAP_ABSENT);
    CHECK(!atoll_hashmap_has(map, &key));
    atoll_hashmap_stats stats;
    atoll_hashmap_get_stats(map, &stats);
    CHECK_UINT(stats.count, 999);
    CHECK_UINT(stats.hits, 1000);
    CHECK_UINT(stats.misses, 1);
    atoll_hashmap_clear(map);
    atoll_hashmap_get_stats(map, &stats);
    CHECK_UINT(stats.count + stats.bytes, 0);
    atoll_hashmap_release(map);
}

TEST(map_puts_only_when) {
    atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
    REQUIRE(map != NULL);
    atoll_hashmap_key key = key_of("a");
    atoll_hashmap_value old = number(1);
    atoll_hashmap_value fresh = number(2);
    CHECK_INT(atoll_hashmap_put(map, &key, &fresh, NAN, ATOLL_HASHMAP_IF_SAME, &old), ATOLL_HASHMAP_ABSENT);
    CHECK_INT(atoll_hashmap_put(map, &key, &fresh, NAN, ATOLL_HASHMAP_IF_ABSENT, &old), ATOLL_HASHMAP_DONE);
    CHECK_INT(atoll_hashmap_put(map, &key, &fresh, NAN, ATOLL_HASHMAP_IF_ABSENT, &old),
              ATOLL_HASHMAP_PRESENT);
    CHECK_INT(old.number, 2);
    atoll_hashmap_value box = boxed("x", NULL, NULL);
    REQUIRE(box.box != NULL);
    CHECK_INT(atoll_hashmap_put(map, &key, &box, NAN, ATOLL_HASHMAP_IF_SAME, &old), ATOLL_HASHMAP_DONE);
    CHECK_INT(get(map, "a"), -2);
    fresh = number(3);
    CHECK_INT(atoll_hashmap_put(map, &key, &fresh, NAN, ATOLL_HASHMAP_IF_SAME, &old), ATOLL_HASHMAP_OTHER);
    int64_t sum;
    CHECK_INT(atoll_hashmap_add(map, &key, 1, INFINITY, &sum), ATOLL_HASHMAP_OTHER);
    atoll_hashmap_key other = key_of("b");
    CHECK_INT(atoll_hashmap_add(map, &other, 5, INFINITY, &sum), ATOLL_HASHMAP_DONE);
    CHECK_INT(atoll_hashmap_add(map, &other, -2, INFINITY, &sum), ATOLL_HASHMAP_DONE);
    CHECK_INT(sum, 3);
    CHECK_INT(atoll_hashmap_add(map, &other, INT64_MAX, INFINITY, &sum), ATOLL_HASHMAP_OVERFLOW);
    CHECK_INT(get(map, "b"), 3);
    atoll_hashmap_release(map);
}

TEST(map_forgets_what_was_used_least) {
    atoll_hashmap *map = atoll_hashmap_new(1, INFINITY);
    REQUIRE(map != NULL);
    CHECK_INT(put(map, "a", number(1), INFINITY), ATOLL_HASHMAP_TOO_LARGE);
    atoll_hashmap_key key = key_of("a");
    int64_t sum;
    CHECK_INT(atoll_hashmap_add(map, &key, 1, INFINITY, &sum), ATOLL_HASHMAP_TOO_LARGE);
    atoll_hashmap_release(map);
    map = atoll_hashmap_new(0, INFINITY);
    REQUIRE(map != NULL);
    CHECK_INT(put(map, "a", number(1), INFINITY), ATOLL_HASHMAP_DONE);
    atoll_hashmap_stats stats;
    atoll_hashmap_get_stats(map, &stats);
    uint64_t each = stats.bytes;
    atoll_hashmap_release(map);
    map = atoll_hashmap_new(3 * each, INFINITY);
    REQUIRE(map != NULL);
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        CHECK_INT(put(map, name, number(i), INFINITY), ATOLL_HASHMAP_DONE);
    }
    CHECK_INT(get(map, "a"), 0);
    CHECK_INT(put(map, "d", number(3), INFINITY), ATOLL_HASHMAP_DONE);
    CHECK_INT(get(map, "b"), -1);
    CHECK_INT(get(map, "a"), 0);
    CHECK_INT(put(map, "c", number(4), INFINITY), ATOLL_HASHMAP_DONE);
    CHECK_INT(put(map, "e", number(5), INFINITY), ATOLL_HASHMAP_DONE);
    CHECK_INT(get(map, "d"), -1);
    atoll_hashmap_get_stats(map, &stats);
    CHECK_UINT(stats.evictions, 2);
    CHECK_UINT(stats.bytes, 3 * each);
    atoll_hashmap_release(map);
}

TEST(map_entries_expire) {
    atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
    REQUIRE(map != NULL);
    char name[32];
    double now = atoll_clock();
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        CHECK_INT(put(map, name, number(i),
                      i % 3 == 0   ? now - 1
                      : i % 3 == 1 ? now + 1e6 + i
                                   : INFINITY),
                  ATOLL_HASHMAP_DONE);
    }
    CHECK_INT(get(map, "3"), -1);
    CHECK_INT(get(map, "4"), 4);
    CHECK_UINT(atoll_hashmap_count(map), 200);
    CHECK_INT(put(map, "4", number(5), now - 1), ATOLL_HASHMAP_DONE);
    CHECK_INT(get(map, "4"), -1);
    CHECK_INT(put(map, "7", number(8), INFINITY), ATOLL_HASHMAP_DONE);
    CHECK_INT(put(map, "8", number(9), now + 1e5), ATOLL_HASHMAP_DONE);
    int64_t sum;
    atoll_hashmap_key key = key_of("4");
    CHECK_INT(atoll_hashmap_add(map, &key, 2, INFINITY, &sum), ATOLL_HASHMAP_DONE);
    CHECK_INT(sum, 2);
    CHECK_UINT(atoll_hashmap_count(map), 200);
    atoll_hashmap_release(map);
}

TEST(map_that_holds_itself_is_freed) {
    atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
    REQUIRE(map != NULL);
    CHECK_INT(put(map, "me", boxed("x", &atoll_hashmap_class, map), INFINITY), ATOLL_HASHMAP_DONE);
    atoll_hashmap_key key = key_of("me");
    atoll_hashmap_value value;
    CHECK_INT(atoll_hashmap_get(map, &key, &value), ATOLL_HASHMAP_DONE);
    const atoll_message *msg = atoll_hashmap_box_message(value.box);
    CHECK(atoll_message_handle(msg, 0, &atoll_hashmap_class) == map);
    CHECK_INT(put(map, "me", number(1), INFINITY), ATOLL_HASHMAP_DONE);
    atoll_hashmap_value_release(&value);
    CHECK_INT(put(map, "me", boxed("x", &atoll_hashmap_class, map), INFINITY), ATOLL_HASHMAP_DONE);
    atoll_hashmap_release(map); /* a leak, or a use after it is freed, for AddressSanitizer */
}

TEST(map_chains_are_freed_without_stack) {
    atoll_hashmap *first = NULL;
    for (int i = 0; i < 20000; i++) {
        atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
        REQUIRE(map != NULL);
        if (first != NULL) {
            CHECK_INT(put(map, "next", boxed("x", &atoll_hashmap_class, first), INFINITY),
                      ATOLL_HASHMAP_DONE);
            atoll_hashmap_release(first);
        }
        first = map;
    }
    atoll_hashmap_release(first);
}

TEST(map_and_queue_chains_are_freed_without_stack) {
    atoll_hashmap *first = NULL;
    for (int i = 0; i < 20000; i++) {
        atoll_queue *queue = atoll_queue_new(0, 0);
        atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
        REQUIRE(queue != NULL && map != NULL);
        CHECK_INT(put(map, "queue", boxed("x", &atoll_queue_class, queue), INFINITY), ATOLL_HASHMAP_DONE);
        if (first != NULL) {
            atoll_batch batch = {0};
            size_t start = atoll_batch_begin(&batch);
            (void)atoll_message_attach(&batch.msg, &atoll_hashmap_class, first);
            CHECK_INT(atoll_batch_end(&batch, start, 0, ATOLL_UNBOUND_KEEP), 0);
            CHECK_INT(atoll_queue_put(queue, &batch), ATOLL_QUEUE_OK);
            atoll_batch_reset(&batch);
            atoll_message_clear(&batch.msg);
        }
        atoll_queue_release(queue);
        first = map;
    }
    atoll_hashmap_release(first);
}

/* ---- threads ---- */

enum { THREADS = 4, KEYS = 24 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EACH 4000
#else
#define EACH 60000
#endif

typedef struct {
    int number;
    atoll_hashmap *map;
    _Atomic(int64_t) *added; /* by key */
} job;

/* A value's box says the key, twice: whoever reads it half replaced sees that. */
static atoll_hashmap_value value_for(int key) {
    char text[64];
    (void)snprintf(text, sizeof text, "%d and %d", key, key);
    return boxed(text, NULL, NULL);
}

static void check_value(const atoll_hashmap_value *value, int key) {
    if (value->box != NULL) {
        char text[64];
        int len = snprintf(text, sizeof text, "%d and %d", key, key);
        const atoll_message *msg = atoll_hashmap_box_message(value->box);
        CHECK(msg->body.len == (size_t)len && memcmp(msg->body.data, text, (size_t)len) == 0);
    } else {
        CHECK_INT(value->number, key);
    }
}

static void *use_map(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 7919 + 1;
    for (int i = 0; i < EACH; i++) {
        int k = (int)roll(KEYS);
        char name[32];
        (void)snprintf(name, sizeof name, "key %d", k);
        atoll_hashmap_key key = key_of(name);
        atoll_hashmap_value value = {0};
        atoll_hashmap_value fresh;
        double expires = roll(3) == 0 ? atoll_clock() + (double)roll(100) * 1e-6 : INFINITY;
        switch (roll(8)) {
        case 0:
        case 1:
            fresh = roll(2) == 0 ? number(k) : value_for(k);
            CHECK_INT(atoll_hashmap_put(j->map, &key, &fresh, expires, ATOLL_HASHMAP_ALWAYS, NULL),
                      ATOLL_HASHMAP_DONE);
            break;
        case 2:
            fresh = value_for(k);
            if (atoll_hashmap_put(j->map, &key, &fresh, expires, ATOLL_HASHMAP_IF_ABSENT, &value) ==
                ATOLL_HASHMAP_PRESENT) {
                check_value(&value, k);
                atoll_hashmap_value_release(&value);
            }
            break;
        case 3:
            if (atoll_hashmap_get(j->map, &key, &value) == ATOLL_HASHMAP_DONE) {
                fresh = value_for(k);
                (void)atoll_hashmap_put(j->map, &key, &fresh, NAN, ATOLL_HASHMAP_IF_SAME, &value);
                check_value(&value, k);
                atoll_hashmap_value_release(&value);
            }
            break;
        case 4:
            if (roll(2) == 0) {
                (void)atoll_hashmap_remove(j->map, &key, NULL);
            } else if (atoll_hashmap_look(j->map, &key, &value) == ATOLL_HASHMAP_DONE) {
                (void)atoll_hashmap_remove(j->map, &key, &value);
                check_value(&value, k);
                atoll_hashmap_value_release(&value);
            }
            break;
        case 5:
            if (roll(20) == 0) {
                size_t count;
                atoll_hashmap_item *items = atoll_hashmap_items(j->map, &count);
                CHECK(items != NULL && count <= KEYS);
                atoll_hashmap_items_free(items, count);
                break;
            }
            if (roll(20) == 0) {
                atoll_hashmap_clear(j->map);
            }
            CHECK(atoll_hashmap_count(j->map) <= KEYS);
            break;
        default:
            if (atoll_hashmap_get(j->map, &key, &value) == ATOLL_HASHMAP_DONE) {
                check_value(&value, k);
                atoll_hashmap_value_release(&value);
            }
        }
        if (atoll_hashmap_max_bytes(j->map) != 0) {
            atoll_hashmap_stats stats;
            atoll_hashmap_get_stats(j->map, &stats);
            CHECK(stats.count <= KEYS);
        }
    }
    return NULL;
}

static void run(void *(*what)(void *), atoll_hashmap *map, _Atomic(int64_t) *added) {
    pthread_t threads[THREADS];
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){i, map, added};
        CHECK_INT(pthread_create(&threads[i], NULL, what, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

TEST(map_threads_use_one_map) {
    for (uint64_t limit = 0; limit <= 2000; limit += 2000) {
        atoll_hashmap *map = atoll_hashmap_new(limit, INFINITY);
        REQUIRE(map != NULL);
        run(use_map, map, NULL);
        atoll_hashmap_stats stats;
        atoll_hashmap_get_stats(map, &stats);
        CHECK(limit == 0 || stats.bytes <= limit);
        atoll_hashmap_clear(map);
        atoll_hashmap_get_stats(map, &stats);
        CHECK_UINT(stats.bytes, 0);
        atoll_hashmap_release(map);
    }
}

static void *add_up(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 104729 + 3;
    for (int i = 0; i < EACH; i++) {
        int k = (int)roll(3);
        atoll_hashmap_key key = key_of(k == 0 ? "x" : k == 1 ? "y" : "z");
        int64_t delta = (int64_t)roll(10);
        int64_t sum;
        CHECK_INT(atoll_hashmap_add(j->map, &key, delta, INFINITY, &sum), ATOLL_HASHMAP_DONE);
        atomic_fetch_add(&j->added[k], delta);
    }
    return NULL;
}

TEST(map_loses_no_addition) {
    atoll_hashmap *map = atoll_hashmap_new(0, INFINITY);
    REQUIRE(map != NULL);
    _Atomic(int64_t) added[3] = {0};
    run(add_up, map, added);
    CHECK_INT(get(map, "x"), atomic_load(&added[0]));
    CHECK_INT(get(map, "y"), atomic_load(&added[1]));
    CHECK_INT(get(map, "z"), atomic_load(&added[2]));
    atoll_hashmap_release(map);
}

/* ---- at once, whichever stripes ---- */

/* A key of this stripe. */
static atoll_hashmap_key key_in(uint64_t stripe, char text[32]) {
    atoll_hashmap_key key;
    int n = 0;
    do {
        (void)snprintf(text, 32, "%d", n++);
        key = key_of(text);
    } while (key.hash >> 59 != stripe);
    return key;
}

/* A map, and keys of its first and its last stripe. */
static atoll_hashmap *moved_in;
static atoll_hashmap_key low;
static atoll_hashmap_key high;
static char low_text[32];
static char high_text[32];

static void store(const atoll_hashmap_key *key, atoll_hashmap_value value, double expires) {
    CHECK_INT(atoll_hashmap_put(moved_in, key, &value, expires, ATOLL_HASHMAP_ALWAYS, NULL),
              ATOLL_HASHMAP_DONE);
}

static void nothing(void *ptr) { (void)ptr; }

/* Values with a handle of these classes do something when they are released, as another thread might at that moment. */
static void store_both(void *ptr) {
    (void)ptr;
    store(&low, number(1), INFINITY);
    store(&high, number(1), INFINITY);
}

static void move_down(void *ptr) {
    (void)ptr;
    store(&low, number(1), INFINITY);
    CHECK_INT(atoll_hashmap_remove(moved_in, &high, NULL), ATOLL_HASHMAP_DONE);
}

static const atoll_handle_class stores_both = {"stores both", nothing, store_both};
static const atoll_handle_class moves_down = {"moves down", nothing, move_down};

TEST(map_is_cleared_and_counted_at_once) {
    moved_in = atoll_hashmap_new(0, INFINITY);
    REQUIRE(moved_in != NULL);
    low = key_in(0, low_text);
    high = key_in(ATOLL_HASHMAP_STRIPES - 1, high_text);
    store(&low, boxed("a", &stores_both, &low), INFINITY);
    atoll_hashmap_clear(moved_in);
    CHECK(atoll_hashmap_has(moved_in, &low) == atoll_hashmap_has(moved_in, &high));
    atoll_hashmap_clear(moved_in);
    store(&high, number(1), INFINITY);
    store(&low, boxed("a", &moves_down, &low), atoll_clock() - 1);
    CHECK_UINT(atoll_hashmap_count(moved_in), 1); /* there is one all the time */
    CHECK(atoll_hashmap_has(moved_in, &low) && !atoll_hashmap_has(moved_in, &high));
    atoll_hashmap_release(moved_in);
}
