/* The page of statistics: its slots, who reads them, and a forked child's. */
#include "core/pool/pool.h"
#include "core/queue/queue.h"
#include "core/registry/registry.h"
#include "core/stats/stats.h"
#include "dice.h"
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const atoll_stats_header *page(void) {
    size_t size;
    return atoll_stats_page(&size);
}

static const atoll_stats_interp *slots(void) {
    return (const atoll_stats_interp *)(const void *)((const char *)page() + page()->interps.at);
}

/* The published slot with this id, or NULL. */
static const atoll_stats_interp *find(uint64_t id) {
    for (uint32_t i = 0; i < atomic_load(&page()->interps.used); i++) {
        uint64_t seq = atomic_load(&slots()[i].seq);
        if (seq != 0 && seq % 2 == 0 && atoll_stats_get(&slots()[i].id) == id) {
            return &slots()[i];
        }
    }
    return NULL;
}

TEST(stats_slot_is_seen_until_its_interpreter_ends) {
    atoll_stats_interp *stats = atoll_stats_interp_new(7001, true);
    REQUIRE(stats != NULL);
    CHECK(find(7001) == stats);
    uint64_t closed = atoll_stats_get(&page()->closed);
    uint64_t calls = atoll_stats_get(&page()->past[ATOLL_STAT_CALLS]);
    atoll_stat_add(stats, ATOLL_STAT_CALLS, 3);
    atoll_stat_set(stats, ATOLL_STAT_MODULES, 40);
    atoll_stats_interp_end(stats);
    CHECK(find(7001) == NULL);
    CHECK_UINT(atoll_stats_get(&page()->closed), closed + 1);
    CHECK_UINT(atoll_stats_get(&page()->past[ATOLL_STAT_CALLS]), calls + 3);
    CHECK_UINT(atoll_stats_get(&page()->past[ATOLL_STAT_MODULES]), 0);
    atoll_stats_interp_free(stats);
    atoll_stats_interp *next = atoll_stats_interp_new(7002, true);
    CHECK(next == stats); /* the slot is used again, from 0 */
    CHECK_UINT(atoll_stat_get(next, ATOLL_STAT_CALLS), 0);
    atoll_stats_interp_end(next);
    atoll_stats_interp_free(next);
}

TEST(stats_name_is_cut_between_characters) {
    atoll_stats_interp *stats = atoll_stats_interp_new(7003, true);
    REQUIRE(stats != NULL);
    char text[80];
    memset(text, 'x', sizeof text);
    memcpy(text + 62, "\xc3\xa4\xc3\xa4", 4); /* of 2 bytes each: the first one has room for half of it */
    text[79] = '\0';
    atoll_stats_interp_name(stats, text);
    char name[ATOLL_STATS_NAME];
    memcpy(name, (const void *)stats->name, sizeof name);
    CHECK_UINT(strlen(name), 62);
    CHECK_UINT(atomic_load(&stats->seq) % 2, 0);
    atoll_stats_interp_end(stats);
    atoll_stats_interp_free(stats);
}

TEST(stats_goes_on_without_slots) {
    enum { MORE = ATOLL_STATS_INTERPS + 8 };
    static atoll_stats_interp *all[MORE];
    size_t size;
    for (int i = 0; i < MORE; i++) {
        all[i] = atoll_stats_interp_new(8000 + i, true);
        REQUIRE(all[i] != NULL);
        atoll_stat_add(all[i], ATOLL_STAT_CALLS, 1);
    }
    const char *start = (const char *)atoll_stats_page(&size);
    CHECK((char *)all[MORE - 1] < start || (char *)all[MORE - 1] >= start + size);
    CHECK(find(8000 + MORE - 1) == NULL);
    for (int i = 0; i < MORE; i++) {
        atoll_stats_interp_end(all[i]);
        atoll_stats_interp_free(all[i]);
    }
    CHECK_UINT(atomic_load(&page()->interps.used), ATOLL_STATS_INTERPS);
}

TEST(stats_queue_counts_what_it_holds) {
    atoll_queue *queue = atoll_queue_new(5, 0);
    REQUIRE(queue != NULL);
    atoll_stats_queue *stats = atoll_queue_stats_of(queue);
    CHECK_UINT(atoll_stats_get(&stats->maxsize), 5);
    atoll_batch batch = {0};
    for (int i = 0; i < 3; i++) {
        size_t start = atoll_batch_begin(&batch);
        atoll_put_u64(&batch.msg.body, (uint64_t)i);
        CHECK_INT(atoll_batch_end(&batch, start, 1, ATOLL_UNBOUND_REMOVE), 0);
    }
    CHECK_INT(atoll_queue_put(queue, &batch), ATOLL_QUEUE_OK);
    atoll_batch_reset(&batch);
    atoll_message_clear(&batch.msg);
    CHECK_UINT(atoll_stats_get(&stats->puts), 3);
    union {
        atoll_record record;
        uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
    } out;
    CHECK_INT(atoll_queue_get(queue, &out.record), ATOLL_QUEUE_OK);
    CHECK_UINT(atoll_stats_get(&stats->gets), 1);
    atoll_queue_shutdown(queue, true);
    CHECK_UINT(atoll_stats_get(&stats->gets), 3);
    CHECK_UINT(atoll_stats_get(&stats->shut), 1);
    uint64_t seq = atoll_stats_get(&stats->seq);
    atoll_queue_release(queue);
    CHECK(atoll_stats_get(&stats->seq) == 0 && seq != 0);
}

TEST(stats_slot_that_is_used_again_is_another) {
    atoll_stats_interp *one = atoll_stats_interp_new(9101, true);
    REQUIRE(one != NULL);
    uint64_t seq = atoll_stats_get(&one->seq);
    atoll_stats_interp_end(one);
    atoll_stats_interp_free(one);
    atoll_stats_interp *other = atoll_stats_interp_new(9102, true);
    REQUIRE(other == one);
    CHECK(atoll_stats_get(&other->seq) != seq && atoll_stats_get(&other->seq) % 2 == 0);
    atoll_stats_interp_free(other);
}

static _Atomic(bool) stop;

/* What a reader of another process does: who is in a slot is of one moment. */
static void *read_names(void *wrong) {
    while (!atomic_load(&stop)) {
        for (uint32_t i = 0; i < 4; i++) {
            enum { ID = 1, NAME = offsetof(atoll_stats_interp, name) / sizeof(uint64_t), WORDS = NAME + 7 };
            uint64_t words[WORDS];
            if (atoll_stats_read(&slots()[i].seq, WORDS, words) && words[ID] >= 9000 &&
                words[NAME] != words[NAME + 6]) {
                atomic_fetch_add((_Atomic(int) *)wrong, 1);
            }
        }
    }
    return NULL;
}

TEST(stats_readers_see_whole_names) {
    _Atomic(int) wrong = 0;
    pthread_t reader;
    atoll_stats_interp_free(atoll_stats_interp_new(1, false)); /* the page is there */
    atomic_store(&stop, false);
    REQUIRE(pthread_create(&reader, NULL, read_names, &wrong) == 0);
    for (int i = 0; i < 5000; i++) {
        atoll_stats_interp *stats = atoll_stats_interp_new(9000 + i, true);
        char name[60];
        memset(name, 'a' + i % 26, sizeof name);
        name[59] = '\0';
        atoll_stats_interp_name(stats, name);
        memset(name, 'A' + i % 26, sizeof name);
        name[59] = '\0';
        atoll_stats_interp_name(stats, name);
        atoll_stats_interp_end(stats);
        atoll_stats_interp_free(stats);
    }
    atomic_store(&stop, true);
    pthread_join(reader, NULL);
    CHECK_INT(wrong, 0);
}

TEST(stats_slot_that_is_written_is_not_read) {
    uint64_t words[2];
    atoll_stats_interp *stats = atoll_stats_interp_new(9201, true);
    REQUIRE(stats != NULL);
    CHECK(atoll_stats_read(&stats->seq, 2, words));
    CHECK_UINT(words[0], atoll_stats_get(&stats->seq));
    CHECK_UINT(words[1], 9201);
    atoll_stats_interp_end(stats);
    CHECK(!atoll_stats_read(&stats->seq, 2, words));
    atoll_stats_interp_free(stats);
    CHECK(!atoll_stats_read(&stats->seq, 2, words));
}

TEST(stats_forked_child_has_a_page_of_its_own) {
    atoll_stats_interp *stats = atoll_stats_interp_new(7010, true);
    REQUIRE(stats != NULL);
    atoll_stat_add(stats, ATOLL_STAT_CALLS, 5);
    atoll_stat_set(stats, ATOLL_STAT_MODULES, 9);
    atoll_stats_fork(ATOLL_FORK_BEFORE);
    pid_t child = fork();
    if (child == 0) {
        atoll_stats_fork(ATOLL_FORK_CHILD);
        int failed = find(7010) != stats || atoll_stat_get(stats, ATOLL_STAT_CALLS) != 0 ||
                     atoll_stat_get(stats, ATOLL_STAT_MODULES) != 9 || atoll_stats_file() < 0;
        atoll_stat_add(stats, ATOLL_STAT_CALLS, 100);
        _exit(failed);
    }
    atoll_stats_fork(ATOLL_FORK_PARENT);
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_UINT(atoll_stat_get(stats, ATOLL_STAT_CALLS), 5);
    atoll_stats_interp_end(stats);
    atoll_stats_interp_free(stats);
}

TEST(stats_times_are_counted_in_buckets) {
    CHECK_UINT(atoll_stats_bucket(0), 0);
    CHECK_UINT(atoll_stats_bucket(1000), 0);
    CHECK_UINT(atoll_stats_bucket(1001), 1);
    CHECK_UINT(atoll_stats_bucket(UINT64_C(1000) << 28), 14);
    CHECK_UINT(atoll_stats_bucket(UINT64_MAX), ATOLL_STATS_BUCKETS - 1);
}

TEST(stats_ticks_are_nanoseconds_times_a_rate) {
    uint64_t ns = atoll_clock_ns();
    uint64_t ticks = atoll_ticks();
    while (atoll_clock_ns() - ns < 2000000) {
        atoll_cpu_relax();
    }
    double measured = (double)(atoll_ticks() - ticks) * atoll_tick_ns();
    CHECK(measured > 1.9e6); /* a thread that was not running meanwhile makes both larger */
}

static int start_nothing(atoll_worker *worker) {
    (void)worker;
    return 0;
}

static void interrupt_nothing(atoll_worker *worker) { (void)worker; }

TEST(stats_pool_counts_its_tasks) {
    static const atoll_pool_ops ops = {start_nothing, interrupt_nothing};
    atoll_pool *pool = atoll_pool_new(1, &ops);
    REQUIRE(pool != NULL);
    atoll_task *tasks[3];
    for (int i = 0; i < 3; i++) {
        tasks[i] = atoll_task_new(pool);
        REQUIRE(tasks[i] != NULL);
        CHECK_INT(atoll_pool_submit(pool, tasks[i]), ATOLL_POOL_OK);
    }
    const atoll_stats_pool *stats = pool->stats;
    CHECK_UINT(atoll_stats_get(&stats->submitted), 3);
    CHECK_UINT(atoll_stats_get(&stats->workers), 1);
    CHECK_INT(atoll_task_cancel(tasks[1]), ATOLL_CANCEL_DONE);
    atoll_worker *worker = pool->list;
    for (int i = 0; i < 2; i++) {
        atoll_task *task = atoll_worker_try_take(worker);
        REQUIRE(task == tasks[2 * i]);
        CHECK(atoll_worker_claim(worker, task));
        atoll_worker_end_task(worker, task);
    }
    CHECK_UINT(atoll_stats_get(&stats->started), 2);
    CHECK_UINT(atoll_stats_get(&stats->done), 2);
    CHECK_UINT(atoll_stats_get(&stats->cancelled), 1);
    uint64_t waited = 0;
    uint64_t ran = 0;
    for (int i = 0; i < ATOLL_STATS_BUCKETS; i++) {
        waited += atoll_stats_get(&stats->waited[i]);
        ran += atoll_stats_get(&stats->ran[i]);
    }
    CHECK_UINT(waited, 1); /* of every eighth */
    CHECK_UINT(ran, 2);
    for (int i = 0; i < 3; i++) {
        atoll_task_release(tasks[i]);
    }
    atoll_worker_gone(worker);
    CHECK_UINT(atoll_stats_get(&stats->workers), 0);
    uint64_t seq = atoll_stats_get(&stats->seq);
    atoll_pool_release(pool);
    CHECK(seq != 0 && atoll_stats_get(&stats->seq) == 0);
}

static _Atomic(bool) reading_over;
static _Atomic(int) looks;

/* Looks at a slot for as long as it comes and goes: how often it had something in it that is nobody's. */
static void *look_at_slot(void *raw) {
    const atoll_stats_interp *slot = raw;
    uintptr_t wrong = 0;
    while (!atomic_load(&reading_over)) {
        uint64_t words[16];
        atomic_fetch_add(&looks, 1);
        if (atoll_stats_read(&slot->seq, 16, words)) {
            wrong += words[1] != 9201 || words[2] == 0;
        }
    }
    return (void *)wrong;
}

TEST(stats_slot_is_not_read_while_it_is_given_back) {
    atoll_stats_interp *slot = atoll_stats_interp_new(9201, true);
    REQUIRE(slot != NULL);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, look_at_slot, slot) == 0);
    dice = 7;
    for (int i = 0; i < 5000 || atomic_load(&looks) < 20000; i++) {
        atoll_stats_interp_end(slot);
        atoll_stats_interp_free(slot);
        CHECK(atoll_stats_interp_new(9201, true) == slot);
    }
    dice = 0;
    atomic_store(&reading_over, true);
    void *wrong;
    pthread_join(thread, &wrong);
    CHECK_UINT((uintptr_t)wrong, 0);
    CHECK_UINT(atoll_stats_get(&page()->ending), atoll_stats_get(&page()->ended));
    atoll_stats_interp_end(slot);
    atoll_stats_interp_free(slot);
}
