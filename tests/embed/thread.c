/* A host program whose Python lives on a thread of its own, from beginning to end, while the process's main thread waits.
 *
 *   LD_PRELOAD=thread.so ATOLL_TEST_HOST=1 python SCRIPT
 *
 * It prints what Py_FinalizeEx() returns, and at last that it goes on.
 */
#include "embed.h"

#include <pthread.h>

static void *live(void *raw) {
    char **argv = raw;
    begin(argv[0]);
    FILE *file = fopen(argv[1], "r");
    if (file == NULL || PyRun_SimpleFileEx(file, argv[1], 1) != 0) {
        printf("the script has failed\n");
    }
    printf("finalize %d\n", Py_FinalizeEx());
    return NULL;
}

static int host(int argc, char **argv) {
    pthread_t thread;
    if (argc != 2 || pthread_create(&thread, NULL, live, argv) != 0) {
        return 1;
    }
    pthread_join(thread, NULL);
    printf("host goes on\n");
    fflush(stdout);
    return 0;
}
