/* A library whose functions are another one's, which the linker has been told: its own is never called where that one is found. */
#include "libs.h"

long lib_runtime_bump(void) { return -1; }
