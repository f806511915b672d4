/* The line of the calls that are submitted to one interpreter (Interpreter.submit), by whatever interpreters.
 *
 * Each interpreter that submits has a pool of its own for that, with one worker, because futures belong to who submits.  The line
 * makes the pools take turns: a task joins it when it is queued, and leaves it when it has ended or was cancelled; only the first
 * may be begun.  So one call runs at a time, and they run in the order in which they were submitted.
 *
 *   operation x operation   join            leave           shut
 *   join                    one after the other, all        refused afterwards
 *   leave                   the next one's pool is told     who waits for the end is told
 *
 * A line is shut by whoever is about to close the interpreter, and waits for it to be empty; it is opened again when it is not closed.
 *
 * The tasks in it are kept alive by whoever has them: the queue of their pool or the worker that runs them.
 *
 * Lock: the line's, for a few instructions; taken with a pool's lock held, a leaf.
 */
#ifndef ATOLL_CORE_POOL_LINE_H
#define ATOLL_CORE_POOL_LINE_H

#include "core/base/base.h"

/* With the lock of the task's pool held: false when it is shut. */
bool atoll_line_join(atoll_line *line, struct atoll_task *task);
/* The task has ended, or was cancelled. */
void atoll_line_leave(atoll_line *line, struct atoll_task *task);
/* Nobody joins any more; and again, when all who have shut it have opened it. */
void atoll_line_shut(atoll_line *line);
void atoll_line_open(atoll_line *line);
/* Waits until it is empty: true when that is so. */
bool atoll_line_await_end(atoll_line *line, atoll_waiter *waiter, double deadline, atoll_wait_result *why);

#endif
