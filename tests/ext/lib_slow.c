/* A library whose constructor takes its time: it says that it has begun, then waits to be told to go on.  The pipes' descriptors are in
 * the environment. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void construct(void) {
    const char *says = getenv("EXT_SLOW_SAYS"), *waits = getenv("EXT_SLOW_WAITS");
    char byte = 'x';
    if (says != NULL && waits != NULL && write(atoi(says), &byte, 1) == 1) {
        (void)!read(atoi(waits), &byte, 1);
    }
}
