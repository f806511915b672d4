/* Copies of shared libraries that belong to one interpreter; this is the whole of the room.
 *
 *   clones    loading a clone and what it needs, finding symbols in it, unloading all of an interpreter's (plan <- names, roots; load <- plan;
 *             unload, signals, cpp: what clones leave in the process)
 *   natives   the threads and thread-specific keys that clones make: they end where they wait, when their owner does
 *   shim      what the small library that is copied with the clones is given
 *
 * Owner: a set of clones has one owner, who calls it from one thread at a time; it goes on living after the interpreter until all are
 * unloaded or are known to stay.  Threads: a clone's own threads may come in at any time: natives has a gate.
 * Locks: the list of clones, the list of keys and the handlers of signals each have one, all leaves; the loader's lock of the C library may be
 * taken by it, so none is held while it loads.
 * Failure: a load that fails has mapped nothing and run no destructor; a clone that cannot be unloaded stays, with all the others.
 */
#ifndef ATOLL_CORE_CLONE_H
#define ATOLL_CORE_CLONE_H

#include "core/clone/clones.h"
#include "core/clone/natives.h"
#include "core/clone/shim.h"

#endif
