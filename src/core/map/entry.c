/* Entries: a key's bytes, and its value.  See map.h. */
#include "core/map/internal.h"

#include <stdlib.h>

atoll_hashmap_entry *atoll_hashmap_entry_new(const atoll_hashmap_key *key) {
    atoll_hashmap_entry *entry = calloc(1, sizeof *entry + key->len);
    if (entry != NULL) {
        atomic_init(&entry->refs, 1);
        entry->hash = key->hash;
        entry->expires = INFINITY;
        entry->key_len = key->len;
        memcpy(entry->key, key->bytes, key->len);
    }
    return entry;
}

void atoll_hashmap_entry_release(atoll_hashmap_entry *entry) {
    if (atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1) {
        atoll_hashmap_value_release(&entry->value);
        free(entry);
    }
}

void atoll_hashmap_entries_release(atoll_hashmap_entry *entry) {
    while (entry != NULL) {
        atoll_hashmap_entry *next = entry->next;
        atoll_hashmap_entry_release(entry);
        entry = next;
    }
}

const uint8_t *atoll_hashmap_entry_key(const atoll_hashmap_entry *entry, size_t *len) {
    *len = entry->key_len;
    return entry->key;
}
