/* Looking for words that lie in a range (port/linux/data.c), beside the plainest way to do it. */
#include "dice.h"
#include "harness.h"

#include "port/port.h"

#include <string.h>

enum { WORDS = 700 };

TEST(data_whole_words_only) {
    uint64_t words[3] = {0};
    char *bytes = (char *)words;
    const uintptr_t *end;
    CHECK(atoll_data_words(bytes, sizeof words, &end) == words && end == words + 3);
    CHECK(atoll_data_words(bytes + 1, sizeof words - 1, &end) == words + 1 && end == words + 3);
    CHECK(atoll_data_words(bytes, sizeof words - 1, &end) == words && end == words + 2);
    CHECK(atoll_data_words(bytes + 1, 14, &end) == words + 1 && end == words + 1); /* none is whole */
    CHECK(atoll_data_words(bytes + 1, 3, &end) == end);
    CHECK(atoll_data_words(bytes, 0, &end) == end);
}

TEST(data_finds_each_and_nothing_else) {
    static uintptr_t words[WORDS];
    const uintptr_t lowest = (uintptr_t)0x7f0000000000, width = 0x1000;
    const uintptr_t edges[] = {lowest, lowest + width - 1, lowest - 1, lowest + width, 0, UINTPTR_MAX};
    unsigned long wrong = 0, found = 0;
    for (unsigned round = 0; round < 2000; round++) {
        size_t first = (size_t)roll(WORDS), end = first + (size_t)roll(WORDS - first + 1);
        for (size_t i = 0; i < WORDS; i++) {
            words[i] = roll(round % 90 + 1) == 0 ? edges[roll(sizeof edges / sizeof *edges)] : roll(1U << 30);
        }
        const uintptr_t *at = words + first;
        for (size_t i = first; i < end; i++) {
            if (words[i] < lowest || words[i] >= lowest + width) {
                continue;
            }
            uintptr_t value = 0;
            at = atoll_data_next(at, words + end, lowest, width, &value);
            wrong += at != words + i || value != words[i];
            at = words + i + 1;
            found++;
        }
        uintptr_t value = 0;
        wrong += atoll_data_next(at, words + end, lowest, width, &value) != words + end;
    }
    CHECK_UINT(wrong, 0);
    CHECK(found > 1000);
}

TEST(data_range_at_the_end_of_addresses) {
    uintptr_t words[200];
    memset(words, 0xff, sizeof words);
    uintptr_t value = 0;
    CHECK(atoll_data_next(words, words + 200, UINTPTR_MAX - 7, 8, &value) == words);
    CHECK_UINT(value, UINTPTR_MAX);
    CHECK(atoll_data_next(words, words + 200, 0, UINTPTR_MAX, &value) == words + 200);
    words[130] = 5;
    CHECK(atoll_data_next(words, words + 200, 0, UINTPTR_MAX, &value) == words + 130);
    CHECK_UINT(value, 5);
}
