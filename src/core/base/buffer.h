/* A growing byte buffer and a bounds-checked reader over one.
 *
 * Ownership: a buffer owns its bytes (malloc, never a Python allocator, so that
 * any interpreter's thread may free them).  Not synchronised: one thread at a
 * time.  All multi-byte values are little-endian on every machine.
 *
 * Failure: a put that cannot grow the buffer sets `failed` and drops its bytes;
 * callers check once, after a whole record.  A get past the end sets `failed`
 * and returns zero; callers check before they trust anything they read.
 */
#ifndef ATOLL_CORE_BASE_BUFFER_H
#define ATOLL_CORE_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t len;
    size_t cap;
    bool failed; /* out of memory: contents are incomplete */
} atoll_buffer;

/* Makes room for `extra` more bytes.  0, or -1 with `failed` set. */
int atoll_buffer_grow(atoll_buffer *buf, size_t extra);
/* Empties; keeps at most `keep` bytes of storage for the next use. */
void atoll_buffer_reset(atoll_buffer *buf, size_t keep);
void atoll_buffer_free(atoll_buffer *buf);

/* Room for n bytes at the end, already counted in len; NULL when out of memory. */
static inline uint8_t *atoll_buffer_extend(atoll_buffer *buf, size_t n) {
    if (buf->cap - buf->len < n && atoll_buffer_grow(buf, n) < 0) {
        return NULL;
    }
    uint8_t *at = buf->data + buf->len;
    buf->len += n;
    return at;
}

static inline void atoll_put_bytes(atoll_buffer *buf, const void *src, size_t n) {
    uint8_t *at = atoll_buffer_extend(buf, n);
    if (at != NULL && n != 0) {
        memcpy(at, src, n);
    }
}

static inline void atoll_put_u8(atoll_buffer *buf, uint8_t v) {
    uint8_t *at = atoll_buffer_extend(buf, 1);
    if (at != NULL) {
        *at = v;
    }
}

static inline void atoll_store_u32(uint8_t *at, uint32_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    memcpy(at, &v, 4);
}

static inline void atoll_store_u64(uint8_t *at, uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(at, &v, 8);
}

static inline uint32_t atoll_load_u32(const uint8_t *at) {
    uint32_t v;
    memcpy(&v, at, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

static inline uint64_t atoll_load_u64(const uint8_t *at) {
    uint64_t v;
    memcpy(&v, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline void atoll_put_u32(atoll_buffer *buf, uint32_t v) {
    uint8_t *at = atoll_buffer_extend(buf, 4);
    if (at != NULL) {
        atoll_store_u32(at, v);
    }
}

static inline void atoll_put_u64(atoll_buffer *buf, uint64_t v) {
    uint8_t *at = atoll_buffer_extend(buf, 8);
    if (at != NULL) {
        atoll_store_u64(at, v);
    }
}

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; /* something was read past the end */
} atoll_reader;

static inline size_t atoll_reader_left(const atoll_reader *rd) { return (size_t)(rd->end - rd->at); }

/* The next n bytes, or NULL with `failed` set when fewer are left. */
static inline const uint8_t *atoll_get_bytes(atoll_reader *rd, size_t n) {
    if (atoll_reader_left(rd) < n) {
        rd->failed = true;
        return NULL;
    }
    const uint8_t *at = rd->at;
    rd->at += n;
    return at;
}

static inline uint8_t atoll_get_u8(atoll_reader *rd) {
    const uint8_t *at = atoll_get_bytes(rd, 1);
    return at != NULL ? *at : 0;
}

static inline uint32_t atoll_get_u32(atoll_reader *rd) {
    const uint8_t *at = atoll_get_bytes(rd, 4);
    return at != NULL ? atoll_load_u32(at) : 0;
}

static inline uint64_t atoll_get_u64(atoll_reader *rd) {
    const uint8_t *at = atoll_get_bytes(rd, 8);
    return at != NULL ? atoll_load_u64(at) : 0;
}

#endif
