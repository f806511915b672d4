/* Looking through much memory for words that lie in a range.
 *
 * It is done whenever an interpreter has ended: its memory, and that of its extension modules, may only go when no static variable
 * of what stays leads there (leftovers.c, clone/unload.c).  Those are some 200,000 words in a process that has imported nothing, and
 * nearly none is in the range, so many are compared at a time where the processor can do that.
 *
 * Other threads write what is read here.  A word that lies as it should is read whole, alone or with others; what is found is read once more,
 * and only that is told.  A library may have made some of its pages inaccessible: the kernel is asked of each.  A sanitizer of addresses would object to what lies between variables.
 */
#include "port/port.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEES_ALL __attribute__((no_sanitize("address", "thread")))

#ifdef __x86_64__
enum { AT_ONCE = 64 };

/* Up to where none is in the range, by steps of so many. */
__attribute__((target("avx2"))) SEES_ALL static const uintptr_t *
skip_many(const uintptr_t *word, const uintptr_t *end, uintptr_t lowest, size_t width) {
    for (; end - word >= AT_ONCE; word += AT_ONCE) {
        uintptr_t any = 0;
#pragma GCC unroll 16
        for (size_t i = 0; i < AT_ONCE; i++) {
            any |= (uintptr_t)(word[i] - lowest < width);
        }
        if (any != 0) {
            break;
        }
    }
    return word;
}
#endif

const uintptr_t *atoll_data_words(const void *start, size_t size, const uintptr_t **end) {
    const uintptr_t mask = sizeof mask - 1;
    uintptr_t first = ((uintptr_t)start + mask) & ~mask;
    uintptr_t last = ((uintptr_t)start + size) & ~mask;
    *end = (const uintptr_t *)(last > first ? last : first);
    return (const uintptr_t *)first;
}

SEES_ALL const uintptr_t *atoll_data_next(const uintptr_t *word, const uintptr_t *end, uintptr_t lowest,
                                          size_t width, uintptr_t *value) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        word = skip_many(word, end, lowest, width);
    }
#endif
    for (; word < end; word++) {
        *value = *(const volatile uintptr_t *)word;
        if (*value - lowest < width) {
            return word;
        }
    }
    return end;
}

bool atoll_data_is_readable(const void *address) {
    const uintptr_t word = (uintptr_t)address & ~(uintptr_t)7;
    int before = errno;
    /* The kernel reads a mask of signals there before it finds that it is to do nothing known with it. */
    bool fault = syscall(SYS_rt_sigprocmask, -1, word, NULL, (size_t)8) != 0 && errno == EFAULT;
    errno = before;
    return !fault;
}
