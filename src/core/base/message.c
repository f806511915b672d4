#include "core/base/message.h"

#include <stdlib.h>

uint32_t atoll_message_attach(atoll_message *msg, const atoll_handle_class *cls, void *ptr) {
    if (msg->nhandles == msg->handles_cap) {
        uint32_t cap = msg->handles_cap != 0 ? msg->handles_cap * 2 : 4;
        atoll_handle *grown = cap > msg->handles_cap ? realloc(msg->handles, cap * sizeof *grown) : NULL;
        if (grown == NULL) {
            cls->release(ptr);
            msg->body.failed = true;
            return ATOLL_NO_HANDLE;
        }
        msg->handles = grown;
        msg->handles_cap = cap;
    }
    msg->handles[msg->nhandles] = (atoll_handle){cls, ptr};
    return msg->nhandles++;
}

void *atoll_message_handle(const atoll_message *msg, uint32_t index, const atoll_handle_class *cls) {
    if (index >= msg->nhandles || msg->handles[index].cls != cls) {
        return NULL;
    }
    return msg->handles[index].ptr;
}

static void release_handles(atoll_message *msg, uint32_t keep) {
    while (msg->nhandles > keep) {
        atoll_handle *h = &msg->handles[--msg->nhandles];
        h->cls->release(h->ptr);
    }
}

void atoll_message_rewind(atoll_message *msg, size_t len, uint32_t nhandles) {
    release_handles(msg, nhandles);
    msg->body.len = len;
    msg->body.failed = false;
}

void atoll_message_reset(atoll_message *msg, size_t keep) {
    release_handles(msg, 0);
    atoll_buffer_reset(&msg->body, keep);
}

void atoll_message_clear(atoll_message *msg) {
    release_handles(msg, 0);
    atoll_buffer_free(&msg->body);
    free(msg->handles);
    *msg = (atoll_message){0};
}
