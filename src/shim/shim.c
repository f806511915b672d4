/* The shim: see core/clone/shim.h.  A shared library of its own, of which each interpreter has a copy.
 *
 * Knows no Python and links with nothing but the C library.  Every function is called from a clone's code, in
 * whatever thread and thread state that is in.
 *
 *   shim.c           Python's functions
 *   shim_threads.c   threads, what is called when they end, how many there should be
 *   shim_waits.c     where threads wait
 *   shim_dl.c        the dynamic linker's
 *   shim_keeps.c     what the C library would keep of a clone's: functions to be called at the end, signal handlers, memory
 *   shim_streams.c   its streams, which may lead into a clone
 *   shim_options.c   reading a command line
 */
#include "shim/shim_internal.h"

const atoll_shim *shim;

EXPORT void atoll_shim_bind(const atoll_shim *calls);
EXPORT void atoll_shim_bind(const atoll_shim *calls) { shim = calls; }

/* ---- Python's ---- */

EXPORT int atoll_PyGILState_Ensure(void);
EXPORT int atoll_PyGILState_Ensure(void) { return shim->ensure(shim->owner); }

EXPORT void atoll_PyGILState_Release(int state);
EXPORT void atoll_PyGILState_Release(int state) { shim->release(shim->owner, state); }

EXPORT int atoll_PyGILState_Check(void);
EXPORT int atoll_PyGILState_Check(void) { return shim->check(shim->owner); }

EXPORT void *atoll_PyGILState_GetThisThreadState(void);
EXPORT void *atoll_PyGILState_GetThisThreadState(void) { return shim->this_thread_state(shim->owner); }

EXPORT int atoll_Py_AddPendingCall(int (*function)(void *), void *arg);
EXPORT int atoll_Py_AddPendingCall(int (*function)(void *), void *arg) {
    return shim->add_pending_call(shim->owner, function, arg);
}

EXPORT void *atoll_PyInterpreterState_Main(void);
EXPORT void *atoll_PyInterpreterState_Main(void) { return shim->main_interpreter(shim->owner); }

EXPORT void *atoll_PyInterpreterView_FromMain(void);
EXPORT void *atoll_PyInterpreterView_FromMain(void) { return shim->main_view(shim->owner); }

EXPORT void atoll_PyInterpreterView_Close(void *view);
EXPORT void atoll_PyInterpreterView_Close(void *view) { shim->view_close(shim->owner, view); }

EXPORT int atoll_Py_AtExit(void (*function)(void));
EXPORT int atoll_Py_AtExit(void (*function)(void)) { return shim->at_exit(shim->owner, function); }

EXPORT int atoll_Py_IsInitialized(void);
EXPORT int atoll_Py_IsInitialized(void) { return shim->is_initialized(shim->owner); }

EXPORT int atoll_Py_IsFinalizing(void);
EXPORT int atoll_Py_IsFinalizing(void) { return shim->is_finalizing(shim->owner); }

/* Its name before it became public, in 3.13. */
EXPORT int atoll__Py_IsFinalizing(void);
EXPORT int atoll__Py_IsFinalizing(void) { return shim->is_finalizing(shim->owner); }

EXPORT void *atoll_PyModule_Create2(void *definition, int version);
EXPORT void *atoll_PyModule_Create2(void *definition, int version) {
    return shim->module_create(shim->owner, definition, version);
}

EXPORT void *atoll_PyModule_FromDefAndSpec2(void *definition, void *spec, int version);
EXPORT void *atoll_PyModule_FromDefAndSpec2(void *definition, void *spec, int version) {
    return shim->module_from(shim->owner, definition, spec, version);
}

EXPORT void *atoll_PyModule_FromSlotsAndSpec(const void *slots, void *spec);
EXPORT void *atoll_PyModule_FromSlotsAndSpec(const void *slots, void *spec) {
    return shim->module_from_slots(shim->owner, slots, spec);
}

/* Pointers to functions that CPython calls when it reads from a terminal, set by readline and tkinter.  The process has one
 * of each, and it must not lead into a clone: clones get variables that nobody looks at. */
EXPORT void *atoll_PyOS_ReadlineFunctionPointer;
EXPORT void *atoll_PyOS_InputHook;

EXPORT int atoll_PyThread_tss_create(void *key);
EXPORT int atoll_PyThread_tss_create(void *key) { return shim->tss_create(shim->owner, key); }

EXPORT void atoll_PyThread_tss_delete(void *key);
EXPORT void atoll_PyThread_tss_delete(void *key) { shim->tss_delete(shim->owner, key); }

EXPORT void atoll_PyThread_tss_free(void *key);
EXPORT void atoll_PyThread_tss_free(void *key) { shim->tss_free(shim->owner, key); }
