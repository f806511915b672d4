/* A host program ends Python and begins it again: Py_FinalizeEx(), Py_Initialize().
 *
 * This library stays loaded, and with it what it knows of the process.  Some of that means the Python that has ended: entries of
 * interpreters, thread states, dicts, allocators that were wrapped, that the process exits.  CPython says when it is over
 * (Py_AtExit()); what has to be forgotten is forgotten when the next Python imports Atoll, so that the end of an ordinary process
 * is none the wiser.  Whatever a static variable holds of Python belongs to the table below.
 *
 * What stays: the threads that prewarm and watch for signals, which look at nothing meanwhile; offsets into CPython's state, which is at
 * the same place; verdicts on files; clones that could not be unloaded; memory that was left because somebody might use it.
 *
 * Interpreters' ids begin at 0 again.  So thread states are found by a serial number (core/registry/registry.h), and memory is noted with
 * one (atoll_memory_owner).
 *
 * Interpreters that were left behind stay as they are (exit.c): threads in them wait for ever for a GIL that is not given back.
 *
 * If CPython has no room for one more function (32), the next Python cannot create interpreters, and says that the process exits.
 */
#include "py/interp/restart.h"

#include "core/pool/pool.h"
#include "core/sync/sync.h"
#include "py/extension/extension.h"
#include "py/frozen/frozen.h"
#include "py/interp/lifecycle_internal.h"
#include "py/interp/pools.h"
#include "py/interp/watched.h"
#include "py/memory/memory.h"

static _Atomic(bool) is_over;
static _Atomic(bool) is_awaited;

static void forget_spares(void) { atoll_the_pools->forget_spares(); }

static void (*const parts[])(void) = {
    atoll_syncs_forget,        atoll_watched_forget,  atoll_registry_forget,
    atoll_spaces_forget_all,   atoll_pools_forget,    forget_spares,
    atoll_areas_forget,        atoll_datetime_forget, atoll_blocks_forget,
    atoll_static_types_forget, atoll_arenas_forget,   atoll_loaders_forget,
    atoll_interp_exit_forget, /* last: interpreters can be created from then on */
};

static void on_end(void) {
    atomic_store(&is_awaited, false);
    atomic_store(&is_over, true);
}

void atoll_restart_begin(void) {
    if (!atomic_exchange(&is_over, false)) {
        return;
    }
    atoll_memory_restart();
    for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
        parts[i]();
    }
}

void atoll_restart_await(void) {
    if (!atomic_exchange(&is_awaited, true) && Py_AtExit(on_end) < 0) {
        atomic_store(&is_awaited, false);
    }
}
