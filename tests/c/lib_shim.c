/* The shim itself, for tests that load clones.
 *
 * Linked with: -Isrc
 */
#define _GNU_SOURCE
#include "shim/shim.c"
#include "shim/shim_dl.c"
#include "shim/shim_keeps.c"
#include "shim/shim_streams.c"
#include "shim/shim_threads.c"
#include "shim/shim_waits.c"
