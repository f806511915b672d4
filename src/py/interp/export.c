/* Memory of an object that other interpreters see.
 *
 * An export is a Py_buffer, or something else that only its owner can end, with a reference count that any thread may change.  The last reference may go in any thread,
 * but the buffer must be released by its owner: it is handed over as a job, which the owner's next session runs, a
 * pending call when it is busy, or one of its threads that waits for something of Atoll's and is woken for it.  (Where all that it
 * does is sleep in C code, until that ends.)  An interpreter with exports that are still seen elsewhere is not ended when it is
 * closed (registry.h, "zombie"), so nothing ever dangles; the release that brings its exports to zero makes a
 * sweep due.  Only others have references: what comes home is a view of the object itself (module/sharedview.c), so an
 * interpreter is never kept by itself.
 *
 * An export that is made while its owner ends (a finalizer puts a view into a queue) may be seen when it has ended.  Then its
 * buffer is never released and the interpreter's memory is not taken back.
 */
#include "py/interp/export.h"

#include "core/base/base.h"
#include "py/interp/lifecycle.h"
#include "py/interp/session.h"

#include <stdlib.h>

static void finish(atoll_job *job, bool alive) {
    atoll_export *export = (atoll_export *)job;
    atoll_entry *owner = export->owner;
    if (export->end != NULL) {
        export->end(export->what, alive);
    } else if (alive) {
        PyBuffer_Release(&export->buffer);
    }
    atomic_fetch_sub(&owner->exports, 1);
    free(export);
    atoll_entry_release(owner);
}

static int drain_jobs(void *raw) {
    atoll_entry *entry = raw;
    /* What comes from here on needs another.  Whoever found this one due has pushed its job before: this takes over what they wrote. */
    (void)atomic_exchange(&entry->drain_due, false);
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) == entry->id) {
        atoll_session_housekeeping(entry);
    }
    atoll_entry_release(entry);
    return 0;
}

void atoll_export_retain(void *ptr) { atomic_fetch_add(&((atoll_export *)ptr)->refs, 1); }

void atoll_export_release(void *ptr) {
    atoll_export *export = ptr;
    if (atomic_fetch_sub(&export->refs, 1) != 1) {
        return;
    }
    atoll_entry *owner = export->owner;
    PyThreadState *tstate = atoll_thread_state_attached();
    if (export->is_bytes && tstate != NULL &&
        PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)) == owner->id) {
        finish(&export->job, true);
        return;
    }
    atoll_interp_hand_over(owner, &export->job);
}

void atoll_interp_hand_over(atoll_entry *owner, atoll_job *job) {
    atoll_entry_retain(owner); /* for the pending call */
    bool first = atoll_entry_push_job(owner, job);
    bool pending = false;
    if (atoll_entry_guard(owner)) {
        if (first) {
            atoll_entry_interrupt_waits(owner); /* a thread that waits runs no pending calls */
        }
        if (!atomic_exchange(&owner->drain_due, true)) {
            pending = atoll_compat_add_pending_call(owner->interp, drain_jobs, owner) == 0;
            if (!pending) {
                atomic_store(&owner->drain_due, false); /* CPython's list is full: the next job tries again */
            }
        }
        atoll_entry_unguard(owner);
    } else if (atoll_entry_life(owner) >= ATOLL_LIFE_ENDED) {
        atoll_entry_run_jobs(owner,
                             false); /* who ended it took the list before this was on it, or takes it now */
    } else {
        atoll_interp_sweep_later();
    }
    if (!pending) {
        atoll_entry_release(owner);
    }
}

const atoll_handle_class atoll_export_class = {"memory", atoll_export_retain, atoll_export_release};
const atoll_handle_class atoll_export_object_class = {"object", atoll_export_retain, atoll_export_release};

/* It is seen from now on. */
static void begin(atoll_export *export, atoll_state *state) {
    export->job.run = finish;
    atomic_init(&export->refs, 1);
    export->owner = state->entry;
    atoll_entry_retain(state->entry);
    atomic_fetch_add(&state->entry->exports, 1);
}

atoll_export *atoll_export_of(atoll_state *state, void *what, void (*end)(void *what, bool alive)) {
    atoll_export *export = calloc(1, sizeof *export);
    if (export == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    export->what = what;
    export->end = end;
    begin(export, state);
    return export;
}

atoll_export *atoll_export_new(atoll_state *state, PyObject *obj) {
    atoll_export *export = calloc(1, sizeof *export);
    if (export == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (PyObject_GetBuffer(obj, &export->buffer, PyBUF_FULL_RO) < 0) {
        free(export);
        return NULL;
    }
    export->is_bytes = PyBytes_CheckExact(obj);
    begin(export, state);
    return export;
}

int atoll_export_keep_bytes(atoll_message *msg) {
    for (uint32_t i = 0; i < msg->nhandles; i++) {
        atoll_export *export = msg->handles[i].ptr;
        if (msg->handles[i].cls != &atoll_export_class || !export->is_bytes) {
            continue;
        }
        size_t size = (size_t)export->buffer.len;
        atoll_block *block = atoll_block_new(size);
        if (block == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(block->data, export->buffer.buf, size);
        msg->handles[i] = (atoll_handle){&atoll_block_class, block};
        atoll_export_release(export);
    }
    return 0;
}
