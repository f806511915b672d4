/* Makes an ordinary Python a host program that starts Python, runs a script and ends Python, once for each argument.
 *
 *   LD_PRELOAD=host.so ATOLL_TEST_HOST=1 python SCRIPT SCRIPT ...
 *
 * What the program starts is an ordinary Python again.  It prints what Py_FinalizeEx() returns after each, and at last that it
 * goes on; its exit status is the number of scripts that raised.
 */
#include <Python.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*start_function)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                              void (*)(void), void *);

static void begin(const char *program) {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyConfig_SetBytesString(&config, &config.program_name, program);
    PyConfig_SetBytesString(&config, &config.executable,
                            program); /* else a second Python of 3.14 finds no venv */
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "host: %s\n", status.err_msg);
        exit(99);
    }
}

static int host_main(int argc, char **argv, char **environment) {
    (void)environment;
    int raised = 0;
    unsetenv("LD_PRELOAD");
    unsetenv("ATOLL_TEST_HOST");
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

int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end) {
    start_function start = (start_function)dlsym(RTLD_NEXT, "__libc_start_main");
    bool is_host = getenv("ATOLL_TEST_HOST") != NULL;
    return start(is_host ? host_main : program, argc, argv, init, fini, rtld_fini, stack_end);
}
