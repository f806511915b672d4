/* Messages and the handles they own. */
#include "core/base/message.h"
#include "harness.h"

typedef struct {
    int refs;
} shared_thing;

static void thing_retain(void *ptr) { ((shared_thing *)ptr)->refs++; }
static void thing_release(void *ptr) { ((shared_thing *)ptr)->refs--; }

static const atoll_handle_class thing_class = {"thing", thing_retain, thing_release};
static const atoll_handle_class other_class = {"other", thing_retain, thing_release};

TEST(message_owns_its_handles) {
    shared_thing thing = {0};
    atoll_message msg = {0};
    for (uint32_t i = 0; i < 100; i++) {
        thing.refs++;
        CHECK_UINT(atoll_message_attach(&msg, &thing_class, &thing), i);
    }
    CHECK_INT(thing.refs, 100);
    CHECK(atoll_message_handle(&msg, 99, &thing_class) == &thing);
    CHECK(atoll_message_handle(&msg, 100, &thing_class) == NULL);
    CHECK(atoll_message_handle(&msg, ATOLL_NO_HANDLE, &thing_class) == NULL);
    CHECK(atoll_message_handle(&msg, 0, &other_class) == NULL);
    atoll_message_reset(&msg, 4096);
    CHECK_INT(thing.refs, 0);
    CHECK(atoll_message_handle(&msg, 0, &thing_class) == NULL);
    atoll_message_clear(&msg);
}

TEST(message_reset_keeps_no_more_than_asked) {
    atoll_message msg = {0};
    CHECK(atoll_buffer_extend(&msg.body, 100000) != NULL);
    atoll_message_reset(&msg, 200000);
    CHECK_UINT(msg.body.len, 0);
    CHECK(msg.body.cap >= 100000);
    atoll_message_reset(&msg, 1000);
    CHECK_UINT(msg.body.cap, 0);
    CHECK(msg.body.data == NULL);
    atoll_put_u32(&msg.body, 7);
    CHECK_UINT(msg.body.len, 4);
    atoll_message_clear(&msg);
    CHECK(msg.body.data == NULL);
}
