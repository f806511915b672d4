/* A library that has nothing to do with Python and keeps what it is given, in memory from malloc(), and a function in a
 * static variable. */
#include "libs.h"

#include <stdlib.h>
#include <sys/mman.h>

struct kept {
    void *what;
    struct kept *next;
};
static struct kept **list;

void lib_keeper_keep(void *what) {
    struct kept *kept = malloc(sizeof *kept);
    if (list == NULL) {
        list = calloc(1, sizeof *list);
    }
    if (kept != NULL && list != NULL) {
        *kept = (struct kept){what, *list};
        *list = kept;
    }
}

void *lib_keeper_last(void) { return list != NULL && *list != NULL ? (*list)->what : NULL; }

/* As libraries have it that call a function when something goes wrong: who gives them one is told of the one before. */
static long (*handler)(long);

long (*lib_keeper_handle(long (*function)(long)))(long) {
    long (*before)(long) = handler;
    handler = function;
    return before;
}

/* The same for each thread. */
static _Thread_local long (*own_handler)(long);

void lib_keeper_handle_here(long (*function)(long)) { own_handler = function; }

long lib_keeper_call_here(long number) { return own_handler != NULL ? own_handler(number) : -1; }

/* A stack has a page before it that nobody may touch. */
static char area[1 << 18] __attribute__((aligned(1 << 16)));

int lib_keeper_guard(void) { return mprotect(area + (1 << 16), 1 << 16, PROT_NONE); }

long lib_keeper_call(long number) { return handler != NULL ? handler(number) : -1; }

/* SQLite's keeps functions in this way. */
static void (**functions)(void);
static size_t count;

int sqlite3_auto_extension(void (*function)(void)) {
    void (**more)(void) = realloc((void *)functions, (count + 1) * sizeof *functions);
    if (more == NULL) {
        return 7;
    }
    functions = more;
    functions[count++] = function;
    return 0;
}

/* How many there are; they are called. */
long lib_keeper_run(void) {
    for (size_t i = 0; i < count; i++) {
        functions[i]();
    }
    return (long)count;
}

static int (*closer)(FILE *stream);

void lib_keeper_close_with(int (*function)(FILE *stream)) { closer = function; }

int lib_keeper_close(void) {
    FILE *stream = fopen("/dev/null", "r");
    return stream != NULL && closer != NULL ? closer(stream) : -1;
}
