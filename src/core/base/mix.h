/* Hashes of words and texts, to tell them apart in this process: quick, and the same at each call. */
#ifndef ATOLL_CORE_BASE_MIX_H
#define ATOLL_CORE_BASE_MIX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What was hashed before, with one word more; from 0. */
static inline uint64_t atoll_mix_word(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ (hash >> 29);
}

/* With a text more, of which this is the length. */
static inline uint64_t atoll_mix_text(uint64_t hash, const char *text, size_t length) {
    uint64_t word;
    hash = atoll_mix_word(hash, length);
    for (; length >= sizeof word; length -= sizeof word, text += sizeof word) {
        memcpy(&word, text, sizeof word);
        hash = atoll_mix_word(hash, word);
    }
    word = 0;
    if (length > 0) {
        memcpy(&word, text, length);
    }
    return atoll_mix_word(hash, word);
}

#endif
