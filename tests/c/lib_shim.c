/* The shim itself, for tests that load clones.
 *
 * Linked with: -Isrc
 */
#define _GNU_SOURCE
#include "shim/shim.c"
