/* Names of events: each is kept once, as it is written to the file.  See trace.h.
 *
 * The table has twice as many places as names may come, so that looking for one always ends.
 */
#include "core/trace/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = ATOLL_TRACE_NAMES * 2 };

int atoll_trace_names_init(atoll_trace_names *names) {
    names->slots = calloc(SLOTS, sizeof *names->slots);
    names->all = calloc(ATOLL_TRACE_NAMES + 1, sizeof(atoll_trace_name *));
    names->count = 0;
    if (names->slots == NULL || names->all == NULL) {
        atoll_trace_names_free(names);
        return -1;
    }
    return 0;
}

void atoll_trace_names_free(atoll_trace_names *names) {
    for (uint32_t i = 1; names->all != NULL && i <= names->count; i++) {
        free(names->all[i]);
    }
    free(names->all);
    free(names->slots);
    *names = (atoll_trace_names){0};
}

const atoll_trace_name *atoll_trace_names_find(const atoll_trace_names *names, const char *text,
                                               size_t length, uint64_t hash) {
    for (size_t at = hash % SLOTS;; at = (at + 1) % SLOTS) {
        const atoll_trace_name *name = atomic_load_explicit(&names->slots[at], memory_order_acquire);
        if (name == NULL ||
            (name->hash == hash && name->length == length && memcmp(name->text, text, length) == 0)) {
            return name;
        }
    }
}

bool atoll_trace_names_add_locked(atoll_trace_names *names, const char *text, size_t length, uint64_t hash) {
    if (names->count >= ATOLL_TRACE_NAMES) {
        return false;
    }
    if (atoll_trace_names_find(names, text, length, hash) != NULL) {
        return true; /* another thread was faster */
    }
    atoll_trace_name *name = malloc(sizeof *name + length + ATOLL_TRACE_ESCAPED(length));
    if (name == NULL) {
        return false;
    }
    char *json = name->text + length;
    name->hash = hash;
    name->length = (uint32_t)length;
    name->json = json;
    name->number = ++names->count;
    memcpy(name->text, text, length);
    (void)atoll_trace_escape(json, text, length);
    names->all[name->number] = name;
    size_t at = hash % SLOTS;
    while (atomic_load_explicit(&names->slots[at], memory_order_relaxed) != NULL) {
        at = (at + 1) % SLOTS;
    }
    atomic_store_explicit(&names->slots[at], name, memory_order_release);
    return true;
}

/* How many bytes the UTF-8 character at the beginning has; 0: it is none. */
static size_t character(const unsigned char *text, size_t length) {
    size_t size = text[0] < 0x80 ? 1 : text[0] < 0xC2 ? 0 : text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : 4;
    if (text[0] > 0xF4 || size > length) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    bool bad = (text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] >= 0xA0) ||
               (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] >= 0x90);
    return bad ? 0 : size;
}

size_t atoll_trace_escape(char *out, const char *text, size_t length) {
    char *to = out;
    const char *end = text + length;
    while (text < end) {
        unsigned char first = (unsigned char)*text;
        size_t size = character((const unsigned char *)text, (size_t)(end - text));
        if (size == 0) {
            memcpy(to, "\xEF\xBF\xBD", 3);
            to += 3;
            size = 1;
        } else if (first < 0x20) {
            (void)snprintf(to, 7, "\\u%04x", first);
            to += 6;
        } else {
            if (first == '"' || first == '\\') {
                *to++ = '\\';
            }
            memcpy(to, text, size);
            to += size;
        }
        text += size;
    }
    *to = '\0';
    return (size_t)(to - out);
}
