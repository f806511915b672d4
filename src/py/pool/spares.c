/* Interpreters that are kept ready, so that one is had in microseconds: prewarm().
 *
 * A native thread makes them, one after the other, without a thread state of its own: no GIL of anybody's is held
 * meanwhile, only the lifecycle lock.  A spare is an entry whose gate is shut, so that nobody finds it, lists it or
 * enters it; taking one opens the gate.  What is taken is made anew.
 *
 * A spare may import modules before it is ready.  When one cannot be imported that is told on standard error, once, and spares are
 * ready without: whoever takes one imports it himself, and hears why not.
 *
 * A spare fits when it loads extension modules in the same way and install() held, or not, when it was made, and what is asked for is
 * usual: no spare is one without site or daemon threads, or may fork.  Whoever takes it sets limits, which none has.  Another sys.path,
 * environment or time zone is no obstacle: whoever takes it is told and sets that (process.c); a name is given to it before it is opened.
 * Nor is what it has imported.  One that does not fit what was asked for last is ended.
 *
 * One number holds for the whole process: the last call's.  At the end of the process, spares are ended before the
 * interpreters that were left open are looked for.  A forked child has none.
 *
 * Lock: `lock` guards everything here; with it held runs are interrupted (py/interp/interrupt.h), and nothing else is called.
 */
#include "py/interp/interp.h"
#include "py/pool/pool.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD_START                                                                                           \
    0.005 /* seconds that whoever took a spare has before the next one's making takes processor time */

typedef struct spare {
    struct spare *next;
    atoll_entry *entry; /* with a user and a reference; its gate is shut */
    atoll_message path;
    atoll_message imports;
    atoll_process_mark process; /* as it was before it was made */
    atoll_extensions extensions;
    bool installed;
    bool counted; /* its memory is, from the beginning */
} spare;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_cond changed;
static spare *ready;
static uint32_t ready_count;
static uint32_t wanted;
static atoll_blueprint print; /* of those to come */
static bool started;          /* the thread */
static bool failed;           /* to import what `print` names */
static bool making;
static atoll_entry *importing; /* into it */
static bool changed_ready;
static double last_taken; /* on the monotonic clock */

void atoll_spares_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lock, when);
    if (when == ATOLL_FORK_CHILD) {
        ready = NULL;
        ready_count = wanted = 0;
        started = making = changed_ready = false;
        importing = NULL;
    }
}

void atoll_spares_forget(void) {
    atoll_mutex_lock(&lock);
    ready = NULL;
    ready_count = wanted = 0;
    started = started && !making;
    making = false;
    importing = NULL;
    atoll_mutex_unlock(&lock);
}

static int copy_message(atoll_message *to, const atoll_message *from) {
    *to = (atoll_message){0};
    atoll_put_bytes(&to->body, from->body.data, from->body.len);
    return to->body.failed ? -1 : 0;
}

static void spare_free(spare *s) {
    atoll_message_clear(&s->path);
    atoll_message_clear(&s->imports);
    free(s);
}

static void set_importing(atoll_entry *entry) {
    atoll_mutex_lock(&lock);
    importing = entry;
    atoll_mutex_unlock(&lock);
}

/* Attached to a spare.  The end of the process interrupts it. */
static void import_into(atoll_entry *entry, const atoll_message *names) {
    atoll_run run;
    atoll_run_begin(&run, entry, NULL, 0);
    set_importing(entry);
    const atoll_state *state = entry->state;
    PyObject *module = PyImport_ImportModule("atoll._pool.imports");
    PyObject *tuple = module != NULL ? atoll_decode(state->codec, names) : NULL;
    PyObject *done = tuple != NULL ? PyObject_CallMethod(module, "load", "(O)", tuple) : NULL;
    Py_XDECREF(tuple);
    Py_XDECREF(module);
    bool good = done != NULL;
    Py_XDECREF(done);
    set_importing(NULL);
    good = !atoll_run_end(&run) && good;
    char *why = good ? NULL : atoll_interp_exception_text();
    if (good || atoll_interp_exiting()) {
        free(why);
        return;
    }
    atoll_mutex_lock(&lock);
    bool first = !failed;
    failed = true;
    atoll_mutex_unlock(&lock);
    if (first) {
        (void)fprintf(stderr, "atoll: prewarm: %s\n", why != NULL ? why : "out of memory");
    }
    free(why);
}

/* No lock held, no thread state attached: one more, or NULL. */
static spare *make_one(const atoll_blueprint *like, bool installed) {
    spare *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    char *why = NULL;
    s->installed = installed;
    s->counted = atoll_limits_count_all();
    s->extensions = like->wishes.extensions;
    s->process = atoll_process_look();
    bool ok = copy_message(&s->path, &like->path) == 0 && copy_message(&s->imports, &like->imports) == 0;
    s->entry = ok ? atoll_interp_create_detached(like, &why) : NULL;
    free(why);
    if (s->entry != NULL) {
        /* Whoever takes the spare ends it, on another thread. */
        PyEval_RestoreThread(atoll_tstate_of(s->entry));
        if (like->imports.body.len != 0) {
            import_into(s->entry, &like->imports);
        }
        atoll_tstate_discard(s->entry);
    }
    if (s->entry == NULL) {
        spare_free(s);
        return NULL;
    }
    return s;
}

static void end_one(spare *s) {
    atomic_store(&s->entry->pooled, true); /* nobody left it open */
    (void)atoll_interp_end_detached(s->entry);
    spare_free(s);
}

static bool fits(const spare *s, const atoll_blueprint *like) {
    return s->extensions == like->wishes.extensions && atoll_interp_wishes_are_usual(&like->wishes) &&
           (s->counted || (like->wishes.limits.memory == 0 && like->wishes.limits.soft_memory == 0)) &&
           s->installed == atoll_interp_installed();
}

static bool is_same(const atoll_message *one, const atoll_message *other) {
    return one->body.len == other->body.len &&
           (one->body.len == 0 || memcmp(one->body.data, other->body.data, one->body.len) == 0);
}

static bool is_wanted_locked(const spare *s) {
    return fits(s, &print) && (failed || is_same(&s->imports, &print.imports));
}

static spare *unlink_locked(spare **at) {
    spare *s = *at;
    *at = s->next;
    ready_count--;
    return s;
}

/* One that is not wanted, off the list: made otherwise than is asked for now, or one too many; else NULL. */
static spare *unlink_surplus_locked(void) {
    spare **at = &ready;
    while (*at != NULL && is_wanted_locked(*at)) {
        at = &(*at)->next;
    }
    if (*at == NULL && ready_count > wanted) {
        at = &ready;
    }
    return *at != NULL ? unlink_locked(at) : NULL;
}

/* `lock` is held, and given back meanwhile: one more, or a number that can be reached. */
static void add_one_locked(void) {
    atoll_blueprint like = {.wishes = print.wishes};
    bool ok = copy_message(&like.path, &print.path) == 0 &&
              (failed || copy_message(&like.imports, &print.imports) == 0);
    atoll_mutex_unlock(&lock);
    spare *s = ok ? make_one(&like, atoll_interp_installed()) : NULL;
    atoll_blueprint_clear(&like);
    atoll_mutex_lock(&lock);
    if (s == NULL) {
        wanted = ready_count; /* the next call of prewarm() tries again */
        return;
    }
    spare **end = &ready; /* also when another sort is wanted by now: it is ended then */
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = s;
    ready_count++;
}

static void keep_ready(void *Py_UNUSED(arg)) {
    atoll_thread_name("atoll-prewarm");
    atoll_mutex_lock(&lock);
    for (;;) {
        spare *surplus = atoll_interp_exiting() ? NULL : unlink_surplus_locked();
        if (surplus == NULL && (ready_count >= wanted || atoll_interp_exiting())) {
            atoll_cond_wait(&changed, &lock);
            continue;
        }
        double rest = last_taken + HEAD_START - atoll_clock();
        if (surplus == NULL && rest > 0) {
            (void)atoll_cond_wait_for(&changed, &lock, rest);
            continue;
        }
        making = true;
        if (surplus != NULL) {
            atoll_mutex_unlock(&lock);
            end_one(surplus);
            atoll_mutex_lock(&lock);
        } else {
            add_one_locked();
        }
        making = false;
        atoll_cond_broadcast(&changed);
    }
}

int atoll_spares_keep(atoll_state *from, uint32_t count, atoll_blueprint *like) {
    atoll_mutex_lock(&lock);
    if (!changed_ready) {
        atoll_cond_init(&changed);
        changed_ready = true;
    }
    atoll_blueprint_clear(&print);
    print = *like;
    *like = (atoll_blueprint){0};
    failed = false;
    wanted = count;
    if (!started && count != 0) {
        started = atoll_thread_start(keep_ready, NULL, 0) == 0;
    }
    bool ok = started || count == 0;
    atoll_cond_broadcast(&changed);
    atoll_mutex_unlock(&lock);
    if (!ok) {
        PyErr_SetString(from->error, "cannot start the thread that makes interpreters");
        return -1;
    }
    return 0;
}

uint32_t atoll_spares_ready(void) {
    atoll_mutex_lock(&lock);
    uint32_t count = 0;
    for (const spare *s = ready; s != NULL; s = s->next) {
        count += is_wanted_locked(s);
    }
    atoll_mutex_unlock(&lock);
    return count;
}

atoll_entry *atoll_spares_take(const atoll_blueprint *like, atoll_stale *stale) {
    *stale = (atoll_stale){0};
    atoll_mutex_lock(&lock);
    spare **at = &ready;
    while (*at != NULL && !fits(*at, like)) {
        at = &(*at)->next;
    }
    spare *s = *at != NULL ? unlink_locked(at) : NULL;
    if (s != NULL) {
        last_taken = atoll_clock();
    }
    atoll_mutex_unlock(&lock);
    if (s == NULL) {
        return NULL;
    }
    atoll_cond_broadcast(&changed); /* who is woken does not find the lock taken */
    atoll_entry *entry = s->entry;
    atomic_store(&entry->depth, like->depth);
    atoll_process_mark now = atoll_process_look();
    stale->path = !is_same(&s->path, &like->path);
    stale->environment = s->process.environment != now.environment;
    stale->limits = like->wishes.limits.memory != 0 || like->wishes.limits.cpu != 0;
    stale->zone = s->process.zone != now.zone;
    spare_free(s);
    if (like->wishes.name != NULL) {
        atoll_entry_set_name(entry, like->wishes.name);
    }
    atoll_entry_open(entry);
    return entry;
}

bool atoll_spares_end(void) {
    atoll_mutex_lock(&lock);
    wanted = 0;
    spare *all = ready;
    ready = NULL;
    ready_count = 0;
    bool idle = !making;
    if (importing != NULL) { /* it cannot end as long as the lock is held */
        (void)atoll_interrupt_kept(importing, &atoll_system_exit);
    }
    atoll_mutex_unlock(&lock);
    PyThreadState *tstate = PyEval_SaveThread();
    while (all != NULL) {
        spare *next = all->next;
        end_one(all);
        all = next;
    }
    PyEval_RestoreThread(tstate);
    return idle;
}
