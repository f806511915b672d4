/* What the clones of one interpreter have of the system: threads, and what is to be called when a thread ends.
 *
 * All of that outlives an interpreter: a thread goes on in a clone's code, and when any thread ends, the destructors of keys
 * (pthread_key_create) and of C++'s thread_local objects are called.  So clones call the functions here instead of the
 * system's (core/clone/shim.h), and are unloaded only when no thread of theirs is left and no destructor can run any more.
 *
 * A thread is counted from before it is started until the last of its destructors has run. Those that only wait
 * for something to do can be ended: native_threads.c.
 *
 * thread_local objects are destroyed by the C library, where it can, in their order among all of the thread's: before the
 * destructors of any key, the last made first.  Each is on a list of the thread's own as well, so that the thread which
 * ends the natives can destroy its own before that.  Whoever ends the natives sets `over`, then waits for destructors that
 * run; a thread that is about to run one counts itself, then looks at `over`.  The destructors of keys are called through
 * native_keys.c, for the same reason.  What has not run by then never does: the object's memory is lost, which is
 * better than code that is gone.  On the process's main thread, which ends with the process, they do not run.
 *
 *   operation x operation    thread_create    key_create, key_delete    a thread ends       end
 *   thread_create            atomic count     independent               independent         by the caller: none is left
 *   key_create, key_delete                    the lock                  independent         the lock
 *   a thread ends                                                       its own list        `over` and `running`
 *
 * Locks: `lock` guards the lists of keys and of threads, native_keys.c has another one for its table; leaves.
 */
#ifndef ATOLL_CORE_CLONE_NATIVES_H
#define ATOLL_CORE_CLONE_NATIVES_H

#include "port/port.h"

#include <stddef.h>

/* Allocated, and counted: each object on a thread's list has a reference. */
typedef struct {
    _Atomic(long) refs;
    _Atomic(long) threads; /* that run, or will */
    _Atomic(long) running; /* destructors of thread_local objects */
    _Atomic(bool) over;
    _Atomic(bool) ending; /* threads leave where they wait */
    atoll_mutex lock;
    struct atoll_counted_thread *listed; /* the threads that have begun */
    pthread_key_t *keys;
    size_t nkeys; /* without a destructor; those that have one are on a list of the process: native_keys.c */
    size_t room;
} atoll_natives;

/* NULL: out of memory. */
atoll_natives *atoll_natives_new(void);
void atoll_natives_release(atoll_natives *natives);

/* Holds the lock of the table of keys while the process is forked, and that of these natives (or NULL). */
void atoll_natives_fork(atoll_natives *natives, atoll_fork_moment when);

/* As pthread_create(). */
int atoll_natives_thread(atoll_natives *natives, pthread_t *thread, const pthread_attr_t *attributes,
                         void *(*run)(void *), void *arg);
/* The same where somebody else starts it: `start` is given a function and what that wants, and says whether a thread will call it. */
bool atoll_natives_thread_by(atoll_natives *natives,
                             bool (*start)(void (*begin)(void *), void *thread, void *context), void *context,
                             void *(*run)(void *), void *arg);
/* As libstdc++'s function of that purpose: takes over *state, a std::thread::_State.  `scope` is the handle of what was
 * loaded with it, which may be a wheel's own; NULL: what everybody sees. */
void atoll_natives_std_thread(atoll_natives *natives, void *scope, void *thread, void **state,
                              void (*depend)(void));

/* What a clone's thread calls about a call that waits, and in which it holds nothing but what is the clone's.  Either may
 * not return: the thread ends. */
void atoll_natives_wait_begins(void);
void atoll_natives_wait_ends(void);
/* And when it has changed which signals it blocks: the one that ends it must not be among them. */
void atoll_natives_signals_changed(void);
/* Whether every thread waits in such a call, or there is none, now or within so many seconds. */
bool atoll_natives_threads_wait(atoll_natives *natives, double seconds);
/* Ends the threads that wait, and each that comes to do so within so many seconds; whether none is left.  `over` is set. */
bool atoll_natives_threads_end(atoll_natives *natives, double seconds);
/* Whether the calling thread is one that has been ended so: nothing of a clone's is to run on it. */
bool atoll_natives_thread_was_ended(void);
/* Once in the process; whether it succeeded. */
bool atoll_natives_threads_init(void);

/* As __cxa_thread_atexit(): destroy(object) when this thread ends.  0, or -1 when out of memory. */
int atoll_natives_at_thread_end(atoll_natives *natives, void (*destroy)(void *), void *object);
/* Destroys those of the calling thread now, as if it ended. */
void atoll_natives_thread_end(atoll_natives *natives);

/* As the pthread functions of these names. */
int atoll_natives_key_create(atoll_natives *natives, pthread_key_t *key, void (*destroy)(void *));
int atoll_natives_key_delete(atoll_natives *natives, pthread_key_t key);
/* For keys that were made or deleted by other means. 0, or ENOMEM. */
int atoll_natives_key_add(atoll_natives *natives, pthread_key_t key);
void atoll_natives_key_remove(atoll_natives *natives, pthread_key_t key);
/* What end() does with the keys: deletes them, so that no destructor begins; whether none runs any more. */
void atoll_natives_keys_end(atoll_natives *natives);
bool atoll_natives_keys_ended(atoll_natives *natives);
/* All threads wait.  Ends them, deletes all keys and waits for destructors that run; none is called after that.  false: a
 * thread or a destructor does not come to its end.  A clone that is unloaded then may delete its keys once more. */
bool atoll_natives_end(atoll_natives *natives);

#endif
