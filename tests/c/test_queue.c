/* The queue against a reference that is too simple to be wrong: random operations, one thread, every result compared. */
#include "core/queue/queue.h"
#include "harness.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t state;
} generator;

static uint64_t roll(generator *g, uint64_t below) {
    g->state ^= g->state << 13;
    g->state ^= g->state >> 7;
    g->state ^= g->state << 17;
    return g->state % below;
}

/* Handles that count. */
static _Atomic(int) live_things;

static void thing_retain(void *ptr) {
    (void)ptr;
    atomic_fetch_add(&live_things, 1);
}

static void thing_release(void *ptr) {
    (void)ptr;
    atomic_fetch_sub(&live_things, 1);
}

static const atoll_handle_class thing_class = {"thing", thing_retain, thing_release};

typedef struct {
    uint64_t number;
    int64_t sender;
    uint8_t unbound;
    bool lost;
    size_t size;
    bool has_thing;
} expected;

enum { ITEMS = 4096 };

typedef struct {
    expected items[ITEMS];
    size_t first;
    size_t count;
    uint64_t next_number;
    bool shut;
} model;

static expected *at(model *m, size_t i) { return &m->items[(m->first + i) % ITEMS]; }

static size_t random_size(generator *g) {
    switch (roll(g, 12)) {
    case 0:
        return 8 + roll(g, 9000);
    case 1:
        return ATOLL_RECORD_INLINE - 8 + roll(g, 16);
    default:
        return 8 + roll(g, 48);
    }
}

/* An item is its number, then bytes that follow from it. */
static void append(atoll_batch *batch, const expected *e) {
    size_t start = atoll_batch_begin(batch);
    atoll_put_u64(&batch->msg.body, e->number);
    uint8_t *rest = atoll_buffer_extend(&batch->msg.body, e->size - 8);
    memset(rest, (int)(e->number & 0xff), e->size - 8);
    if (e->has_thing) {
        thing_retain(NULL);
        CHECK_UINT(atoll_message_attach(&batch->msg, &thing_class, batch), 0);
    }
    CHECK_INT(atoll_batch_end(batch, start, e->sender, e->unbound), 0);
}

static void check_item(const atoll_record *record, const expected *e) {
    CHECK_INT(record->sender, e->sender);
    CHECK_INT(record->unbound, e->unbound);
    if (e->lost) {
        CHECK_INT(record->kind, ATOLL_RECORD_UNBOUND);
        return;
    }
    REQUIRE(record->kind == ATOLL_RECORD_BYTES || record->kind == ATOLL_RECORD_BOX);
    atoll_message msg = atoll_record_message(record);
    CHECK_UINT(msg.body.len, e->size);
    CHECK_UINT(atoll_load_u64(msg.body.data), e->number);
    CHECK_INT(msg.body.data[e->size - 1], e->size > 8 ? (int)(e->number & 0xff) : msg.body.data[7]);
    CHECK_UINT(msg.nhandles, e->has_thing);
    atoll_record_release(record);
}

static void model_drop(model *m) {
    m->first = (m->first + 1) % ITEMS;
    m->count--;
}

static void do_put(atoll_queue *queue, model *m, generator *g, int64_t maxsize) {
    size_t n = roll(g, 4) == 0 ? 1 + roll(g, 200) : 1;
    if (m->count + n > ITEMS) {
        return;
    }
    atoll_batch batch = {0};
    size_t put = 0;
    for (size_t i = 0; i < n; i++) {
        expected e = {.number = m->next_number++,
                      .sender = (int64_t)roll(g, 4),
                      .unbound = (uint8_t)(1 + roll(g, 3)),
                      .size = random_size(g),
                      .has_thing = roll(g, 20) == 0};
        append(&batch, &e);
        if (!m->shut && (maxsize <= 0 || m->count < (size_t)maxsize)) {
            *at(m, m->count) = e;
            m->count++;
            put++;
        }
    }
    atoll_queue_result result = atoll_queue_put(queue, &batch);
    CHECK_INT(result, m->shut ? ATOLL_QUEUE_SHUT : put < n ? ATOLL_QUEUE_AGAIN : ATOLL_QUEUE_OK);
    CHECK_UINT(batch.count, n - put);
    atoll_batch_reset(&batch);
    atoll_message_clear(&batch.msg);
}

static void do_get(atoll_queue *queue, model *m) {
    union {
        atoll_record record;
        uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
    } out;
    atoll_queue_result result = atoll_queue_get(queue, &out.record);
    CHECK_INT(result, m->count != 0 ? ATOLL_QUEUE_OK : m->shut ? ATOLL_QUEUE_SHUT : ATOLL_QUEUE_AGAIN);
    if (result == ATOLL_QUEUE_OK && m->count != 0) {
        check_item(&out.record, at(m, 0));
        model_drop(m);
    }
}

static void do_get_many(atoll_queue *queue, model *m, generator *g) {
    atoll_chunk *chunk = atoll_chunk_new(1024 + (uint32_t)roll(g, 8192));
    REQUIRE(chunk != NULL);
    size_t most = 1 + roll(g, 150);
    size_t count = 0;
    atoll_queue_result result = atoll_queue_get_many(queue, most, chunk, &count);
    CHECK_INT(result, m->count != 0 ? ATOLL_QUEUE_OK : m->shut ? ATOLL_QUEUE_SHUT : ATOLL_QUEUE_AGAIN);
    CHECK(count <= most && count <= m->count && (count > 0) == (m->count > 0));
    size_t read = roll(g, 3) == 0 ? roll(g, count + 1) : count;
    for (size_t i = 0; i < read; i++) {
        const atoll_record *record = atoll_chunk_next(chunk);
        REQUIRE(record != NULL);
        check_item(record, at(m, 0));
        model_drop(m);
    }
    if (read < count) {
        atoll_queue_return(queue, chunk, count - read);
    } else {
        CHECK(atoll_chunk_next(chunk) == NULL);
        free(chunk);
    }
}

static void do_unbind(model *m, int64_t sender) {
    atoll_queues_unbind(sender);
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        expected e = *at(m, i);
        if (e.sender == sender && !e.lost) {
            if (e.unbound == ATOLL_UNBOUND_REMOVE) {
                continue;
            }
            e.lost = true;
        }
        *at(m, kept++) = e;
    }
    m->count = kept;
}

static void run_model(uint64_t seed, int64_t maxsize, int steps) {
    generator g = {seed * 0x9E3779B97F4A7C15U + 1};
    static model m;
    m = (model){0};
    atoll_queue *queue = atoll_queue_new(maxsize, ATOLL_UNBOUND_REPLACE);
    REQUIRE(queue != NULL);
    int event = roll(&g, 3) == 0 ? atoll_queue_event(queue, ATOLL_QUEUE_GET) : -1;
    uint64_t bias = 4;
    for (int step = 0; step < steps; step++) {
        if (step % 500 == 0) {
            bias = 2 + roll(&g, 5); /* now it grows, now it shrinks */
        }
        uint64_t what = roll(&g, 1000);
        if (what < 3) {
            do_unbind(&m, (int64_t)roll(&g, 4));
        } else if (what < 200) {
            do_get_many(queue, &m, &g);
        } else if (what % 8 < bias) {
            do_put(queue, &m, &g, maxsize);
        } else {
            do_get(queue, &m);
        }
        CHECK_UINT(atoll_queue_count(queue), m.count);
        CHECK_INT(atoll_queue_is_full(queue), maxsize > 0 && m.count >= (size_t)maxsize);
        CHECK_INT(atoll_queue_ready(queue), m.count != 0 || m.shut);
    }
    bool drop = roll(&g, 2) == 0;
    atoll_queue_shutdown(queue, drop);
    m.shut = true;
    m.count = drop ? 0 : m.count;
    do_put(queue, &m, &g, maxsize);
    while (m.count > 0 && roll(&g, 50) != 0) {
        do_get(queue, &m);
    }
    CHECK_UINT(atoll_queue_count(queue), m.count);
    CHECK(event == -1 || atoll_queue_event(queue, ATOLL_QUEUE_GET) == event);
    atoll_queue_release(queue);
    CHECK_INT(atomic_load(&live_things), 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEPS 4000
#else
#define STEPS 50000
#endif

TEST(queue_model_unbounded) {
    for (uint64_t seed = 1; seed <= 30; seed++) {
        run_model(seed, 0, STEPS);
    }
}

TEST(queue_model_bounded) {
    static const int64_t sizes[] = {1, 2, 7, 64, 1000};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        run_model(seed + 100, sizes[seed % 5], STEPS);
    }
}

TEST(queue_names) {
    atoll_queue *one = atoll_queue_new(-3, ATOLL_UNBOUND_ERROR);
    atoll_queue *two = atoll_queue_new(5, ATOLL_UNBOUND_REMOVE);
    REQUIRE(one != NULL && two != NULL);
    CHECK(atoll_queue_id(two) > atoll_queue_id(one));
    CHECK_INT(atoll_queue_maxsize(one), -3);
    CHECK_INT(atoll_queue_unbound(two), ATOLL_UNBOUND_REMOVE);
    atoll_queue *found = atoll_queue_find(atoll_queue_id(two));
    CHECK(found == two);
    atoll_queue_release(found);
    found = atoll_queue_after(atoll_queue_id(one));
    CHECK(found == two);
    atoll_queue_release(found);
    int64_t id = atoll_queue_id(one);
    atoll_queue_release(one);
    CHECK(atoll_queue_find(id) == NULL);
    CHECK(atoll_queue_find(id + 1000) == NULL && atoll_queue_find(-1) == NULL);
    atoll_queue_release(two);
}

/* A queue in a message of its own does not keep itself alive; taken out again, the message does. */
TEST(queue_through_itself) {
    atoll_queue *queue = atoll_queue_new(0, ATOLL_UNBOUND_REPLACE);
    REQUIRE(queue != NULL);
    int64_t id = atoll_queue_id(queue);
    for (int i = 0; i < 2; i++) {
        atoll_batch batch = {0};
        size_t start = atoll_batch_begin(&batch);
        atoll_queue_retain(queue);
        (void)atoll_message_attach(&batch.msg, &atoll_queue_class, queue);
        CHECK_INT(atoll_batch_end(&batch, start, 0, ATOLL_UNBOUND_REPLACE), 0);
        CHECK_INT(atoll_queue_put(queue, &batch), ATOLL_QUEUE_OK);
        atoll_batch_reset(&batch);
        atoll_message_clear(&batch.msg);
    }
    union {
        atoll_record record;
        uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
    } out;
    CHECK_INT(atoll_queue_get(queue, &out.record), ATOLL_QUEUE_OK);
    atoll_message msg = atoll_record_message(&out.record);
    CHECK(atoll_message_handle(&msg, 0, &atoll_queue_class) == queue);
    atoll_queue_release(queue); /* the message that was taken keeps it */
    CHECK_UINT(atoll_queue_count(queue), 1);
    atoll_record_release(&out.record);
    CHECK(atoll_queue_find(id) == NULL);
}

/* A queue whose only item is another queue, and so on: as many as would use up the stack if each released the next. */
TEST(queue_chain_is_released) {
    enum { QUEUES = 200000 };
    atoll_queue *queue = atoll_queue_new(0, ATOLL_UNBOUND_KEEP);
    for (int i = 0; i < QUEUES; i++) {
        atoll_queue *outer = atoll_queue_new(0, ATOLL_UNBOUND_KEEP);
        atoll_batch batch = {0};
        size_t start = atoll_batch_begin(&batch);
        (void)atoll_message_attach(&batch.msg, &atoll_queue_class, queue); /* takes the reference over */
        CHECK_INT(atoll_batch_end(&batch, start, 1, ATOLL_UNBOUND_KEEP), 0);
        CHECK_INT(atoll_queue_put(outer, &batch), ATOLL_QUEUE_OK);
        atoll_message_clear(&batch.msg);
        queue = outer;
    }
    int64_t last = atoll_queue_id(queue);
    atoll_queue_release(queue);
    for (int64_t id = last - QUEUES; id <= last; id++) {
        CHECK(atoll_queue_find(id) == NULL);
    }
}

/* Who comes back, whatever it was woken by, has the place that it had. */
TEST(waiters_keep_their_places) {
    atoll_waiters list = {0};
    atoll_waiter w[4] = {0};
    for (int i = 0; i < 3; i++) {
        atoll_waiters_add(&list, &w[i]);
    }
    atoll_waiters_remove(&list, &w[1]); /* interrupted, both */
    atoll_waiters_remove(&list, &w[0]);
    atoll_waiters_add(&list, &w[3]);
    atoll_waiters_add(&list, &w[1]);
    atoll_waiters_add(&list, &w[0]);
    for (int i = 0; i < 4; i++) {
        CHECK(list.first == &w[i]);
        atoll_waiters_remove(&list, &w[i]);
    }
    CHECK(list.first == NULL && list.last == NULL);
    atoll_waiters_add(&list, &w[2]);
    CHECK(list.first == &w[2] && list.last == &w[2]);
}
