/* A library that is one for the process by its name.  How often it was called. */
#include "libs.h"

static long count;

long lib_runtime_bump(void) { return ++count; }
