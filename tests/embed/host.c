/* Makes an ordinary Python a host program that starts Python, runs a script and ends Python, once for each argument.
 *
 *   LD_PRELOAD=host.so ATOLL_TEST_HOST=1 python SCRIPT SCRIPT ...
 *
 * It prints what Py_FinalizeEx() returns after each, and at last that it
 * goes on; its exit status is the number of scripts that raised.
 */
#include "embed.h"

static int host(int argc, char **argv) {
    int raised = 0;
    for (int i = 1; i < argc; i++) {
        begin(argv[0]);
        FILE *file = fopen(argv[i], "r");
        raised += file == NULL || PyRun_SimpleFileEx(file, argv[i], 1) != 0;
        printf("finalize %d\n", Py_FinalizeEx());
        fflush(stdout);
    }
    printf("host goes on\n");
    fflush(stdout);
    return raised;
}
