/* Unloading clones (clones.h): the end of an interpreter's native code.
 *
 * The model is what a process does when it ends, in its order: all destructors run while all code is still there, and
 * nothing of one library is taken away before another's destructor has run.  Here, after Python's own end:
 *
 *   functions of Py_AtExit()            by the caller (py/extension/foreign.c), last first
 *   thread_local objects                of the thread that ends the interpreter; those of other threads are never
 *                                       destroyed, as at the end of a process
 *   functions of atexit(), on_exit()    last first, whichever clone they are from: static objects of C++ are among them.
 *                                       The C library has them on its list under one handle, the shim's
 *   destructors of the libraries        each clone's, dependents before what they need, last loaded first
 *   what those two left                 functions that were registered meanwhile
 *   handlers                            of memory that is short and of uncaught exceptions, in C++ (clone/cpp.c)
 *   signal handlers                     what was there before is there again (clone/signals.c)
 *   threads                             those that clones have started end where they wait (native_threads.c)
 *   keys for thread-specific data       are there for all of these; now they are deleted, and their destructors do not
 *                                       run, as they do not in a process that ends
 *   the memory                          all clones, then the shim.  The dynamic linker runs no code of theirs: their lists
 *                                       of destructors are empty by then
 *
 * As in a process the threads are still there while destructors run, and may use what has been destroyed; that has to last for
 * an instant only.  So as long as a thread that a clone has started is at work, or waits in a way that it cannot be ended in,
 * nothing of the above is done: all stay mapped, and are counted, as they do when code in them may be called later:
 * by a library that is known to call back, has an address in one of them in its static variables or in those of this thread, or keeps what it is given where nobody
 * looks; by a clone of another interpreter that has put a function of its own in the place of one of theirs; as a signal handler, by a hook
 * of Python's or as its allocator; or when one says that it must not be unloaded.  The shim is one of them in this.  Their destructors then run at the
 * end of the process.  What destructors do is looked at once more before anything is unmapped, and what they leave of what
 * the C and C++ libraries have: streams that lead into a clone, variables that a program may set.
 *
 * All or nothing: a clone that stays may have been given anything by any other one.
 *
 * No thread state is attached, no lock is held, and nobody loads anything: the list of clones is as it will be.
 */
#include "core/clone/clones.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GRAPHICS_DRIVER "libcuda.so.1"
#define SETTLE 0.25 /* seconds for threads that have done their work and are about to wait for more */

static _Atomic(atoll_kept_clone *) kept_clones;

const atoll_kept_clone *atoll_clones_kept(void) { return atomic_load(&kept_clones); }

/* Takes the clone's strings over. */
static void add_kept(atoll_clone *clone, const char *why) {
    atoll_kept_clone *kept = malloc(sizeof *kept);
    if (kept == NULL) {
        return; /* kept all the same, but not on the list */
    }
    *kept = (atoll_kept_clone){atomic_load(&kept_clones), clone->file, clone->path, why, clone->bytes};
    while (!atomic_compare_exchange_weak(&kept_clones, &kept->next, kept)) {
    }
}

static bool keep_all(atoll_clones *set, const char *why) {
    atoll_mutex_lock(&set->lock);
    for (size_t i = 0; i < set->count; i++) {
        add_kept(set->items[i], why);
    }
    atoll_mutex_unlock(&set->lock);
    return false;
}

bool atoll_clones_keep(atoll_clones *set, const char *why) {
    atoll_clones_unlist(set);
    return keep_all(set, why);
}

static bool is_in_shim(const atoll_clones *set, uintptr_t address) {
    return address >= set->shim_low && address < set->shim_high;
}

/* Of the set's clones, or its shim: a clone that hands on fclose(), say, hands on the shim's. */
static bool is_in_one(const atoll_clones *set, uintptr_t address) {
    if (is_in_shim(set, address)) {
        return true;
    }
    for (size_t i = 0; i < set->count; i++) {
        if (address >= set->items[i]->low && address < set->items[i]->high) {
            return true;
        }
    }
    return false;
}

static bool has_signal_handler(const atoll_clones *set) {
    uintptr_t handlers[ATOLL_SIGNALS];
    if (set->count == 0) {
        return false;
    }
    atoll_signal_handlers(handlers);
    for (int number = 0; number < ATOLL_SIGNALS; number++) {
        if (is_in_one(set, handlers[number])) {
            return true;
        }
    }
    return false;
}

/* Under whatever path; nobody closes it once it is there. */
static bool has_driver(void) {
    void *handle = atoll_dl_loaded(GRAPHICS_DRIVER);
    if (handle != NULL) {
        atoll_dl_close(handle);
    }
    return handle != NULL;
}

/* Whether variables of the C library's that programs set lead into a clone. */
static bool has_variable(atoll_clones *set) {
    static const char *const variables[] = {"environ", "program_invocation_name",
                                            "program_invocation_short_name", "error_print_progname",
                                            "obstack_alloc_failed_handler"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        void *const *variable = atoll_dl_symbol(NULL, variables[i]);
        if (variable != NULL && atoll_clones_at(set, *variable) != NULL) {
            return true;
        }
    }
    for (char **at = environ; at != NULL && *at != NULL; at++) {
        if (atoll_clones_at(set, *at) != NULL) {
            return true;
        }
    }
    return false;
}

static bool has_streams(atoll_clones *set) {
    void *symbol =
        set->shim_handle != NULL ? atoll_dl_symbol(set->shim_handle, ATOLL_SHIM_HAS_STREAMS) : NULL;
    int (*function)(void) = NULL;
    memcpy(&function, &symbol, sizeof function);
    return function != NULL && function() != 0;
}

static const char threads_are_alive[] = "threads that the interpreter's extensions have started are alive";

static bool calls_back(atoll_clones *set) {
    return (set->calls_back & ATOLL_CALLS_BACK) != 0 ||
           ((set->calls_back & ATOLL_CALLS_BACK_FROM_DRIVER) != 0 && has_driver());
}

static bool is_for_good(atoll_clones *set) { return set->is_for_good; }

static bool has_threads(atoll_clones *set) { return !atoll_natives_threads_wait(set->natives, SETTLE); }

static bool has_handler(atoll_clones *set) {
    return has_signal_handler(set) || atoll_clone_signals_matter(set);
}

/* ---- what libraries that stay were given ---- */

static bool is_in_code(const atoll_clones *set, uintptr_t address) {
    for (size_t i = 0; i < set->count; i++) {
        if (address >= set->items[i]->code && address < set->items[i]->code_end) {
            return true;
        }
    }
    return is_in_shim(set, address);
}

/* What stays: no clone, of whatever interpreter.  The C library and its like are not among it: their tables still have what was taken
 * out of them.  CPython is. */
static bool stays(const char *path) {
    const char *name = atoll_name_last_part(path);
    bool tells = !atoll_name_is_system(name) || strncmp(name, "libpython", 9) == 0;
    return tells && strstr(name, ".atoll") == NULL;
}

typedef struct {
    const atoll_clones *set;
    uintptr_t lowest;  /* where the first of them begins, */
    size_t width;      /* and how much lies between that and the last one's end */
    uintptr_t runtime; /* CPython's state, and */
    size_t size;       /* how large it is */
} clone_search;

/* Not by where its variables are: those that are thread_local lie anywhere. */
static bool is_own(const atoll_clones *set, const char *path) {
    bool own = set->shim_path != NULL && strcmp(set->shim_path, path) == 0;
    for (size_t i = 0; i < set->count && !own; i++) {
        own = strcmp(set->items[i]->path, path) == 0;
    }
    return own;
}

/* What stays; and clones of others where whoever puts his own function in place of one of these clones may have that, to put it back. */
static bool may_know(const char *path, void *context) {
    const atoll_clones *set = ((const clone_search *)context)->set;
    bool of_others = set->hands_out && strstr(atoll_name_last_part(path), ".atoll") != NULL;
    return (stays(path) || of_others) && !is_own(set, path);
}

/* Atoll's own tables (clone/signals.c) do not count. */
static const uintptr_t *leads_there(const void *start, size_t size, void *context) {
    const clone_search *search = context;
    const uintptr_t *end;
    uintptr_t value = 0;
    if ((uintptr_t)&kept_clones - (uintptr_t)start < size) {
        return NULL;
    }
    for (const uintptr_t *word = atoll_data_words(start, size, &end); word < end; word++) {
        word = atoll_data_next(word, end, search->lowest, search->width, &value);
        if (word < end && is_in_one(search->set, value) &&
            ((uintptr_t)word - search->runtime >= search->size || is_in_code(search->set, value))) {
            return word;
        }
    }
    return NULL;
}

/* Whether a static variable of a library that stays, or of the program, has an address in a clone: mostly that of a function, for errors
 * say, which may use what destructors destroy.  Where such a variable is in memory from malloc() it is not found.  Of what CPython keeps
 * in its state functions count only (an allocator): 3.13 goes on having the addresses of static types that it has let go. */
static bool is_known(atoll_clones *set) {
    if (set->count == 0) {
        return false;
    }
    const void *runtime = atoll_dl_symbol(NULL, "_PyRuntime");
    bool has_shim = set->shim_high != 0;
    clone_search search = {
        .set = set, .lowest = has_shim ? set->shim_low : UINTPTR_MAX, .runtime = (uintptr_t)runtime};
    search.size = runtime != NULL ? atoll_dl_symbol_size(runtime) : 0;
    uintptr_t highest = set->shim_high;
    for (size_t i = 0; i < set->count; i++) {
        const atoll_clone *clone = set->items[i];
        search.lowest = clone->low < search.lowest ? clone->low : search.lowest;
        highest = clone->high > highest ? clone->high : highest;
    }
    search.width = highest - search.lowest;
    return atoll_dl_any_data(may_know, leads_there, &search);
}

/* Whether a clone uses what a library that stays registers things with, in memory from malloc(). */
static bool has_registered(atoll_clones *set) {
    const char *name;
    for (size_t i = 0; i < set->count; i++) {
        for (unsigned bit = 0;
             set->items[i]->registers >> bit != 0 && (name = atoll_name_registering(bit)) != NULL; bit++) {
            const void *function = (set->items[i]->registers >> bit & 1) != 0
                                       ? atoll_dl_symbol(set->items[i]->handle, name)
                                       : NULL;
            if (function != NULL && atoll_clones_at(set, function) == NULL) {
                return true;
            }
        }
    }
    return false;
}

static bool has_any_stream(atoll_clones *set) {
    return has_streams(set) || atoll_clone_cpp_streams_lead_into(set);
}

/* Why clones are kept, in the order in which it is looked at; the last of them only when their destructors have run. */
static const struct {
    bool (*holds)(atoll_clones *set);
    const char *why;
} reasons[] = {
    {calls_back, "a library that they use may call back"},
    {has_registered, "a library that they use may call back"},
    {is_for_good, "one of them says that it must not be unloaded"},
    {has_threads, threads_are_alive},
    {has_handler, "one of them has installed a signal handler"},
    {is_known, "a library that stays has an address in one of them"},
    {has_any_stream, "a stream is open that leads into one of them"},
    {has_variable, "a variable of the process leads into one of them"},
};
enum { BEFORE_DESTRUCTORS = 6, AFTER_DESTRUCTORS = sizeof reasons / sizeof *reasons };

/* The first of so many reasons that holds, or NULL. */
static const char *reason_to_keep(atoll_clones *set, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (reasons[i].holds(set)) {
            return reasons[i].why;
        }
    }
    return NULL;
}

static void finish(const atoll_clones *set) {
    void *symbol = set->shim_handle != NULL ? atoll_dl_symbol(set->shim_handle, ATOLL_SHIM_FINISH) : NULL;
    void (*function)(void) = NULL;
    memcpy(&function, &symbol, sizeof function);
    if (function != NULL) {
        function();
    }
}

static void destroy(atoll_clones *set) {
    atoll_natives_thread_end(set->natives);
    finish(set);
    for (size_t i = set->count; i-- > 0;) {
        atoll_elf_destroy(&set->items[i]->destructors);
    }
    finish(set);
    if (set->sets_handlers) {
        atoll_clone_cpp_reset_handlers(set);
    }
}

/* Whether all are gone. */
static bool unmap(atoll_clones *set) {
    for (size_t i = set->count; i-- > 0;) {
        atoll_dl_close(set->items[i]->handle);
    }
    bool gone = true;
    for (size_t i = 0; i < set->count; i++) {
        atoll_clone *clone = set->items[i];
        if (!atoll_dl_is_loaded(clone->path)) {
            atoll_clone_free(clone);
            continue;
        }
        add_kept(clone, "the dynamic linker keeps it loaded");
        gone = false;
    }
    free((void *)set->items);
    set->items = NULL;
    set->count = 0;
    return gone;
}

bool atoll_clones_unload(atoll_clones *set) {
    if (set->have_scratch) {
        atoll_scratch_close(&set->scratch);
        set->have_scratch = false;
    }
    const char *why = NULL;
    for (size_t i = 0; why == NULL && i < set->count; i++) {
        if (set->forget != NULL && !set->forget(set->items[i]->low, set->items[i]->high)) {
            why = "Python may know something in them";
        }
    }
    why = why == NULL ? reason_to_keep(set, BEFORE_DESTRUCTORS) : why;
    if (why == NULL) {
        destroy(set);
        why = reason_to_keep(set, AFTER_DESTRUCTORS);
        why = why == NULL && !atoll_clone_signals_end(set) ? "a signal handler of theirs is running" : why;
    }
    if (why == NULL && !atoll_natives_end(set->natives)) {
        why = atomic_load(&set->natives->threads) != 0
                  ? threads_are_alive
                  : "a thread that ends is running a destructor of theirs";
    }
    atoll_clones_unlist(set);
    if (why != NULL) {
        return keep_all(set, why);
    }
    if (!unmap(set)) {
        return false;
    }
    if (set->shim_handle != NULL) {
        atoll_dl_close(set->shim_handle);
        free(set->shim_path);
    }
    atoll_clones_free(set);
    return true;
}
