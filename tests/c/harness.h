/* A test harness of one header: TEST(name) { ... CHECK(...); }.
 *
 * Each TEST registers itself before main (a constructor) and all files of this
 * directory link into one program, whose main is in main.c.  CHECKs report and
 * go on; REQUIRE reports and leaves the test, for what later lines rely on.
 * Both may be used by any thread of a test; REQUIRE only leaves the function
 * it stands in, which must return void.
 */
#ifndef ATOLL_TEST_HARNESS_H
#define ATOLL_TEST_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct test_case {
    const char *name;
    const char *file;
    void (*run)(void);
    struct test_case *next;
} test_case;

void test_register(test_case *test);

/* Counts a failure of the running test and prints it.  Any thread. */
void test_failed(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define TEST(name)                                                                                           \
    static void test_##name(void);                                                                           \
    __attribute__((constructor)) static void test_register_##name(void) {                                    \
        static test_case test = {#name, __FILE__, test_##name, 0};                                           \
        test_register(&test);                                                                                \
    }                                                                                                        \
    static void test_##name(void)

#define CHECK(condition) ((condition) ? (void)0 : test_failed(__FILE__, __LINE__, "%s", #condition))

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            test_failed(__FILE__, __LINE__, "%s", #condition);                                               \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

/* Equality with both values in the report; each argument is evaluated once. */
#define CHECK_INT(actual, expected) test_check_int(__FILE__, __LINE__, #actual, (actual), (expected))
#define CHECK_UINT(actual, expected) test_check_uint(__FILE__, __LINE__, #actual, (actual), (expected))
#define CHECK_STR(actual, expected) test_check_str(__FILE__, __LINE__, #actual, (actual), (expected))

void test_check_int(const char *file, int line, const char *what, int64_t actual, int64_t expected);
void test_check_uint(const char *file, int line, const char *what, uint64_t actual, uint64_t expected);
void test_check_str(const char *file, int line, const char *what, const char *actual, const char *expected);

#endif
