/* What makes an ordinary Python the program of who includes this: compiled as a library, and preloaded with ATOLL_TEST_HOST set.  What the program
 * starts is an ordinary Python again. */
#ifndef TEST_EMBED_H
#define TEST_EMBED_H

#include <Python.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The program. */
static int host(int argc, char **argv);

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
    unsetenv("LD_PRELOAD");
    unsetenv("ATOLL_TEST_HOST");
    return host(argc, argv);
}

int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end) {
    start_function start = (start_function)dlsym(RTLD_NEXT, "__libc_start_main");
    bool is_host = getenv("ATOLL_TEST_HOST") != NULL;
    return start(is_host ? host_main : program, argc, argv, init, fini, rtld_fini, stack_end);
}

#endif
