/* Keys for thread-specific data that clones create (natives.h).
 *
 * When a thread ends, the system calls the destructor of each key that it has a value under: code of a clone, on a thread
 * that may be anybody's.  Deleting the key keeps that from beginning, and does not wait for what has begun.  So the
 * system is given a function of Atoll's instead, which counts itself before it looks whether there still is
 * something to call.  It is told the value and nothing else, so each key needs a function of its own: there are as
 * many as a process has keys.
 *
 * A place in the table is taken from a key's creation until no destructor of it runs any more.  The places are taken in
 * turn, so that a thread which was stopped just before it could count itself finds its place empty, not another key's.
 *
 * Locks: `lock` guards who has which place, a leaf; natives->lock the keys that have no destructor, or are not made here.
 */
#include "core/clone/natives.h"

#include <errno.h>
#include <stdlib.h>

#define PLACES 1024 /* PTHREAD_KEYS_MAX of every system */

typedef void (*destructor)(void *value);

typedef struct {
    _Atomic(destructor) destroy; /* NULL: to be called no more */
    _Atomic(long) running;
    atoll_natives *owner; /* NULL: free */
    pthread_key_t key;
    bool deleted;
} place;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static place places[PLACES];
static size_t last_taken;

void atoll_natives_fork(atoll_natives *natives, atoll_fork_moment when) {
    if (natives != NULL && when == ATOLL_FORK_BEFORE) {
        atoll_mutex_fork(&natives->lock, when);
    }
    atoll_mutex_fork(&lock, when);
    if (natives != NULL && when != ATOLL_FORK_BEFORE) {
        atoll_mutex_fork(&natives->lock, when);
    }
}

static void key_ends(size_t number, void *value) {
    place *p = &places[number];
    atomic_fetch_add(&p->running, 1);
    destructor destroy = atomic_load(&p->destroy);
    if (destroy != NULL && !atoll_natives_thread_was_ended()) {
        destroy(value);
    }
    atomic_fetch_sub(&p->running, 1);
}

#define EACH_16(use, n)                                                                                      \
    use(n##0) use(n##1) use(n##2) use(n##3) use(n##4) use(n##5) use(n##6) use(n##7) use(n##8) use(n##9)      \
        use(n##a) use(n##b) use(n##c) use(n##d) use(n##e) use(n##f)
#define EACH_256(use, n)                                                                                     \
    EACH_16(use, n##0)                                                                                       \
    EACH_16(use, n##1)                                                                                       \
    EACH_16(use, n##2)                                                                                       \
    EACH_16(use, n##3)                                                                                       \
    EACH_16(use, n##4)                                                                                       \
    EACH_16(use, n##5)                                                                                       \
    EACH_16(use, n##6)                                                                                       \
    EACH_16(use, n##7)                                                                                       \
    EACH_16(use, n##8)                                                                                       \
    EACH_16(use, n##9)                                                                                       \
    EACH_16(use, n##a)                                                                                       \
    EACH_16(use, n##b)                                                                                       \
    EACH_16(use, n##c)                                                                                       \
    EACH_16(use, n##d)                                                                                       \
    EACH_16(use, n##e)                                                                                       \
    EACH_16(use, n##f)
#define EACH(use) EACH_256(use, 0) EACH_256(use, 1) EACH_256(use, 2) EACH_256(use, 3)

#define DEFINE(n)                                                                                            \
    static void end_##n(void *value) { key_ends(0x##n, value); }
#define NAME(n) end_##n,

EACH(DEFINE)
static const destructor ends[PLACES] = {EACH(NAME)};

static bool is_free(const place *p) {
    return p->owner == NULL || (p->deleted && atomic_load(&p->running) == 0);
}

/* A place, or PLACES when there is none. */
static size_t take_place(atoll_natives *natives, destructor destroy) {
    size_t taken = PLACES;
    atoll_mutex_lock(&lock);
    for (size_t i = 1; i <= PLACES && taken == PLACES; i++) {
        size_t number = (last_taken + i) % PLACES;
        if (is_free(&places[number])) {
            taken = last_taken = number;
        }
    }
    if (taken != PLACES) {
        places[taken].owner = natives;
        places[taken].deleted = true; /* as long as there is no key */
        atomic_fetch_add(&places[taken].running, 1);
        atomic_store(&places[taken].destroy, destroy);
    }
    atoll_mutex_unlock(&lock);
    return taken;
}

/* The key is there, or could not be made. */
static void fill_place(size_t number, pthread_key_t key, bool made) {
    place *p = &places[number];
    atoll_mutex_lock(&lock);
    p->key = key;
    p->deleted = !made;
    if (!made) {
        atomic_store(&p->destroy, NULL);
        p->owner = NULL;
    }
    atomic_fetch_sub(&p->running, 1);
    atoll_mutex_unlock(&lock);
}

static bool is_of(const place *p, const atoll_natives *natives) { return p->owner == natives && !p->deleted; }

/* Calls the destructor of this key of the natives' no more, or of all when `key` is NULL, and deletes them then. */
static void clear_places(const atoll_natives *natives, const pthread_key_t *key) {
    atoll_mutex_lock(&lock);
    for (size_t i = 0; i < PLACES; i++) {
        place *p = &places[i];
        if (is_of(p, natives) && (key == NULL || p->key == *key)) {
            p->deleted = true;
            atomic_store(&p->destroy, NULL);
            if (key == NULL) {
                (void)pthread_key_delete(p->key);
            }
        }
    }
    atoll_mutex_unlock(&lock);
}

/* ---- keys that have no destructor, or were made by other means ---- */

int atoll_natives_key_add(atoll_natives *natives, pthread_key_t key) {
    int rc = 0;
    atoll_mutex_lock(&natives->lock);
    if (natives->nkeys == natives->room) {
        size_t room = natives->room * 2 + 8;
        pthread_key_t *keys = realloc(natives->keys, room * sizeof *keys);
        if (keys != NULL) {
            natives->keys = keys;
            natives->room = room;
        } else {
            rc = ENOMEM;
        }
    }
    if (rc == 0) {
        natives->keys[natives->nkeys++] = key;
    }
    atoll_mutex_unlock(&natives->lock);
    return rc;
}

void atoll_natives_key_remove(atoll_natives *natives, pthread_key_t key) {
    atoll_mutex_lock(&natives->lock);
    for (size_t i = 0; i < natives->nkeys; i++) {
        if (natives->keys[i] == key) {
            natives->keys[i] = natives->keys[--natives->nkeys];
            break;
        }
    }
    atoll_mutex_unlock(&natives->lock);
}

/* ---- */

int atoll_natives_key_create(atoll_natives *natives, pthread_key_t *key, void (*destroy)(void *)) {
    if (atomic_load(&natives->over)) {
        return EAGAIN; /* nobody would delete it */
    }
    if (destroy == NULL) {
        int rc = pthread_key_create(key, NULL);
        if (rc == 0 && (rc = atoll_natives_key_add(natives, *key)) != 0) {
            (void)pthread_key_delete(*key);
        }
        return rc;
    }
    size_t number = take_place(natives, destroy);
    if (number == PLACES) {
        return EAGAIN;
    }
    int rc = pthread_key_create(key, ends[number]);
    fill_place(number, rc == 0 ? *key : 0, rc == 0);
    return rc;
}

int atoll_natives_key_delete(atoll_natives *natives, pthread_key_t key) {
    if (atomic_load(&natives->over)) {
        return 0; /* the number may be another's by now */
    }
    /* Forgotten first: once it is deleted, the system may give the number to somebody else. */
    atoll_natives_key_remove(natives, key);
    clear_places(natives, &key);
    return pthread_key_delete(key);
}

void atoll_natives_keys_end(atoll_natives *natives) {
    atoll_mutex_lock(&natives->lock);
    while (natives->nkeys > 0) {
        (void)pthread_key_delete(natives->keys[--natives->nkeys]);
    }
    atoll_mutex_unlock(&natives->lock);
    clear_places(natives, NULL);
}

bool atoll_natives_keys_ended(atoll_natives *natives) {
    bool ended = true;
    atoll_mutex_lock(&lock);
    for (size_t i = 0; i < PLACES; i++) {
        place *p = &places[i];
        if (p->owner == natives) {
            bool running = atomic_load(&p->running) != 0;
            p->owner = running ? natives : NULL;
            ended &= !running;
        }
    }
    atoll_mutex_unlock(&lock);
    return ended;
}
