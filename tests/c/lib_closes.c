/* Calls Python, so that it is cloned; its destructor says in the environment that it has run. */
#include <stdlib.h>

int Py_IsInitialized(void);
int closes_initialized(void);

static int constructed;

int closes_initialized(void) { return constructed * Py_IsInitialized(); }

__attribute__((constructor)) static void construct(void) { constructed = 1; }
__attribute__((destructor)) static void destroy(void) {
    (void)setenv("ATOLL_TEST_DESTROYED", constructed ? "constructed" : "not constructed", 1);
}
