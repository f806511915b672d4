/* Traces: what is noted is in the file, whatever threads, limits and forks do meanwhile. */
#include "core/trace/trace.h"
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[64];

static void begin_file(void) { (void)snprintf(path, sizeof path, "/tmp/atoll-test-trace.%d", (int)getpid()); }

/* The file's content, malloc; "" when there is none. */
static char *content(void) {
    FILE *file = fopen(path, "r");
    char *text = calloc(1, (size_t)64 << 20);
    if (file != NULL && text != NULL) {
        size_t size = fread(text, 1, ((size_t)64 << 20) - 1, file);
        text[size] = '\0';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return text;
}

static uint64_t count(const char *text, const char *what) {
    uint64_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) {
        n++;
    }
    return n;
}

static uint32_t start(uint64_t most) {
    int error = 0;
    begin_file();
    uint32_t trace = atoll_trace_start(path, most, &error);
    CHECK_INT(error, 0);
    return trace;
}

static void add(const char *name, int64_t interp) {
    uint64_t began = atoll_trace_begin();
    if (began != 0) {
        atoll_trace_add(began, ATOLL_TRACE_CALL, name, strlen(name), interp, 7);
    }
}

TEST(trace_notes_nothing_while_it_is_off) {
    CHECK(!atoll_trace_wants());
    CHECK_UINT(atoll_trace_begin(), 0);
    uint32_t trace = start(100);
    REQUIRE(trace != 0);
    CHECK(atoll_trace_wants());
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    CHECK(!atoll_trace_stop(trace, &result));
    CHECK(!atoll_trace_stop(0, &result));
    atoll_trace_add(atoll_ticks(), ATOLL_TRACE_GC, NULL, 0, 0, 0); /* it has begun while one was on */
    CHECK_UINT(atoll_trace_begin(), 0);
    char *text = content();
    REQUIRE(text != NULL);
    CHECK_UINT(count(text, "\"ph\":\"X\""), 0);
    CHECK(strncmp(text, "{\"displayTimeUnit\":\"ns\"", 23) == 0);
    free(text);
    (void)unlink(path);
}

TEST(trace_has_rows_names_and_arrows) {
    uint32_t trace = start(1000);
    REQUIRE(trace != 0);
    uint64_t outer = atoll_trace_begin();
    add("one \"quoted\" \\ \n", 0);
    add("\xff\xc3\xa4\xed\xa0\x80", 5);
    uint64_t arrow = atoll_trace_arrow();
    atoll_trace_end(atoll_trace_begin(), ATOLL_TRACE_SUBMIT, 0, arrow);
    atoll_trace_end(atoll_trace_begin(), ATOLL_TRACE_TASK, 5, arrow);
    atoll_trace_end(0, ATOLL_TRACE_TASK, 5, 0);
    atoll_trace_add(1, ATOLL_TRACE_GIL, NULL, 0, 0, 0); /* before the trace */
    atoll_trace_add(outer, ATOLL_TRACE_EXEC, NULL, 0, 0, 5);
    atoll_trace_call_interp(5, "first");
    atoll_trace_call_interp(5, "se\"cond");
    atoll_trace_call_interp(5, "");
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    CHECK_UINT(result.events, 5);
    CHECK_UINT(result.dropped, 0);
    CHECK_INT(result.error, 0);
    char *text = content();
    REQUIRE(text != NULL);
    CHECK(strstr(text, "\"name\":\"one \\\"quoted\\\" \\\\ \\u000a\",\"pid\":1,\"tid\":1") != NULL);
    CHECK(
        strstr(text,
               "\"name\":\"\xEF\xBF\xBD\xc3\xa4\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\",\"pid\":2,\"tid\":2") !=
        NULL);
    CHECK(strstr(text, "\"name\":\"interpreter 5: se\\\"cond\"") != NULL);
    CHECK(strstr(text, "\"name\":\"interpreter 0\"") != NULL);
    CHECK_UINT(count(text, "\"thread_name\""), 2);
    CHECK_UINT(count(text, "\"process_name\""), 2);
    CHECK(strstr(text, "\"ph\":\"s\",\"cat\":\"arrow\"") != NULL);
    CHECK(strstr(text, "\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"arrow\"") != NULL);
    CHECK(strstr(text, "GIL") == NULL);
    const char *first = strstr(text, "\"ph\":\"X\"");
    CHECK(first != NULL && strstr(first, "\"name\":\"exec\"") < strstr(first, "quoted")); /* the outer one */
    free(text);
    (void)unlink(path);
}

TEST(trace_drops_what_there_is_no_room_for) {
    uint32_t trace = start(100);
    REQUIRE(trace != 0);
    for (int i = 0; i < 250; i++) {
        add("event", 0);
    }
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    CHECK_UINT(result.events, 100);
    CHECK_UINT(result.dropped, 150);
    char *text = content();
    REQUIRE(text != NULL);
    CHECK_UINT(count(text, "\"ph\":\"X\""), 100);
    CHECK(strstr(text, "\"dropped\":150") != NULL);
    free(text);
    (void)unlink(path);
}

TEST(trace_keeps_so_many_names_and_so_much_of_each) {
    uint32_t trace = start(100000);
    REQUIRE(trace != 0);
    char name[ATOLL_TRACE_TEXT + 100];
    for (int i = 0; i < ATOLL_TRACE_NAMES + 10; i++) {
        (void)snprintf(name, sizeof name, "name%d", i);
        add(name, 0);
    }
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    add(name, 0);
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    CHECK_UINT(result.events, ATOLL_TRACE_NAMES + 11);
    char *text = content();
    REQUIRE(text != NULL);
    CHECK(strstr(text, "\"name\":\"name16383\"") != NULL);
    CHECK(strstr(text, "\"name\":\"name16384\"") == NULL);
    CHECK_UINT(count(text, "\"name\":\"call\""), 11);
    free(text);
    trace = start(10);
    memcpy(name + ATOLL_TRACE_TEXT - 1, "\xc3\xa4", 2); /* half of it would be kept */
    add(name, 0);
    CHECK(atoll_trace_stop(trace, &result));
    text = content();
    REQUIRE(text != NULL);
    name[ATOLL_TRACE_TEXT - 1] = '"';
    name[ATOLL_TRACE_TEXT] = '\0';
    CHECK(strstr(text, name) != NULL);
    free(text);
    (void)unlink(path);
}

TEST(trace_refuses_what_cannot_be_written) {
    int error = 0;
    CHECK_UINT(atoll_trace_start("/", 10, &error), 0);
    CHECK_INT(error, EISDIR);
    CHECK_UINT(atoll_trace_start("/nowhere/at/all", 10, &error), 0);
    CHECK_INT(error, ENOENT);
    CHECK_UINT(atoll_trace_start("/dev/null", 10, &error), 0);
    CHECK_INT(error, EINVAL);
    begin_file();
    CHECK_INT(mkfifo(path, 0600), 0);
    CHECK_UINT(atoll_trace_start(path, 10, &error), 0);
    CHECK_INT(error, EINVAL);
    (void)unlink(path);
    atoll_file_id id;
    int fd = atoll_file_open_output(path, &id);
    CHECK(fd >= 0);
    CHECK_UINT(atoll_trace_start(path, 10, &error), 0);
    CHECK_INT(error, EWOULDBLOCK);
    atoll_file_close(fd);
    uint32_t trace = start(10);
    REQUIRE(trace != 0);
    CHECK_UINT(atoll_trace_start("/tmp/atoll-test-other", 10, &error), 0);
    CHECK_INT(error, EBUSY);
    CHECK_INT(access("/tmp/atoll-test-other", F_OK), -1);
    char *text = content();
    REQUIRE(text != NULL);
    CHECK_STR(text, "{\"traceEvents\":[]}\n"); /* already */
    free(text);
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    (void)unlink(path);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 2000, TRACES = 20 };

static _Atomic(bool) over;
static _Atomic(uint64_t) noted;

static void *note_some(void *raw) {
    int64_t interp = (int64_t)(intptr_t)raw;
    char name[32];
    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(name, sizeof name, "name%d", i % 50);
        add(name, interp);
    }
    return NULL;
}

TEST(trace_has_the_events_of_all_threads) {
    uint32_t trace = start(1000000);
    REQUIRE(trace != 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, note_some, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    CHECK_UINT(result.events, THREADS * ROUNDS);
    char *text = content();
    REQUIRE(text != NULL);
    CHECK_UINT(count(text, "\"thread_name\""), THREADS);
    CHECK_UINT(count(text, "\"name\":\"name49\""), THREADS * ROUNDS / 50);
    free(text);
    (void)unlink(path);
}

static void *note_for_long(void *raw) {
    while (!atomic_load(&over)) {
        add("event", (int64_t)(intptr_t)raw);
        atomic_fetch_add_explicit(&noted, 1, memory_order_relaxed);
    }
    return NULL;
}

TEST(trace_starts_and_stops_while_threads_are_at_it) {
    atomic_store(&over, false);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, note_for_long, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < TRACES; i++) {
        uint32_t trace = start(i % 2 == 0 ? 50 : 3000);
        if (trace == 0) {
            break;
        }
        uint64_t before = atomic_load(&noted);
        while (atomic_load(&noted) < before + 200) {
            atoll_yield();
        }
        atoll_trace_result result;
        CHECK(atoll_trace_stop(trace, &result));
        CHECK_INT(result.error, 0);
        CHECK(result.events > 0);
        char *text = content();
        if (text != NULL) {
            CHECK_UINT(count(text, "\"ph\":\"X\""), result.events);
            CHECK(strstr(text, "\n]}\n") != NULL);
        }
        free(text);
    }
    atomic_store(&over, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    (void)unlink(path);
}

TEST(trace_stays_the_parents) {
    uint32_t trace = start(100);
    REQUIRE(trace != 0);
    add("before", 0);
    atoll_trace_fork(ATOLL_FORK_BEFORE);
    pid_t child = fork();
    atoll_trace_fork(child == 0 ? ATOLL_FORK_CHILD : ATOLL_FORK_PARENT);
    if (child == 0) {
        add("child", 0);
        _exit(!atoll_trace_wants() && atoll_trace_begin() == 0 ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    add("after", 0);
    atoll_trace_result result;
    CHECK(atoll_trace_stop(trace, &result));
    CHECK_UINT(result.events, 2);
    (void)unlink(path);
}
