/* A helper library that the tests take away after the extension was linked. */
#include "libs.h"

void lib_missing(void) {}
