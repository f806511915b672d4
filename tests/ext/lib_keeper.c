/* A library that has nothing to do with Python and keeps what it is given, in memory from malloc(), and a function in a
 * static variable. */
#include "libs.h"

#include <stdlib.h>

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

/* As libraries have it that call a function when something goes wrong. */
static long (*handler)(long);

void lib_keeper_handle(long (*function)(long)) { handler = function; }

long lib_keeper_call(long number) { return handler != NULL ? handler(number) : -1; }
