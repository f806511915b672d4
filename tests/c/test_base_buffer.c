/* Buffers and readers (core/base/buffer.h), blocks (core/base/block.h) and rewinding a message. */
#include "harness.h"

#include "core/base/block.h"
#include "core/base/buffer.h"
#include "core/base/message.h"

#include <pthread.h>

TEST(buffer_puts_and_gets) {
    atoll_buffer buf = {0};
    atoll_put_u8(&buf, 7);
    atoll_put_u32(&buf, 0x01020304);
    atoll_put_u64(&buf, UINT64_C(0x1122334455667788));
    atoll_put_bytes(&buf, "abc", 3);
    atoll_put_bytes(&buf, NULL, 0);
    CHECK(!buf.failed);
    CHECK_UINT(buf.len, 16);
    CHECK_UINT(buf.data[1], 4); /* little-endian */
    atoll_reader rd = {buf.data, buf.data + buf.len, false};
    CHECK_UINT(atoll_get_u8(&rd), 7);
    CHECK_UINT(atoll_get_u32(&rd), 0x01020304);
    CHECK_UINT(atoll_get_u64(&rd), UINT64_C(0x1122334455667788));
    const uint8_t *text = atoll_get_bytes(&rd, 3);
    CHECK(text != NULL && memcmp(text, "abc", 3) == 0);
    CHECK_UINT(atoll_reader_left(&rd), 0);
    CHECK(!rd.failed);
    atoll_buffer_free(&buf);
    CHECK(buf.data == NULL);
}

TEST(buffer_reader_stops_at_the_end) {
    const uint8_t three[3] = {1, 2, 3};
    atoll_reader rd = {three, three + 3, false};
    CHECK_UINT(atoll_get_u32(&rd), 0);
    CHECK(rd.failed);
    CHECK_UINT(atoll_reader_left(&rd), 3); /* nothing was consumed */
    rd.failed = false;
    CHECK(atoll_get_bytes(&rd, SIZE_MAX) == NULL);
    CHECK(rd.failed);
    rd.failed = false;
    CHECK(atoll_get_bytes(&rd, 3) == three);
    CHECK_UINT(atoll_get_u8(&rd), 0);
    CHECK(rd.failed);
}

TEST(buffer_grows_by_doubling_and_keeps_its_bytes) {
    atoll_buffer buf = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        atoll_put_u32(&buf, i);
    }
    REQUIRE(!buf.failed);
    CHECK_UINT(buf.len, 400000);
    CHECK_UINT(buf.cap, 524288);
    atoll_reader rd = {buf.data, buf.data + buf.len, false};
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        wrong += atoll_get_u32(&rd) != i;
    }
    CHECK_UINT(wrong, 0);
    atoll_buffer_reset(&buf, 1 << 20);
    CHECK_UINT(buf.len, 0);
    CHECK_UINT(buf.cap, 524288);
    atoll_buffer_reset(&buf, 1000);
    CHECK_UINT(buf.cap, 0);
    CHECK(buf.data == NULL);
}

TEST(buffer_refuses_impossible_sizes) {
    atoll_buffer buf = {0};
    atoll_put_u8(&buf, 1);
    CHECK(atoll_buffer_extend(&buf, SIZE_MAX - 100) == NULL);
    CHECK(buf.failed);
    CHECK_UINT(buf.len, 1); /* what was there stays */
    CHECK_UINT(buf.data[0], 1);
    atoll_buffer_reset(&buf, 4096);
    CHECK(!buf.failed);
    atoll_buffer_free(&buf);
}

TEST(message_rewind_releases_what_came_after) {
    atoll_message msg = {0};
    atoll_block *first = atoll_block_new(8);
    atoll_block *second = atoll_block_new(8);
    REQUIRE(first != NULL && second != NULL);
    atoll_block_retain(first);
    atoll_block_retain(second);
    atoll_put_u32(&msg.body, 1);
    CHECK_UINT(atoll_message_attach(&msg, &atoll_block_class, first), 0);
    atoll_put_u32(&msg.body, 2);
    CHECK_UINT(atoll_message_attach(&msg, &atoll_block_class, second), 1);
    CHECK_UINT(atomic_load(&second->refs), 2);
    atoll_message_rewind(&msg, 4, 1);
    CHECK_UINT(msg.body.len, 4);
    CHECK_UINT(msg.nhandles, 1);
    CHECK_UINT(atomic_load(&first->refs), 2);
    CHECK_UINT(atomic_load(&second->refs), 1);
    CHECK(atoll_message_handle(&msg, 0, &atoll_block_class) == first);
    CHECK(atoll_message_handle(&msg, 1, &atoll_block_class) == NULL);
    atoll_message_clear(&msg);
    CHECK_UINT(atomic_load(&first->refs), 1);
    atoll_block_release(first);
    atoll_block_release(second);
}

TEST(block_is_aligned_and_sized) {
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        atoll_block *block = atoll_block_new(sizes[i]);
        REQUIRE(block != NULL);
        CHECK_UINT(block->size, sizes[i]);
        CHECK_UINT((uintptr_t)block->data % 64, 0);
        memset(block->data, 0x5a, sizes[i]);
        atoll_block_release(block);
    }
    CHECK(atoll_block_new(SIZE_MAX) == NULL);
}

static void *retain_and_release(void *arg) {
    for (int i = 0; i < 100000; i++) {
        atoll_block_retain(arg);
        atoll_block_release(arg);
    }
    atoll_block_release(arg);
    return NULL;
}

TEST(block_is_counted_across_threads) {
    enum { THREADS = 4 };
    atoll_block *block = atoll_block_new(100);
    REQUIRE(block != NULL);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        atoll_block_retain(block);
        REQUIRE(pthread_create(&threads[i], NULL, retain_and_release, block) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_UINT(atomic_load(&block->refs), 1);
    atoll_block_release(block);
}
