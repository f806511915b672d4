/* Runs the registered tests, or those whose name, or whose file's, holds argv[1], in one process.
 *
 * The last line is `N passed, N failed`, the exit status 1 when one failed or
 * none ran.  A test that hangs or crashes ends the run: its name is the last
 * one printed, and the missing last line tells the caller.
 */
#include "harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Generous: sanitizers on a loaded machine are slow, and only a hang should end here. */
#define SECONDS_PER_TEST 120

static test_case *first_test;
static atomic_int failures; /* of the running test */

/* Sorted by file, then in the order of the file: constructors run in that order. */
void test_register(test_case *test) {
    test_case **at = &first_test;
    while (*at != NULL && strcmp((*at)->file, test->file) <= 0) {
        at = &(*at)->next;
    }
    test->next = *at;
    *at = test;
}

void test_failed(const char *file, int line, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    atomic_fetch_add(&failures, 1);
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
}

void test_check_int(const char *file, int line, const char *what, int64_t actual, int64_t expected) {
    if (actual != expected) {
        test_failed(file, line, "%s is %" PRId64 ", expected %" PRId64, what, actual, expected);
    }
}

void test_check_uint(const char *file, int line, const char *what, uint64_t actual, uint64_t expected) {
    if (actual != expected) {
        test_failed(file, line, "%s is %" PRIu64 ", expected %" PRIu64, what, actual, expected);
    }
}

void test_check_str(const char *file, int line, const char *what, const char *actual, const char *expected) {
    if (actual == NULL || expected == NULL ? actual != expected : strcmp(actual, expected) != 0) {
        test_failed(file, line, "%s is \"%s\", expected \"%s\"", what, actual != NULL ? actual : "(null)",
                    expected != NULL ? expected : "(null)");
    }
}

static void on_alarm(int sig) {
    static const char text[] = "\nthe test hangs\n";
    (void)sig;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    abort();
}

int main(int argc, char **argv) {
    int passed = 0;
    int failed = 0;
    signal(SIGALRM, on_alarm);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (test_case *test = first_test; test != NULL; test = test->next) {
        if (argc > 1 && strstr(test->name, argv[1]) == NULL && strstr(test->file, argv[1]) == NULL) {
            continue;
        }
        printf("%s ... ", test->name);
        fflush(stdout);
        atomic_store(&failures, 0);
        alarm(SECONDS_PER_TEST);
        test->run();
        alarm(0);
        bool ok = atomic_load(&failures) == 0;
        puts(ok ? "ok" : "FAILED");
        passed += ok;
        failed += !ok;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
