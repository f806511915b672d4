/* Needs no clone.  When it is loaded it touches the file that ATOLL_TEST_TOUCH names. */
#include <stdlib.h>
#include <sys/stat.h>

int touches_next(void);

static int calls;

int touches_next(void) { return ++calls; }

__attribute__((constructor)) static void touch(void) {
    const char *path = getenv("ATOLL_TEST_TOUCH");
    if (path != NULL) {
        calls = utimensat(-1, path, NULL, 0) == 0 ? 10 : -10;
    }
}
