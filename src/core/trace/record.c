/* Noting events: each thread in chunks of its own.  See trace.h. */
#include "core/trace/internal.h"

#include <stdlib.h>

enum { FIRST_ROOM = 32, LARGEST_ROOM = 1024 };

/* A thread that has noted something. */
typedef struct recorder {
    _Atomic(uint32_t) busy;
    uint32_t trace; /* to which its chunk belongs; its own thread's, as is what follows */
    bool full;      /* there is no room for more */
    atoll_trace_chunk *chunk;
    uint32_t turn;
    uint64_t number;
    struct recorder *prev; /* under the trace's lock */
    struct recorder *next;
} recorder;

_Atomic(uint32_t) atoll_trace_on;
atoll_trace_all atoll_trace_now = {.fd = -1};
atoll_mutex atoll_trace_lock = ATOLL_MUTEX_INIT;

static recorder *recorders;
static uint64_t recorders_made;
static _Thread_local __attribute__((tls_model("initial-exec"))) recorder *mine;

static atoll_thread_key exit_key;
static bool has_exit_key;
static atoll_once once = ATOLL_ONCE_INIT;

/* ---- threads ---- */

/* A thread ends. */
static void leave(void *raw) {
    recorder *r = raw;
    mine = NULL;
    atoll_mutex_lock(&atoll_trace_lock);
    *(r->prev != NULL ? &r->prev->next : &recorders) = r->next;
    if (r->next != NULL) {
        r->next->prev = r->prev;
    }
    atoll_mutex_unlock(&atoll_trace_lock);
    free(r);
}

static void prepare(void) { has_exit_key = atoll_thread_key_init(&exit_key, leave) == 0; }

/* NULL: out of memory. */
static recorder *join(void) {
    atoll_once_run(&once, prepare);
    recorder *r = has_exit_key ? calloc(1, sizeof *r) : NULL;
    if (r == NULL) {
        return NULL;
    }
    atoll_mutex_lock(&atoll_trace_lock);
    r->number = ++recorders_made;
    r->next = recorders;
    if (recorders != NULL) {
        recorders->prev = r;
    }
    recorders = r;
    atoll_mutex_unlock(&atoll_trace_lock);
    mine = r;
    atoll_thread_at_exit(exit_key, r);
    return r;
}

void atoll_trace_settle_locked(void) {
    for (recorder *r = recorders; r != NULL; r = r->next) {
        while (atomic_load(&r->busy) != 0) {
            atoll_yield();
        }
    }
}

void atoll_trace_forget_threads(void) {
    recorders = mine; /* those of the other threads are lost */
    if (mine != NULL) {
        mine->prev = mine->next = NULL;
        atomic_store(&mine->busy, 0);
    }
}

/* ---- events ---- */

/* A chunk from what is left, or none: then the thread is told. */
static void take_chunk_locked(recorder *r, uint32_t trace) {
    uint32_t turn = r->trace == trace ? r->turn + 1 : 0;
    uint64_t room = FIRST_ROOM;
    for (uint32_t i = 0; i < turn && room < LARGEST_ROOM; i++) {
        room *= 2;
    }
    room = room < atoll_trace_now.most ? room : atoll_trace_now.most;
    atoll_trace_chunk *chunk = NULL;
    if (room > 0) {
        chunk = malloc(sizeof *chunk + room * sizeof chunk->events[0]);
    }
    r->trace = trace;
    r->chunk = chunk;
    r->turn = turn;
    r->full = chunk == NULL;
    if (chunk == NULL) {
        return;
    }
    *chunk = (atoll_trace_chunk){.next = atoll_trace_now.chunks,
                                 .thread = r->number,
                                 .system_thread = atoll_thread_number(),
                                 .is_main = atoll_thread_is_main(),
                                 .turn = turn,
                                 .room = (uint32_t)room};
    atoll_thread_name_get(chunk->name, sizeof chunk->name);
    atoll_trace_now.chunks = chunk;
    atoll_trace_now.most -= room;
}

/* Has what the event needs: a place, and its name in the table.  False: nothing is noted any more, or there is no room. */
static bool make_room(recorder *r, const char **text, size_t length, uint64_t hash) {
    atoll_mutex_lock(&atoll_trace_lock);
    uint32_t trace = atomic_load(&atoll_trace_on);
    if (trace != 0 && (r->trace != trace || r->chunk == NULL || r->chunk->count == r->chunk->room)) {
        take_chunk_locked(r, trace);
    }
    bool go_on = trace != 0 && !r->full;
    if (trace != 0 && r->full) {
        atomic_fetch_add_explicit(&atoll_trace_now.dropped, 1, memory_order_relaxed);
    }
    if (go_on && *text != NULL &&
        !atoll_trace_names_add_locked(&atoll_trace_now.names, *text, length, hash)) {
        *text = NULL;
    }
    atoll_mutex_unlock(&atoll_trace_lock);
    return go_on;
}

/* How much of a text is kept: whole characters. */
static size_t cut(const char *text, size_t length) {
    if (length <= ATOLL_TRACE_TEXT) {
        return length;
    }
    length = ATOLL_TRACE_TEXT;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80) {
        length--;
    }
    return length;
}

void atoll_trace_add(uint64_t began, atoll_trace_kind kind, const char *text, size_t length, int64_t interp,
                     uint64_t number) {
    uint64_t now = began + atoll_ticks_since(began);
    recorder *r = mine != NULL ? mine : join();
    if (r == NULL) {
        atomic_fetch_add_explicit(&atoll_trace_now.dropped, 1, memory_order_relaxed);
        return;
    }
    length = text != NULL ? cut(text, length) : 0;
    uint64_t hash = text != NULL ? atoll_mix_text(0, text, length) : 0;
    for (;;) {
        atomic_store(&r->busy, 1);
        uint32_t trace =
            atomic_load(&atoll_trace_on); /* after `busy`: who stops it looks at these the other way round */
        if (trace == 0 || began < atoll_trace_now.ticks) {
            break;
        }
        if (r->trace == trace && r->full) {
            atomic_fetch_add_explicit(&atoll_trace_now.dropped, 1, memory_order_relaxed);
            break;
        }
        const atoll_trace_name *name =
            text != NULL ? atoll_trace_names_find(&atoll_trace_now.names, text, length, hash) : NULL;
        atoll_trace_chunk *chunk = r->trace == trace ? r->chunk : NULL;
        if (chunk != NULL && chunk->count < chunk->room && (text == NULL || name != NULL)) {
            chunk->events[chunk->count++] = (atoll_trace_event){
                .began = began,
                .ended = now,
                .number = number,
                .interp = (uint32_t)interp,
                .what = (uint32_t)kind << ATOLL_TRACE_NAME_BITS | (name != NULL ? name->number : 0)};
            break;
        }
        atomic_store_explicit(&r->busy, 0, memory_order_release);
        if (!make_room(r, &text, length, hash)) {
            return;
        }
    }
    atomic_store_explicit(&r->busy, 0, memory_order_release);
}

uint64_t atoll_trace_arrow(void) {
    static _Atomic(uint64_t) arrows;
    return atomic_fetch_add_explicit(&arrows, 1, memory_order_relaxed) + 1;
}
