/* A fuzzer for core/queue/queue.h and core/base/message.h (libFuzzer): what one thread does with queues, in any order, beside a simple
 * list that says what has to come out.
 *
 * Each byte of an input is an operation, the ones behind it what it needs.  Items are of all sizes, have handles of blocks, of
 * other queues and of their own, are taken one by one and many at once, put back, marked, removed and dropped.  In the end
 * nothing is left (LeakSanitizer), and no handle was released twice or too early (AddressSanitizer).
 */
#include "core/base/base.h"
#include "core/queue/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUES = 2, SENDERS = 3, MOST_ITEMS = 4096, LONGEST = 6000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum { THERE, MARKED } item_state;

typedef struct {
    uint32_t number;
    uint32_t length;
    int64_t sender;
    uint8_t unbound;
    uint8_t handle; /* 0: none, 1: a block, 2: the other queue, 3: the queue itself */
    item_state state;
} item;

typedef struct {
    atoll_queue *queue;
    int64_t maxsize;
    item items[MOST_ITEMS];
    size_t first, end;
    bool shut;
} model;

static model models[QUEUES];
static uint32_t last_number;
static const uint8_t *input, *input_end;

static uint8_t next(void) { return input < input_end ? *input++ : 0; }

static void require(bool condition, const char *what) {
    if (!condition) {
        (void)fprintf(stderr, "fuzz_queue: %s\n", what);
        abort();
    }
}

static uint8_t filler(const item *expected, uint32_t i) { return (uint8_t)(expected->number * 7 + i * 13); }

static uint32_t length_of(uint8_t byte) {
    return byte < 200 ? byte % 40 : (uint32_t)(byte - 200) * (LONGEST / 56); /* short ones most of all */
}

static void attach(atoll_message *msg, const model *m, uint8_t handle) {
    uint32_t index = 0;
    if (handle == 1) {
        atoll_block *block = atoll_block_new(100);
        require(block != NULL, "no memory");
        index = atoll_message_attach(msg, &atoll_block_class, block);
    } else if (handle != 0) {
        atoll_queue *queue = handle == 3 ? m->queue : models[m == models ? 1 : 0].queue;
        atoll_queue_retain(queue);
        index = atoll_message_attach(msg, &atoll_queue_class, queue);
    }
    require(handle == 0 || index == msg->nhandles - 1, "a handle has no index");
}

static void put(model *m) {
    atoll_batch batch = {0};
    item made[4];
    size_t count = 1 + next() % 4;
    size_t n = 0;
    for (; n < count && m->end + n < MOST_ITEMS; n++) {
        item *it = &made[n];
        uint8_t kind = next();
        *it = (item){.number = ++last_number,
                     .length = length_of(next()),
                     .sender = 1 + kind % SENDERS,
                     .unbound = (uint8_t)(1 + kind / 4 % 4),
                     .handle = kind / 64};
        /* Two queues that hold each other are not freed: only the first may hold the second. */
        it->handle = it->handle == 2 && m != models ? 0 : it->handle;
        size_t start = atoll_batch_begin(&batch);
        require(start != SIZE_MAX, "no memory");
        attach(&batch.msg, m, it->handle);
        atoll_put_u32(&batch.msg.body, it->number);
        for (uint32_t i = 0; i < it->length; i++) {
            atoll_put_u8(&batch.msg.body, filler(it, i));
        }
        require(atoll_batch_end(&batch, start, it->sender, it->unbound) == 0, "an item cannot be completed");
    }
    atoll_queue_result result = atoll_queue_put(m->queue, &batch);
    size_t done = n - batch.count;
    require(result == (m->shut            ? ATOLL_QUEUE_SHUT
                       : batch.count != 0 ? ATOLL_QUEUE_AGAIN
                                          : ATOLL_QUEUE_OK),
            "a put ends otherwise than it should");
    require(done == n || m->shut || (m->maxsize > 0 && m->end + done - m->first == (size_t)m->maxsize),
            "there was room");
    memcpy(&m->items[m->end], made, done * sizeof *made);
    m->end += done;
    atoll_batch_reset(&batch);
    atoll_message_clear(&batch.msg);
}

static void check_record(const model *m, const item *expected, const atoll_record *record) {
    require(record->sender == expected->sender && record->unbound == expected->unbound, "another's item");
    if (expected->state == MARKED) {
        require(record->kind == ATOLL_RECORD_UNBOUND, "it was not marked");
        return;
    }
    require(record->kind == ATOLL_RECORD_BYTES || record->kind == ATOLL_RECORD_BOX, "it was marked");
    const atoll_message msg = atoll_record_message(record);
    atoll_reader rd = {.at = msg.body.data, .end = msg.body.data + msg.body.len};
    require(atoll_get_u32(&rd) == expected->number, "another item");
    require(atoll_reader_left(&rd) == expected->length, "of another length");
    for (uint32_t i = 0; i < expected->length; i++) {
        require(atoll_get_u8(&rd) == filler(expected, i), "another content");
    }
    (void)atoll_get_u64(&rd);
    require(rd.failed, "more is read than there is");
    require(msg.nhandles == (expected->handle != 0), "other handles");
    require(expected->handle != 1 || atoll_message_handle(&msg, 0, &atoll_block_class) != NULL, "no block");
    require(expected->handle < 2 || atoll_message_handle(&msg, 0, &atoll_queue_class) ==
                                        (expected->handle == 3 ? m->queue : models[1].queue),
            "another queue");
    require(atoll_message_handle(&msg, 1, &atoll_block_class) == NULL, "a handle that is not there");
}

static void check_nothing(const model *m, atoll_queue_result result) {
    require(m->first == m->end, "an item is lost");
    require(result == (m->shut ? ATOLL_QUEUE_SHUT : ATOLL_QUEUE_AGAIN),
            "nothing is there, and it says otherwise");
}

static void get(model *m) {
    _Alignas(8) uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
    atoll_record *record = (atoll_record *)(void *)room;
    atoll_queue_result result = atoll_queue_get(m->queue, record);
    if (result != ATOLL_QUEUE_OK) {
        check_nothing(m, result);
        return;
    }
    require(m->first < m->end, "an item too many");
    check_record(m, &m->items[m->first], record);
    if (next() % 4 == 0) {
        require(atoll_queue_return_one(m->queue, record) == 0, "no memory");
        return;
    }
    m->first++;
    atoll_record_release(record);
}

static void get_many(model *m) {
    static const uint32_t sizes[] = {1024, 2048, 16384};
    size_t most = 1 + next() % 20;
    size_t keep = next() % 20; /* so many are put back */
    size_t count = 0;
    atoll_chunk *chunk = atoll_chunk_new(sizes[next() % 3]);
    require(chunk != NULL, "no memory");
    atoll_queue_result result = atoll_queue_get_many(m->queue, most, chunk, &count);
    require(count <= most && count <= m->end - m->first, "items too many");
    if (result != ATOLL_QUEUE_OK) {
        check_nothing(m, result);
    }
    while (count > keep) {
        const atoll_record *record = atoll_chunk_next(chunk);
        require(record != NULL, "an item is missing");
        check_record(m, &m->items[m->first++], record);
        atoll_record_release(record);
        count--;
    }
    if (count > 0) {
        atoll_queue_return(m->queue, chunk, count);
    } else {
        require(atoll_chunk_next(chunk) == NULL, "an item more than was said");
        free(chunk);
    }
}

/* Of all queues, as it is when an interpreter ends. */
static void unbind(int64_t sender) {
    atoll_queues_unbind(sender);
    for (int q = 0; q < QUEUES; q++) {
        model *m = &models[q];
        size_t to = m->first;
        for (size_t i = m->first; i < m->end; i++) {
            item it = m->items[i];
            bool is_meant = it.sender == sender && it.state == THERE && it.unbound != ATOLL_UNBOUND_KEEP;
            it.state = is_meant ? MARKED : it.state;
            if (!is_meant || it.unbound != ATOLL_UNBOUND_REMOVE) {
                m->items[to++] = it;
            }
        }
        m->end = to;
    }
}

static void begin(model *m, int64_t maxsize) {
    *m = (model){.queue = atoll_queue_new(maxsize, 0), .maxsize = maxsize};
    require(m->queue != NULL, "no memory");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data;
    input_end = data + size;
    last_number = 0;
    begin(&models[0], next() % 30);
    begin(&models[1], next() % 30);
    while (input < input_end) {
        uint8_t byte = next();
        model *m = &models[byte % QUEUES];
        switch (byte / QUEUES % 16) {
        case 0:
            unbind(1 + next() % SENDERS);
            break;
        case 1:
            if (next() < 16) {
                bool drop = next() % 2 != 0;
                atoll_queue_shutdown(m->queue, drop);
                m->shut = true;
                m->first = drop ? m->end : m->first;
            }
            break;
        case 2:
        case 3:
        case 4:
            get_many(m);
            break;
        case 5:
        case 6:
        case 7:
        case 8:
            get(m);
            break;
        default:
            put(m);
            break;
        }
        require(atoll_queue_count(m->queue) == m->end - m->first, "another count");
        require(atoll_queue_is_full(m->queue) == (m->maxsize > 0 && m->end - m->first >= (size_t)m->maxsize),
                "full or not");
    }
    atoll_queue_release(models[0].queue);
    atoll_queue_release(models[1].queue);
    return 0;
}
