/* A helper library that has nothing to do with Python: every interpreter may use the one that is loaded already. */
#include "libs.h"

static int place;

long lib_plain_double(long value) { return 2 * value; }
void *lib_plain_address(void) { return &place; }
