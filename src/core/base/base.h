/* What everything in core is made of; this is the whole of the room.
 *
 *   list      everything of one kind in the process
 *   buffer    bytes that grow, and a reader that never goes past their end
 *   block     memory with a count of those who have it
 *   message   bytes and handles: what is sent.  Whoever has a message owns its handles; bytes never hold pointers
 *   mix       hashes of words and texts
 *   lock      locks for a few instructions: whoever waits spins, then sleeps
 *   wait      sleeping until somebody wakes: waiters in a list, first come, first served; interrupts; deadlines
 *   line      what an interpreter's entry holds of the line of calls that are submitted to it
 *
 * Nothing here knows Python, interpreters or who uses it.  Failure: out of memory is told by the result, nothing is half done.
 * Locks taken here are leaves.
 */
#ifndef ATOLL_CORE_BASE_H
#define ATOLL_CORE_BASE_H

#include "core/base/block.h"
#include "core/base/buffer.h"
#include "core/base/line.h"
#include "core/base/list.h"
#include "core/base/lock.h"
#include "core/base/message.h"
#include "core/base/mix.h"
#include "core/base/wait.h"

#endif
