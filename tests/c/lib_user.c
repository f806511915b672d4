/* The library that most tests clone: it has variables, thread-local ones, constructors and destructors of all
 * kinds, needs two other libraries, and is large enough that sharing its pages shows.
 *
 * Linked with: -Wl,-z,separate-code -Wl,-init,user_init -Wl,-fini,user_fini
 * Linked with: -Wl,--hash-style=both -l:lib_leaf.so -l:lib_provider.so
 */
#include <string.h>

#ifndef SIZE
#define SIZE (2 * 1024 * 1024)
#endif

int leaf_next(void);
int provided(void);

char user_log[16];            /* which constructors ran, in order, a letter each */
int user_argc = -1;           /* what a constructor was called with */
void (*user_hook)(char what); /* called by the destructors */
const unsigned char user_table[SIZE] = {[0] = 11, [SIZE / 2] = 22, [SIZE - 1] = 33};
const char *const user_pointer = user_log;

static int count;
static __thread int thread_count = 100;

int user_count(void);
int user_thread_count(void);
int user_leaf(void);
int user_provided(void);
void user_init(void);
void user_fini(void);

int user_count(void) { return ++count; }
int user_thread_count(void) { return ++thread_count; }
int user_leaf(void) { return leaf_next(); }
int user_provided(void) { return provided(); }

static void note(const char *what) { strcat(user_log, what); }

void user_init(void) { note("i"); }

__attribute__((constructor(1001))) static void first(int argc, char **argv, char **environment) {
    user_argc = argv != (char **)0 && environment != (char **)0 ? argc : -2;
    note("a");
}

__attribute__((constructor(1002))) static void second(void) { note("b"); }

static void tell(char what) {
    if (user_hook != 0) {
        user_hook(what);
    }
}

__attribute__((destructor(1001))) static void last(void) { tell('a'); }
__attribute__((destructor(1002))) static void last_but_one(void) { tell('b'); }
void user_fini(void) { tell('f'); }
