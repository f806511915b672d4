/* What destructors ask of natives that have ended: core/clone/natives.h. */
#include "harness.h"

#include "core/clone/natives.h"

#include <errno.h>
#include <stdlib.h>

static void *work(void *raw) { return raw; }

/* Code that runs late, a destructor say, leaves nothing that nobody would end. */
TEST(natives_that_have_ended_start_nothing) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    pthread_key_t key;
    pthread_t thread;
    CHECK(atoll_natives_end(natives));
    CHECK_INT(atoll_natives_key_create(natives, &key, free), EAGAIN);
    CHECK_INT(atoll_natives_key_create(natives, &key, NULL), EAGAIN);
    CHECK_INT(atoll_natives_thread(natives, &thread, NULL, work, NULL), EAGAIN);
    CHECK_INT(atomic_load(&natives->threads), 0);
    CHECK(atoll_natives_keys_ended(natives));
    atoll_natives_release(natives);
}
