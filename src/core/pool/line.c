/* Whose turn it is: see line.h.
 *
 * A pool's `turn` says whether the first in the line is one of its tasks.  It is written with the line's lock held, and before
 * whoever waits for it is looked for; a worker that finds nothing to do looks at it after it has said that it waits (wait.h).
 */
#include "core/pool/line.h"

#include "core/pool/internal.h"

bool atoll_line_join(atoll_line *line, atoll_task *task) {
    atoll_lock_take(&line->lock);
    bool open = line->shut == 0;
    if (open) {
        task->in_line = true;
        task->line_prev = line->last;
        task->line_next = NULL;
        if (line->last != NULL) {
            line->last->line_next = task;
        } else {
            line->first = task;
            atomic_store(&task->pool->turn, true);
        }
        line->last = task;
        atomic_fetch_add(&line->length, 1);
    }
    atoll_lock_give(&line->lock);
    return open;
}

static bool is_empty(void *line) { return atomic_load(&((atoll_line *)line)->length) == 0; }

void atoll_line_leave(atoll_line *line, atoll_task *task) {
    atoll_pool *next = NULL;
    atoll_lock_take(&line->lock);
    bool was_in = task->in_line;
    bool was_first = was_in && task->line_prev == NULL;
    if (was_in) {
        task->in_line = false;
        *(was_first ? &line->first : &task->line_prev->line_next) = task->line_next;
        *(task->line_next != NULL ? &task->line_next->line_prev : &line->last) = task->line_prev;
        atomic_fetch_sub(&line->length, 1);
    }
    if (was_first) {
        atomic_store(&task->pool->turn, false);
        if (line->first != NULL) {
            next = line->first->pool;
            atoll_pool_retain(next);
            atomic_store(&next->turn, true);
        }
    }
    bool over = was_in && line->first == NULL;
    atoll_lock_give(&line->lock);
    if (next != NULL) {
        if (atomic_load(&next->sleeping) != 0) {
            atoll_waiters_wake(&next->lock, &next->idle, &next->sleeping, &next->work_spin, 1);
        }
        atoll_pool_release(next);
    }
    if (over) {
        atoll_waiters_wake(&line->lock, &line->waiters, NULL, NULL, UINT32_MAX);
    }
}

void atoll_line_shut(atoll_line *line) {
    atoll_lock_take(&line->lock);
    line->shut++;
    atoll_lock_give(&line->lock);
}

void atoll_line_open(atoll_line *line) {
    atoll_lock_take(&line->lock);
    line->shut--;
    atoll_lock_give(&line->lock);
}

bool atoll_line_await_end(atoll_line *line, atoll_waiter *waiter, double deadline, atoll_wait_result *why) {
    *why = ATOLL_WAIT_OK;
    if (!is_empty(line)) {
        *why = atoll_pool_await(&line->lock, &line->waiters, NULL, NULL, is_empty, line, waiter, deadline);
    }
    return is_empty(line);
}
