/* Memory that interpreters leave; this is the whole of the room.
 *
 *   owner      whose memory it is, also of a Python that has ended
 *   account    how much each interpreter has, and may have
 *   arrays     what numpy's arrays take
 *   noted      which blocks are whose
 *   arena      arenas of CPython's object allocator: kept for the next interpreter, noted with who took them
 *   blocks     what interpreters take from malloc, noted likewise
 *   leftovers  objects of an interpreter that is gone: freed when nobody can know of them
 *   interned   strings that interpreters share on 3.12 and 3.13
 *
 * Decided by proof or not at all: what is taken back belongs to an interpreter that has ended, and its clones are unloaded.
 * Any thread may allocate at any time, with any thread state or none: each part has a lock of its own, a leaf, held while the process is forked.
 * Failure: what cannot be noted, for want of memory, is never taken back.
 */
#ifndef ATOLL_PY_MEMORY_H
#define ATOLL_PY_MEMORY_H

#include "py/compat.h"
#include "py/memory/account.h"
#include "py/memory/arena.h"
#include "py/memory/arrays.h"
#include "py/memory/blocks.h"
#include "py/memory/interned.h"
#include "py/memory/leftovers.h"
#include "py/memory/owner.h"
#include "py/memory/span.h"

#endif
