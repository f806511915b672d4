/* What C++'s runtime library keeps of clones (unload.c): functions that it calls, and what its own streams lead to.
 *
 * A library that is loaded with a clone is asked for by its symbols: a package may have a libstdc++ of its own.
 *
 * A stream may have a buffer, a stream to flush before it reads, functions to call when it changes, and parts of its locale ("facets") that
 * are objects of a clone's, or of classes of a clone's.  Where these are is in headers, and so in every program that is compiled with
 * them: it is the same since GCC 3.4.  That it is so here is seen in the one of them that there is a function for.
 *
 * No lock: who changes one of these streams while another thread uses it is on his own in C++ as well.
 */
#include "core/clone/clones.h"

#include <stddef.h>

typedef struct callback {
    struct callback *next;
    void *function;
} callback;

typedef struct {
    int refs;
    void *const *const *facets; /* objects, each of which begins with its class's table; or NULL */
    size_t count;
} locale_parts;

/* std::basic_ios<>, whatever its characters are. */
typedef struct ios {
    void *table;
    long precision, width;
    int flags, exceptions, state;
    const callback *callbacks;
    void *words[18];
    int nwords;
    void *more_words;
    const locale_parts *locale;
    char *tied; /* another stream */
    char fill[8];
    void *const *buffer;
} ios;
_Static_assert(offsetof(ios, tied) == 216 && offsetof(ios, buffer) == 232, "as in C++'s headers");

/* An object in a clone, or one whose class is. */
static bool is_theirs(atoll_clones *set, void *const *object) {
    return object != NULL && (atoll_clones_at(set, object) != NULL || atoll_clones_at(set, *object) != NULL);
}

/* The part of a stream that has all this is a virtual base: where it is stands before the table of functions, in every C++ ABI of
 * Linux.  NULL: nobody has initialized the stream, as nobody includes <iostream>. */
static const ios *ios_of(const char *stream) {
    const ptrdiff_t *table;
    memcpy(&table, stream, sizeof table);
    return table != NULL ? (const ios *)(const void *)(stream + table[-3]) : NULL;
}

static bool has_facet(atoll_clones *set, const locale_parts *locale) {
    for (size_t i = 0; i < locale->count; i++) {
        if (is_theirs(set, locale->facets[i])) {
            return true;
        }
    }
    return false;
}

static bool has_callback(atoll_clones *set, const callback *item) {
    while (item != NULL && atoll_clones_at(set, item->function) == NULL) {
        item = item->next;
    }
    return item != NULL;
}

static bool leads_there(atoll_clones *set, void *handle, const char *name, const char *getter) {
    const char *stream = atoll_dl_symbol(handle, name);
    void *get = atoll_dl_symbol(handle, getter);
    void *const *(*get_buffer)(const void *ios) = NULL;
    memcpy(&get_buffer, &get, sizeof get_buffer);
    const ios *parts = stream != NULL && get_buffer != NULL ? ios_of(stream) : NULL;
    if (parts == NULL) {
        return false;
    }
    void *const *buffer = get_buffer(parts);
    if (buffer != parts->buffer) { /* it looks different here */
        return is_theirs(set, buffer);
    }
    const ios *tied =
        parts->tied != NULL && atoll_clones_at(set, parts->tied) == NULL ? ios_of(parts->tied) : NULL;
    return is_theirs(set, buffer) || has_callback(set, parts->callbacks) || has_facet(set, parts->locale) ||
           (parts->tied != NULL && (tied == NULL || is_theirs(set, tied->buffer)));
}

bool atoll_clone_cpp_streams_lead_into(atoll_clones *set) {
    static const char *const narrow[] = {"_ZSt4cout", "_ZSt4cerr", "_ZSt4clog", "_ZSt3cin"};
    static const char *const wide[] = {"_ZSt5wcout", "_ZSt5wcerr", "_ZSt5wclog", "_ZSt4wcin"};
    const void *last = NULL;
    bool any = false;
    for (size_t i = 0; i < set->count && !any; i++) {
        void *handle = set->items[i]->handle;
        const void *library = atoll_dl_symbol(handle, narrow[0]); /* of which a package may have its own */
        for (size_t k = 0; library != last && library != NULL && k < 4 && !any; k++) {
            any = leads_there(set, handle, narrow[k], "_ZNKSt9basic_iosIcSt11char_traitsIcEE5rdbufEv") ||
                  leads_there(set, handle, wide[k], "_ZNKSt9basic_iosIwSt11char_traitsIwEE5rdbufEv");
        }
        last = library != NULL ? library : last;
    }
    return any;
}

/* One function of a clone's gives way to what there is at the start of a process. */
static void reset_handler(atoll_clones *set, const char *getter, const char *setter, const char *at_start) {
    void *get = atoll_dl_symbol(atoll_clones_scope(set, NULL, getter), getter);
    void *put = atoll_dl_symbol(atoll_clones_scope(set, NULL, setter), setter);
    void *(*get_handler)(void) = NULL;
    void *(*set_handler)(void *) = NULL;
    memcpy(&get_handler, &get, sizeof get_handler);
    memcpy(&set_handler, &put, sizeof set_handler);
    if (get_handler != NULL && set_handler != NULL && atoll_clones_at(set, get_handler()) != NULL) {
        (void)set_handler(
            at_start != NULL ? atoll_dl_symbol(atoll_clones_scope(set, NULL, at_start), at_start) : NULL);
    }
}

/* It keeps one that is called where memory is short, and one for exceptions that nobody catches. */
void atoll_clone_cpp_reset_handlers(atoll_clones *set) {
    reset_handler(set, "_ZSt15get_new_handlerv", "_ZSt15set_new_handlerPFvvE", NULL);
    reset_handler(set, "_ZSt13get_terminatev", "_ZSt13set_terminatePFvvE",
                  "_ZN9__gnu_cxx27__verbose_terminate_handlerEv");
}
