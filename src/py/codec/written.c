/* Which classes are in a message, and where: each is written once.
 *
 * Classes name each other: in their functions, bases, annotations.  What comes of a class stands for itself, so that a receiver who has the
 * class skips it, and is kept for the next who has not (codec/kept.c): it has all that it leads to in it.  If each class in it were written
 * wherever it is named, ten that name each other would come in millions.  So what was written before, or is being written further out, is
 * referred to: by its number, which says which class it is to who has it, and by how far back it begins, for who has not.
 * But the bytes that are kept of a class have in them what they had when they were written, wherever that is in the message already; and
 * functions are written with each class that leads to them.
 *
 * How far back is written when the message is whole: what is put in front of something (codec/nested.c) moves all that follows, and the
 * version of a class, a hash of its bytes, is not to depend on what lies between.
 *
 * Functions leave out what is about to be made by code (codec/globals.c).  What has left out something that is being made further out is good
 * for that place only: it is not referred to, but written anew.
 *
 * It belongs to one message, as the memo does; the parts of that message share it.  The codec keeps an empty one for the next.
 */
#include "py/codec/internal.h"

typedef struct {
    size_t at;     /* where the distance is to be */
    size_t target; /* where the class begins */
} reference;

struct atoll_written {
    atoll_memo *numbers; /* of classes: their indices */
    size_t *places;      /* by index: where its version and size are, or NOWHERE */
    size_t room;
    reference *references;
    size_t nreferences;
    size_t references_room;
};

#define NOWHERE SIZE_MAX
enum { KEPT_ROOM = 1024 };

/* Numbers are looked for as addresses are. */
static PyObject *key_of(uint64_t number) { return (PyObject *)(uintptr_t)(number << 4); }

static uint64_t number_of(const PyObject *key) { return (uint64_t)(uintptr_t)key >> 4; }

static int no_memory(void) {
    PyErr_NoMemory();
    return -1;
}

/* The array with room for so many: it may have moved.  NULL, and it is as it was: no memory. */
static void *with_room(void *array, size_t count, size_t *room, size_t size) {
    if (count <= *room) {
        return array;
    }
    size_t more = *room != 0 ? *room * 2 : 16;
    void *grown = PyMem_RawRealloc(array, more * size);
    *room = grown != NULL ? more : *room;
    return grown;
}

void atoll_written_free(atoll_written *table) {
    if (table != NULL) {
        atoll_memo_free(table->numbers);
        PyMem_RawFree(table->places);
        PyMem_RawFree(table->references);
        PyMem_RawFree(table);
    }
}

static atoll_written *table_of(atoll_encoder *enc) {
    if (enc->written == NULL) {
        enc->written = enc->codec->written;
        enc->codec->written = NULL;
    }
    if (enc->written == NULL && (enc->written = PyMem_RawCalloc(1, sizeof *enc->written)) != NULL &&
        (enc->written->numbers = atoll_memo_new()) == NULL) {
        PyMem_RawFree(enc->written);
        enc->written = NULL;
    }
    return enc->written;
}

int atoll_written_begin(atoll_encoder *enc, uint64_t number, size_t at) {
    atoll_written *table = table_of(enc);
    if (table == NULL || atoll_memo_put(table->numbers, key_of(number)) < 0) {
        return no_memory();
    }
    size_t *places = with_room(table->places, table->numbers->used, &table->room, sizeof *places);
    if (places == NULL) {
        return no_memory();
    }
    table->places = places;
    places[atoll_memo_get(table->numbers, key_of(number))] = at;
    return 0;
}

bool atoll_written_find(const atoll_encoder *enc, uint64_t number, size_t *at) {
    const atoll_written *table = enc->written;
    uint32_t index = table != NULL ? atoll_memo_get(table->numbers, key_of(number)) : ATOLL_NOT_FOUND;
    *at = index != ATOLL_NOT_FOUND && index < table->room ? table->places[index] : NOWHERE;
    return *at != NOWHERE;
}

static int note(atoll_written *table, size_t at, size_t target) {
    reference *references =
        with_room(table->references, table->nreferences + 1, &table->references_room, sizeof *references);
    if (references == NULL) {
        return no_memory();
    }
    table->references = references;
    references[table->nreferences++] = (reference){at, target};
    return 0;
}

int atoll_written_refer(atoll_encoder *enc, size_t target) {
    size_t at = enc->msg->body.len;
    enc->earliest = target < enc->earliest ? target : enc->earliest;
    return atoll_write_u64(enc, 0) < 0 ? -1 : note(enc->written, at, target);
}

void atoll_written_leave_out(atoll_encoder *enc, size_t at) {
    enc->earliest = at < enc->earliest ? at : enc->earliest;
    enc->left_out = at < enc->left_out ? at : enc->left_out;
}

void atoll_written_moved(const atoll_encoder *enc, size_t from, size_t n) {
    atoll_written *table = enc->written;
    for (uint32_t i = 0; table != NULL && i < table->numbers->used; i++) {
        table->places[i] += table->places[i] != NOWHERE && table->places[i] >= from ? n : 0;
    }
    for (size_t i = 0; table != NULL && i < table->nreferences; i++) {
        reference *ref = &table->references[i];
        ref->at += ref->at >= from ? n : 0;
        ref->target += ref->target >= from ? n : 0;
    }
}

void atoll_written_end(atoll_encoder *enc, bool whole) {
    atoll_written *table = enc->written;
    enc->written = NULL;
    for (size_t i = 0; whole && i < table->nreferences; i++) {
        const reference *ref = &table->references[i];
        atoll_store_u64(enc->msg->body.data + ref->at, ref->at - ref->target);
    }
    if (enc->codec->written != NULL || table->room > KEPT_ROOM || table->references_room > KEPT_ROOM) {
        atoll_written_free(table);
        return;
    }
    atoll_memo_reset(table->numbers);
    table->nreferences = 0;
    enc->codec->written = table;
}

/* ---- for what is kept ---- */

/* Of so many pairs, a new bytes object; NULL with MemoryError. */
static PyObject *pairs_of(const uint64_t *pairs, size_t n) {
    return PyBytes_FromStringAndSize((const char *)pairs, (Py_ssize_t)(n * 2 * sizeof *pairs));
}

PyObject *atoll_written_inside(const atoll_encoder *enc, size_t from) {
    const atoll_written *table = enc->written;
    uint64_t *pairs = PyMem_RawMalloc((table->numbers->used + table->nreferences + 1) * 2 * sizeof *pairs);
    if (pairs == NULL) {
        return PyErr_NoMemory();
    }
    size_t n = 0;
    for (uint32_t i = 0; i < table->numbers->used; i++) {
        if (table->places[i] != NOWHERE && table->places[i] >= from) {
            pairs[2 * n] = number_of(table->numbers->keys[i]);
            pairs[2 * n++ + 1] = table->places[i] - from;
        }
    }
    PyObject *classes = pairs_of(pairs, n);
    n = 0;
    for (size_t i = 0; i < table->nreferences; i++) {
        if (table->references[i].at >= from) {
            pairs[2 * n] = table->references[i].at - from;
            pairs[2 * n++ + 1] = table->references[i].target - from;
        }
    }
    PyObject *references = classes != NULL ? pairs_of(pairs, n) : NULL;
    PyObject *both = references != NULL ? PyTuple_Pack(2, classes, references) : NULL;
    Py_XDECREF(classes);
    Py_XDECREF(references);
    PyMem_RawFree(pairs);
    return both;
}

int atoll_written_again(atoll_encoder *enc, PyObject *inside, size_t from) {
    PyObject *const parts[] = {PyTuple_GET_ITEM(inside, 0), PyTuple_GET_ITEM(inside, 1)};
    int rc = 0;
    for (int part = 0; part < 2; part++) {
        size_t n = (size_t)PyBytes_GET_SIZE(parts[part]) / (2 * sizeof(uint64_t));
        for (size_t i = 0; rc == 0 && i < n; i++) {
            uint64_t pair[2];
            size_t at;
            memcpy(pair, PyBytes_AS_STRING(parts[part]) + i * sizeof pair, sizeof pair);
            if (part == 1) {
                rc = note(enc->written, from + pair[0], from + pair[1]);
            } else if (!atoll_written_find(enc, pair[0], &at)) {
                rc = atoll_written_begin(enc, pair[0], from + pair[1]);
            }
        }
    }
    return rc;
}
