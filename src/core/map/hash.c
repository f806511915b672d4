/* Hashes of keys: SipHash-1-3, with a secret that is the process's, so that nobody who chooses keys can choose their chains. */
#include "core/map/internal.h"

static uint64_t secret[2];

static void choose_secret(void) { atoll_random(secret, sizeof secret); }

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

typedef struct {
    uint64_t a, b, c, d;
} state;

static inline void mix(state *s) {
    s->a += s->b;
    s->c += s->d;
    s->b = rotate(s->b, 13) ^ s->a;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a = rotate(s->a, 32) + s->d;
    s->c += s->b;
    s->d = rotate(s->d, 21) ^ s->a;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static inline void absorb(state *s, uint64_t word) {
    s->d ^= word;
    mix(s);
    s->a ^= word;
}

atoll_hashmap_key atoll_hashmap_key_of(const uint8_t *bytes, size_t len) {
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, choose_secret);
    state s = {secret[0] ^ 0x736f6d6570736575U, secret[1] ^ 0x646f72616e646f6dU,
               secret[0] ^ 0x6c7967656e657261U, secret[1] ^ 0x7465646279746573U};
    size_t at = 0;
    for (; len - at >= 8; at += 8) {
        absorb(&s, atoll_load_u64(bytes + at));
    }
    uint64_t last = (uint64_t)len << 56;
    for (int i = 0; at < len; at++, i += 8) {
        last |= (uint64_t)bytes[at] << i;
    }
    absorb(&s, last);
    s.c ^= 0xff;
    mix(&s);
    mix(&s);
    mix(&s);
    return (atoll_hashmap_key){bytes, len, s.a ^ s.b ^ s.c ^ s.d};
}
