/* A library with a name like those of the system's: one in a process.  How often it was called. */
#include "libs.h"

static long count;

long lib_runtime_bump(void) { return ++count; }
