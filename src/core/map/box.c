/* Values: numbers, and boxes with a message.  See map.h. */
#include "core/map/internal.h"

#include <stdlib.h>

enum { MOVE_WHOLE = 4096 /* bytes: from here on the buffer itself is taken */ };

static void uncounted(void *ptr) { (void)ptr; }

static const atoll_handle_class own_class = {"map (itself)", uncounted, uncounted};

atoll_hashmap_box *atoll_hashmap_box_new(atoll_message *msg) {
    atoll_hashmap_box *box = calloc(1, sizeof *box);
    if (box == NULL) {
        return NULL;
    }
    atomic_init(&box->refs, 1);
    atoll_buffer *body = &box->msg.body; /* no more than it needs */
    if (msg->body.len < MOVE_WHOLE) {
        body->data = malloc(msg->body.len);
        if (body->data == NULL && msg->body.len != 0) {
            free(box);
            return NULL;
        }
        memcpy(body->data, msg->body.data, msg->body.len);
        body->len = body->cap = msg->body.len;
    } else {
        *body = msg->body;
        msg->body = (atoll_buffer){0};
        uint8_t *shrunk = realloc(body->data, body->len);
        if (shrunk != NULL) {
            body->data = shrunk;
            body->cap = body->len;
        }
    }
    box->msg.handles = msg->handles;
    box->msg.nhandles = msg->nhandles;
    box->msg.handles_cap = msg->handles_cap;
    msg->handles = NULL;
    msg->nhandles = msg->handles_cap = 0;
    atoll_message_clear(msg);
    return box;
}

const atoll_message *atoll_hashmap_box_message(const atoll_hashmap_box *box) { return &box->msg; }

void atoll_hashmap_value_retain(const atoll_hashmap_value *value) {
    if (value->box != NULL) {
        atomic_fetch_add_explicit(&value->box->refs, 1, memory_order_relaxed);
    }
}

void atoll_hashmap_value_release(const atoll_hashmap_value *value) {
    atoll_hashmap_box *box = value->box;
    if (box == NULL || atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (uint32_t i = 0; box->own != NULL && i < box->msg.nhandles; i++) {
        if (box->msg.handles[i].cls == box->own_class && box->msg.handles[i].ptr == box->own) {
            box->msg.handles[i].cls = &own_class;
        }
    }
    atoll_message_clear(&box->msg);
    free(box);
}

void atoll_hashmap_value_adopt(const atoll_hashmap_value *value, const atoll_handle_class *cls, void *map) {
    for (uint32_t i = 0; value->box != NULL && i < value->box->msg.nhandles; i++) {
        const atoll_handle *handle = &value->box->msg.handles[i];
        if (handle->cls == cls && handle->ptr == map) {
            value->box->own = map;
            value->box->own_class = cls;
            cls->release(map); /* not the last: the caller has one */
        }
    }
}

uint64_t atoll_hashmap_value_size(const atoll_hashmap_value *value) {
    return value->box == NULL ? 0
                              : sizeof *value->box + value->box->msg.body.cap +
                                    value->box->msg.handles_cap * sizeof(atoll_handle);
}

bool atoll_hashmap_value_is_same(const atoll_hashmap_value *one, const atoll_hashmap_value *other) {
    return one->box == other->box && (one->box != NULL || one->number == other->number);
}
