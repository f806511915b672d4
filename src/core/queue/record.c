/* Records, boxes and batches: what lies in a queue.  See queue.h. */
#include "core/queue/internal.h"

#include <stdlib.h>

#define MOVE_WHOLE                                                                                           \
    4096 /* bytes: from here on an item alone in its batch keeps its buffer instead of being copied */

static void uncounted(void *ptr) { (void)ptr; }

static const atoll_handle_class self_class = {"queue (itself)", uncounted, uncounted};

void atoll_box_let_go_of(atoll_box *box, const atoll_handle_class *cls, void *queue) {
    for (uint32_t i = 0; i < box->msg.nhandles; i++) {
        atoll_handle *handle = &box->msg.handles[i];
        if (handle->cls == cls && handle->ptr == queue) {
            handle->cls = &self_class;
            cls->release(queue); /* not the last: the caller has one */
        }
    }
}

void atoll_box_take_hold_of(atoll_box *box, const atoll_handle_class *cls, void *queue) {
    for (uint32_t i = 0; i < box->msg.nhandles; i++) {
        atoll_handle *handle = &box->msg.handles[i];
        if (handle->cls == &self_class) {
            handle->cls = cls;
            cls->retain(queue);
        }
    }
}

void atoll_box_free(atoll_box *box) {
    atoll_message_clear(&box->msg);
    free(box);
}

size_t atoll_batch_begin(atoll_batch *batch) {
    size_t start = batch->msg.body.len;
    return atoll_buffer_extend(&batch->msg.body, sizeof(atoll_record)) != NULL ? start : SIZE_MAX;
}

/* Moves the item that begins after the record at `start` into a box. */
static atoll_box *make_box(atoll_batch *batch, size_t start) {
    atoll_box *box = calloc(1, sizeof *box);
    if (box == NULL) {
        return NULL;
    }
    atoll_buffer *body = &batch->msg.body;
    size_t from = start + sizeof(atoll_record);
    size_t size = body->len - from;
    if (start == 0 && size >= MOVE_WHOLE) {
        box->msg.body = *body;
        box->start = from;
        *body = (atoll_buffer){0};
        if (box->msg.body.cap - box->msg.body.len > box->msg.body.len / 4) {
            uint8_t *shrunk = realloc(box->msg.body.data, box->msg.body.len);
            if (shrunk != NULL) {
                box->msg.body.data = shrunk;
                box->msg.body.cap = box->msg.body.len;
            }
        }
        if (atoll_buffer_extend(body, from) == NULL) {
            atoll_box_free(box);
            return NULL;
        }
    } else {
        atoll_put_bytes(&box->msg.body, body->data + from, size);
        if (box->msg.body.failed) {
            atoll_box_free(box);
            return NULL;
        }
        body->len = from;
    }
    box->msg.handles = batch->msg.handles;
    box->msg.nhandles = batch->msg.nhandles;
    box->msg.handles_cap = batch->msg.handles_cap;
    batch->msg.handles = NULL;
    batch->msg.nhandles = batch->msg.handles_cap = 0;
    return box;
}

int atoll_batch_end(atoll_batch *batch, size_t start, int64_t sender, uint8_t unbound) {
    atoll_buffer *body = &batch->msg.body;
    atoll_record record = {.kind = ATOLL_RECORD_BYTES, .unbound = unbound, .sender = sender};
    size_t size = body->len - start - sizeof record;
    atoll_box *box = NULL;
    if (size > ATOLL_RECORD_INLINE || batch->msg.nhandles != 0) {
        box = make_box(batch, start);
        if (box == NULL) {
            atoll_message_rewind(&batch->msg, start, 0);
            return -1;
        }
        record.kind = ATOLL_RECORD_BOX;
        size = sizeof box;
        atoll_put_bytes(body, &box, sizeof box);
    }
    record.size = (uint32_t)size;
    size_t padding = atoll_record_span(record.size) - sizeof record - size;
    uint8_t *pad = body->failed ? NULL : atoll_buffer_extend(body, padding);
    if (pad == NULL) {
        if (box != NULL) {
            atoll_box_free(box);
        }
        atoll_message_rewind(&batch->msg, start, 0);
        return -1;
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the record's bytes hold the box */
    memset(pad, 0, padding);
    memcpy(body->data + start, &record, sizeof record);
    batch->count++;
    return 0;
}

void atoll_batch_reset(atoll_batch *batch) {
    while (batch->count > 0) {
        const atoll_record *record = (const atoll_record *)(const void *)(batch->msg.body.data + batch->at);
        batch->at += atoll_record_span(record->size);
        batch->count--;
        atoll_record_release(record);
    }
    batch->at = 0;
    if (batch->msg.nhandles != 0) {
        atoll_message_rewind(&batch->msg, 0, 0);
    }
    batch->msg.body.len = 0;
    batch->msg.body.failed = false;
}

atoll_chunk *atoll_chunk_new(uint32_t size) {
    atoll_chunk *chunk = malloc(sizeof *chunk + size);
    if (chunk != NULL) {
        chunk->next = NULL;
        chunk->size = size;
        chunk->at = 0;
    }
    return chunk;
}

const atoll_record *atoll_chunk_next(atoll_chunk *chunk) {
    const atoll_record *record = atoll_record_at(chunk, chunk->at);
    if (record->kind == ATOLL_RECORD_END) {
        return NULL;
    }
    chunk->at += atoll_record_span(record->size);
    return record;
}

atoll_message atoll_record_message(const atoll_record *record) {
    if (record->kind == ATOLL_RECORD_BYTES) {
        return (atoll_message){.body = {.data = (uint8_t *)(uintptr_t)(record + 1), .len = record->size}};
    }
    const atoll_box *box = atoll_record_box(record);
    atoll_message msg = box->msg;
    msg.body.data += box->start;
    msg.body.len -= box->start;
    return msg;
}

void atoll_record_release(const atoll_record *record) {
    if (record->kind == ATOLL_RECORD_BOX) {
        atoll_box_free(atoll_record_box(record));
    }
}
