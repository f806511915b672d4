/* A helper library that knows no Python itself, but needs one that has Python state: it has to be a private copy too, or
 * it would be bound to another copy of that one. */
#include "libs.h"

static long middle;

long lib_middle_bump(void) {
    middle++;
    return lib_state_bump();
}

void *lib_middle_address(void) { return &middle; }
