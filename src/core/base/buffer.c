/* Growth policy: doubling from 256 bytes, so that n puts cost O(n). */
#include "core/base/buffer.h"

#include <stdlib.h>

int atoll_buffer_grow(atoll_buffer *buf, size_t extra) {
    if (extra > SIZE_MAX / 2 - buf->len) {
        buf->failed = true;
        return -1;
    }
    size_t want = buf->len + extra;
    size_t cap = buf->cap < 256 ? 256 : buf->cap;
    while (cap < want) {
        cap *= 2;
    }
    uint8_t *data = realloc(buf->data, cap);
    if (data == NULL) {
        buf->failed = true;
        return -1;
    }
    buf->data = data;
    buf->cap = cap;
    return 0;
}

void atoll_buffer_reset(atoll_buffer *buf, size_t keep) {
    buf->len = 0;
    buf->failed = false;
    if (buf->cap > keep) {
        atoll_buffer_free(buf);
    }
}

void atoll_buffer_free(atoll_buffer *buf) {
    free(buf->data);
    *buf = (atoll_buffer){0};
}
