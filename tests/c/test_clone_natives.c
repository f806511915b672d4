/* Threads, keys and thread_local objects of clones: core/clone/natives.h. */
#include "harness.h"
#include "libraries.h"

#include "core/clone/natives.h"
#include "core/clone/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Comes to its end, or the harness's alarm does. */
static void wait_until(atomic_int *flag) {
    while (atomic_load(flag) == 0) {
        atoll_yield();
    }
}

static long threads_of(atoll_natives *natives) { return atomic_load(&natives->threads); }

/* ---- threads are counted ---- */

/* Rounds of destructors during which a thread is counted; ThreadSanitizer needs the last one for itself. */
#ifdef ATOLL_TEST_SANITIZED
#define ROUNDS 2
#else
#define ROUNDS 3
#endif

typedef struct {
    atoll_natives *natives;
    pthread_key_t key;
    atomic_int begun;
    atomic_int go;
    bool by_exit;
    long counted_in_run;
    long counted_in_end[ROUNDS]; /* by the key's destructor */
    int rounds;
} worker;

static void *work(void *raw) {
    worker *w = raw;
    w->counted_in_run = threads_of(w->natives);
    (void)pthread_setspecific(w->key, w);
    atomic_store(&w->begun, 1);
    wait_until(&w->go);
    if (w->by_exit) {
        pthread_exit(w);
    }
    return w;
}

static void work_ends(void *raw) {
    worker *w = raw;
    w->counted_in_end[w->rounds++] = threads_of(w->natives);
    if (w->rounds < ROUNDS) {
        (void)pthread_setspecific(w->key, w);
    }
}

static void check_counted(bool by_exit) {
    worker w = {.natives = atoll_natives_new(), .by_exit = by_exit};
    REQUIRE(w.natives != NULL);
    CHECK_INT(threads_of(w.natives), 0);
    CHECK_INT(atoll_natives_key_create(w.natives, &w.key, work_ends), 0);
    pthread_t thread;
    REQUIRE(atoll_natives_thread(w.natives, &thread, NULL, work, &w) == 0);
    CHECK_INT(threads_of(w.natives), 1);
    wait_until(&w.begun);
    CHECK_INT(threads_of(w.natives), 1);
    atomic_store(&w.go, 1);
    void *result = NULL;
    CHECK_INT(pthread_join(thread, &result), 0);
    CHECK(result == &w);
    CHECK_INT(threads_of(w.natives), 0);
    CHECK_INT(w.counted_in_run, 1);
    CHECK_INT(w.rounds, ROUNDS);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_INT(w.counted_in_end[i], 1);
    }
    CHECK(atoll_natives_end(w.natives));
    atoll_natives_release(w.natives);
}

TEST(natives_count_a_thread_until_its_destructors_ran) { check_counted(false); }

TEST(natives_count_a_thread_that_exits) { check_counted(true); }

/* ---- threads that wait ---- */

typedef struct {
    _Atomic(int) begun;
    _Atomic(int) go;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    pthread_key_t key;
} waiter;

static _Atomic(int) key_ends;

static void count_key_end(void *value) {
    (void)value;
    atomic_fetch_add(&key_ends, 1);
}

/* Works until `go`, then waits for ever. */
static void *wait_for_work(void *raw) {
    waiter *w = raw;
    (void)pthread_setspecific(w->key, w);
    pthread_mutex_lock(&w->mutex);
    atomic_store(&w->begun, 1);
    while (!atomic_load(&w->go)) {
        atoll_yield();
    }
    for (;;) {
        atoll_natives_wait_begins();
        pthread_cond_wait(&w->condition, &w->mutex);
        atoll_natives_wait_ends();
    }
    return NULL;
}

static void check_ended_waiting(int threads) {
    waiter w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .condition = PTHREAD_COND_INITIALIZER, .go = 1};
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL && threads <= 8);
    atomic_store(&key_ends, 0);
    CHECK_INT(atoll_natives_key_create(natives, &w.key, count_key_end), 0);
    pthread_t ids[8];
    for (int i = 0; i < threads; i++) {
        REQUIRE(atoll_natives_thread(natives, &ids[i], NULL, wait_for_work, &w) == 0);
    }
    CHECK(atoll_natives_threads_wait(natives, 10));
    CHECK_INT(threads_of(natives), threads);
    CHECK(atoll_natives_end(natives));
    CHECK_INT(threads_of(natives), 0);
    for (int i = 0; i < threads; i++) {
        CHECK_INT(pthread_join(ids[i], NULL), 0);
    }
    CHECK_INT(atomic_load(&key_ends), 0);
    atoll_natives_release(natives);
}

TEST(natives_end_threads_that_wait) {
    for (int i = 0; i < 50; i++) {
        check_ended_waiting(i % 8 + 1);
    }
}

TEST(natives_leave_a_thread_that_works) {
    waiter w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .condition = PTHREAD_COND_INITIALIZER};
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    CHECK_INT(atoll_natives_key_create(natives, &w.key, NULL), 0);
    CHECK(atoll_natives_threads_wait(natives, 0));
    pthread_t thread;
    REQUIRE(atoll_natives_thread(natives, &thread, NULL, wait_for_work, &w) == 0);
    CHECK(!atoll_natives_threads_wait(natives, 0));
    wait_until(&w.begun);
    CHECK(!atoll_natives_threads_wait(natives, 0.02));
    CHECK(!atoll_natives_threads_end(natives, 0.02));
    CHECK_INT(threads_of(natives), 1);
    atomic_store(&w.go, 1); /* it leaves by itself now */
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK(atoll_natives_end(natives));
    atoll_natives_release(natives);
}

static void *run_never(void *raw) {
    atomic_fetch_add((_Atomic(int) *)raw, 1);
    return raw;
}

TEST(natives_start_nothing_when_they_end) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    CHECK(atoll_natives_threads_end(natives, 0));
    _Atomic(int) ran = 0;
    pthread_t thread;
    void *result = &ran;
    REQUIRE(atoll_natives_thread(natives, &thread, NULL, run_never, &ran) == 0);
    CHECK_INT(pthread_join(thread, &result), 0);
    CHECK(result == NULL);
    CHECK_INT(atomic_load(&ran), 0);
    atoll_natives_release(natives);
}

TEST(natives_count_a_detached_thread) {
    worker w = {.natives = atoll_natives_new()};
    REQUIRE(w.natives != NULL);
    CHECK_INT(atoll_natives_key_create(w.natives, &w.key, NULL), 0);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    REQUIRE(atoll_natives_thread(w.natives, &thread, &detached, work, &w) == 0);
    pthread_attr_destroy(&detached);
    wait_until(&w.begun);
    CHECK_INT(threads_of(w.natives), 1);
    atomic_store(&w.go, 1);
    while (threads_of(w.natives) != 0) {
        atoll_yield();
    }
    CHECK(atoll_natives_end(w.natives));
    atoll_natives_release(w.natives);
}

static void *return_arg(void *arg) { return arg; }

TEST(natives_do_not_count_a_thread_that_cannot_start) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    pthread_attr_t huge;
    pthread_attr_init(&huge);
    REQUIRE(pthread_attr_setstacksize(&huge, (size_t)1 << 60) == 0);
    pthread_t thread;
    int rc = atoll_natives_thread(natives, &thread, &huge, return_arg, NULL);
    CHECK(rc != 0);
    CHECK_INT(threads_of(natives), 0);
    pthread_attr_destroy(&huge);
    CHECK(atoll_natives_end(natives));
    atoll_natives_release(natives);
}

/* ---- std::thread ---- */

/* What std::thread::_M_start_thread() takes: an object whose table has two destructors and _M_run(). */
typedef struct {
    void (*const *functions)(void *self);
    atoll_natives *natives;
    long counted_in_run;
    long counted_in_delete;
    int destroyed;
    int deleted;
} std_job;

static void job_destroy(void *raw) { ((std_job *)raw)->destroyed++; }

static void job_delete(void *raw) {
    std_job *job = raw;
    job->deleted++;
    job->counted_in_delete = threads_of(job->natives);
}

static void job_run(void *raw) {
    std_job *job = raw;
    job->counted_in_run = threads_of(job->natives);
}

static void (*const job_functions[])(void *) = {job_destroy, job_delete, job_run};

static void depend(void) {}

TEST(natives_count_a_std_thread) {
    void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_NODELETE);
    if (library == NULL || dlsym(library, ATOLL_SHIM_STD_THREAD) == NULL) {
        printf("(no libstdc++.so.6 here) ");
        return;
    }
    std_job job = {job_functions, .natives = atoll_natives_new()};
    REQUIRE(job.natives != NULL);
    pthread_t thread = 0; /* all that a std::thread is */
    void *state = &job;
    atoll_natives_std_thread(job.natives, library, &thread, &state, depend);
    CHECK(state == NULL);
    REQUIRE(pthread_join(thread, NULL) == 0);
    CHECK_INT(job.counted_in_run, 1);
    CHECK_INT(job.counted_in_delete, 1);
    CHECK_INT(job.deleted, 1);
    CHECK_INT(job.destroyed, 0);
    CHECK_INT(threads_of(job.natives), 0);
    CHECK(atoll_natives_end(job.natives));
    atoll_natives_release(job.natives);
    (void)dlclose(library);
}

/* ---- keys ---- */

static bool is_key(pthread_key_t key) { return pthread_setspecific(key, NULL) == 0; }

static atomic_int ends;

static void count_end(void *value) { atomic_fetch_add((atomic_int *)value, 1); }

TEST(natives_delete_keys_at_the_end) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    pthread_key_t keys[20];
    for (size_t i = 0; i < 20; i++) {
        REQUIRE(atoll_natives_key_create(natives, &keys[i], i % 2 == 0 ? count_end : NULL) == 0);
    }
    pthread_key_t added, taken_back;
    REQUIRE(pthread_key_create(&added, NULL) == 0 && pthread_key_create(&taken_back, NULL) == 0);
    CHECK_INT(atoll_natives_key_add(natives, added), 0);
    CHECK_INT(atoll_natives_key_add(natives, taken_back), 0);
    atoll_natives_key_remove(natives, taken_back);
    CHECK_INT(atoll_natives_key_delete(natives, keys[3]), 0);
    CHECK_INT(atoll_natives_key_delete(natives, keys[4]), 0);
    CHECK(!is_key(keys[3]) && !is_key(keys[4]) && is_key(keys[5]) && is_key(keys[6]));
    CHECK(atoll_natives_key_delete(natives, keys[4]) != 0); /* it is none any more */
    CHECK(atoll_natives_end(natives));
    for (size_t i = 0; i < 20; i++) {
        CHECK(!is_key(keys[i]));
    }
    CHECK(!is_key(added));
    CHECK(is_key(taken_back));
    (void)pthread_key_delete(taken_back);
    atoll_natives_release(natives);
}

TEST(natives_leave_a_number_alone_that_was_theirs) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    pthread_key_t key, other;
    REQUIRE(atoll_natives_key_create(natives, &key, count_end) == 0);
    CHECK(atoll_natives_end(natives));
    REQUIRE(pthread_key_create(&other, NULL) ==
            0); /* by the number that is free now, in the C libraries we know */
    CHECK_INT(atoll_natives_key_delete(natives, key), 0);
    CHECK(is_key(other));
    (void)pthread_key_delete(other);
    atoll_natives_release(natives);
}

/* More than a process has: the places of those that were deleted are used again. */
TEST(natives_make_and_delete_many_keys) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    for (int i = 0; i < 3000; i++) {
        pthread_key_t key;
        REQUIRE(atoll_natives_key_create(natives, &key, count_end) == 0);
        REQUIRE(atoll_natives_key_delete(natives, key) == 0);
    }
    for (int i = 0; i < 5; i++) {
        pthread_key_t keys[300];
        atoll_natives *more = atoll_natives_new();
        REQUIRE(more != NULL);
        for (int k = 0; k < 300; k++) {
            REQUIRE(atoll_natives_key_create(more, &keys[k], count_end) == 0);
        }
        CHECK(atoll_natives_end(more));
        atoll_natives_release(more);
    }
    CHECK(atoll_natives_end(natives));
    atoll_natives_release(natives);
}

TEST(natives_have_no_more_keys_than_the_system) {
    atoll_natives *natives = atoll_natives_new();
    REQUIRE(natives != NULL);
    pthread_key_t key;
    int made = 0, rc = 0;
    while (made < 5000 && (rc = atoll_natives_key_create(natives, &key, count_end)) == 0) {
        made++;
    }
    CHECK_INT(rc, EAGAIN);
    CHECK(made > 100);
    CHECK(atoll_natives_end(natives));
    CHECK_INT(pthread_key_create(&key, NULL), 0);
    (void)pthread_key_delete(key);
    atoll_natives_release(natives);
}

/* ---- destructors and the end ---- */

typedef struct {
    atoll_natives *natives;
    pthread_key_t key;
    bool by_key;   /* else by a thread_local object */
    bool stubborn; /* goes on until it is told */
    atomic_int begun;
    atomic_int go;
    atomic_int finished;
} slow_end;

/* Returns some time after the end of the natives has begun. */
static void end_slowly(void *raw) {
    slow_end *slow = raw;
    atomic_store(&slow->begun, 1);
    while (slow->stubborn ? atomic_load(&slow->go) == 0 : !atomic_load(&slow->natives->over)) {
        atoll_yield();
    }
    for (int i = 0; i < 1000; i++) {
        atoll_cpu_relax();
    }
    atomic_store(&slow->finished, 1);
}

static void *have_slow_end(void *raw) {
    slow_end *slow = raw;
    if (slow->by_key) {
        (void)pthread_setspecific(slow->key, slow);
    } else {
        (void)atoll_natives_at_thread_end(slow->natives, end_slowly, slow);
    }
    return NULL;
}

static void check_end_waits(bool by_key, bool delete_before) {
    slow_end slow = {.natives = atoll_natives_new(), .by_key = by_key};
    REQUIRE(slow.natives != NULL);
    REQUIRE(atoll_natives_key_create(slow.natives, &slow.key, end_slowly) == 0);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, have_slow_end, &slow) == 0);
    wait_until(&slow.begun);
    if (delete_before) {
        CHECK_INT(atoll_natives_key_delete(slow.natives, slow.key), 0);
    }
    bool ended = atoll_natives_end(slow.natives);
    CHECK(ended);
    CHECK(!ended || atomic_load(&slow.finished) == 1);
    (void)pthread_join(thread, NULL);
    atoll_natives_release(slow.natives);
}

TEST(natives_end_waits_for_an_object_s_destructor) { check_end_waits(false, false); }

TEST(natives_end_waits_for_a_key_s_destructor) { check_end_waits(true, false); }

TEST(natives_end_waits_for_the_destructor_of_a_key_that_is_deleted) { check_end_waits(true, true); }

static void check_end_gives_up(bool by_key) {
    slow_end slow = {.natives = atoll_natives_new(), .by_key = by_key, .stubborn = true};
    REQUIRE(slow.natives != NULL);
    REQUIRE(atoll_natives_key_create(slow.natives, &slow.key, end_slowly) == 0);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, have_slow_end, &slow) == 0);
    wait_until(&slow.begun);
    CHECK(!atoll_natives_end(slow.natives));
    CHECK_INT(atomic_load(&slow.finished), 0);
    atomic_store(&slow.go, 1);
    (void)pthread_join(thread, NULL);
    CHECK(atoll_natives_end(slow.natives));
    atoll_natives_release(slow.natives);
}

TEST(natives_end_gives_up_on_an_object_s_destructor) { check_end_gives_up(false); }

TEST(natives_end_gives_up_on_a_key_s_destructor) { check_end_gives_up(true); }

/* ---- thread_local objects ---- */

typedef struct {
    atoll_natives *natives;
    char order[8];
    atomic_int begun;
    atomic_int go;
} objects;

typedef struct {
    objects *all;
    char name;
} object;

static void destroy_object(void *raw) {
    object *o = raw;
    size_t length = strlen(o->all->order);
    if (length + 1 < sizeof o->all->order) {
        o->all->order[length] = o->name;
    }
}

/* As the destructor of an object does that is the first to use another one. */
static void destroy_and_make(void *raw) {
    static object late;
    object *o = raw;
    destroy_object(o);
    late = (object){o->all, 'l'};
    (void)atoll_natives_at_thread_end(o->all->natives, destroy_object, &late);
}

static void *make_objects(void *raw) {
    static object made[3];
    objects *all = raw;
    for (size_t i = 0; i < 3; i++) {
        made[i] = (object){all, (char)('a' + (int)i)};
        (void)atoll_natives_at_thread_end(all->natives, i == 1 ? destroy_and_make : destroy_object, &made[i]);
    }
    atomic_store(&all->begun, 1);
    wait_until(&all->go);
    return NULL;
}

static void check_objects(bool counted, bool end_before, const char *order) {
    objects all = {.natives = atoll_natives_new()};
    REQUIRE(all.natives != NULL);
    pthread_t thread;
    int rc = counted ? atoll_natives_thread(all.natives, &thread, NULL, make_objects, &all)
                     : pthread_create(&thread, NULL, make_objects, &all);
    REQUIRE(rc == 0);
    wait_until(&all.begun);
    if (end_before) {
        CHECK(atoll_natives_end(all.natives));
        atoll_natives_release(all.natives); /* the thread's objects keep it */
    }
    atomic_store(&all.go, 1);
    (void)pthread_join(thread, NULL);
    CHECK_STR(all.order, order);
    if (!end_before) {
        CHECK(atoll_natives_end(all.natives));
        atoll_natives_release(all.natives);
    }
}

TEST(natives_destroy_objects_in_reverse_order) { check_objects(false, false, "cbla"); }

TEST(natives_destroy_objects_of_a_counted_thread) { check_objects(true, false, "cbla"); }

TEST(natives_destroy_no_object_after_the_end) { check_objects(false, true, ""); }

/* ---- beside each other ---- */

static void *end_with_objects(void *raw) {
    atoll_natives *natives = raw;
    (void)atoll_natives_at_thread_end(natives, count_end, &ends);
    return NULL;
}

static void *use_natives(void *raw) {
    atoll_natives *natives = raw;
    for (int i = 0; i < 50; i++) {
        pthread_key_t key, kept;
        pthread_t thread;
        if (atoll_natives_key_create(natives, &key, count_end) != 0 ||
            (i == 0 && atoll_natives_key_create(natives, &kept, count_end) != 0) ||
            pthread_setspecific(key, &ends) != 0 || atoll_natives_key_delete(natives, key) != 0 ||
            atoll_natives_at_thread_end(natives, count_end, &ends) != 0 ||
            atoll_natives_thread(natives, &thread, NULL, end_with_objects, natives) != 0 ||
            pthread_join(thread, NULL) != 0) {
            test_failed(__FILE__, __LINE__, "round %d", i);
        }
    }
    return NULL;
}

TEST(natives_of_two_used_by_four_threads) {
    atoll_natives *natives[2] = {atoll_natives_new(), atoll_natives_new()};
    REQUIRE(natives[0] != NULL && natives[1] != NULL);
    atomic_store(&ends, 0);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        REQUIRE(atoll_natives_thread(natives[i % 2], &threads[i], NULL, use_natives, natives[i % 2]) == 0);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    CHECK_INT(atomic_load(&ends),
              4 * 50 * 2); /* of objects; the keys were deleted before their threads ended */
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(threads_of(natives[i]), 0);
        CHECK(atoll_natives_end(natives[i]));
        atoll_natives_release(natives[i]);
    }
}

/* Threads end, with values and objects, while the natives do: each destructor runs before the end or never. */
typedef struct {
    atoll_natives *natives;
    pthread_key_t key;
    atomic_int *gate;
    atomic_int *late;
} race;

static void check_in_time(void *raw) {
    race *r = raw;
    atomic_fetch_add(r->late, atomic_load(r->gate) == 2);
}

static void *run_race(void *raw) {
    race *r = raw;
    (void)pthread_setspecific(r->key, r);
    (void)atoll_natives_at_thread_end(r->natives, check_in_time, r);
    wait_until(r->gate);
    return NULL;
}

TEST(natives_end_while_threads_do) {
    for (int round = 0; round < 30; round++) {
        atomic_int gate = 0, late = 0;
        race r = {.natives = atoll_natives_new(), .gate = &gate, .late = &late};
        REQUIRE(r.natives != NULL);
        REQUIRE(atoll_natives_key_create(r.natives, &r.key, check_in_time) == 0);
        pthread_t threads[3];
        for (size_t i = 0; i < 3; i++) {
            REQUIRE(pthread_create(&threads[i], NULL, run_race, &r) == 0);
        }
        atomic_store(&gate, 1);
        CHECK(atoll_natives_end(r.natives));
        atomic_store(&gate, 2);
        for (size_t i = 0; i < 3; i++) {
            (void)pthread_join(threads[i], NULL);
        }
        CHECK_INT(atomic_load(&late), 0);
        atoll_natives_release(r.natives);
    }
}
