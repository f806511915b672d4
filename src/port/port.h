/* The porting contract: all that Atoll asks of an operating system.
 *
 * No function here touches Python.  A mutex is not recursive and must not be held
 * while Python code runs or a GIL is awaited: every lock of Atoll's is a leaf lock
 * except the lifecycle lock, which port knows nothing about.
 */
#ifndef ATOLL_PORT_PORT_H
#define ATOLL_PORT_PORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef pthread_mutex_t atoll_mutex;
#define ATOLL_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER

static inline void atoll_mutex_init(atoll_mutex *m) { pthread_mutex_init(m, NULL); }
static inline void atoll_mutex_lock(atoll_mutex *m) { pthread_mutex_lock(m); }
static inline void atoll_mutex_unlock(atoll_mutex *m) { pthread_mutex_unlock(m); }

/* A condition on the monotonic clock, always used with one mutex. */
typedef pthread_cond_t atoll_cond;
void atoll_cond_init(atoll_cond *c);
static inline void atoll_cond_wait(atoll_cond *c, atoll_mutex *m) { pthread_cond_wait(c, m); }
/* false when `seconds` have passed without a wake-up. */
bool atoll_cond_wait_for(atoll_cond *c, atoll_mutex *m, double seconds);
static inline void atoll_cond_broadcast(atoll_cond *c) { pthread_cond_broadcast(c); }

/* Sleeping on a word of memory, as Linux's futex does.  wait() sleeps while *word is `expected`, until a wake(), a
 * signal, or `deadline` (seconds on the monotonic clock; INFINITY: none).  It may also return OK without a
 * reason.  wake() wakes at most `count` threads of this process and never reads *word, which may be gone. */
typedef enum { ATOLL_WAIT_OK, ATOLL_WAIT_TIMEOUT, ATOLL_WAIT_SIGNAL } atoll_wait_result;
atoll_wait_result atoll_word_wait(_Atomic(uint32_t) *word, uint32_t expected, double deadline);
void atoll_word_wake(_Atomic(uint32_t) *word, int count);

/* A file descriptor that select() and its like find readable while it is set; -1 (errno) when there is none. */
int atoll_event_new(void);
void atoll_event_set(int fd, bool value);
void atoll_event_free(int fd);
/* In a forked child: makes fd an event of its own, not set, instead of its parent's. */
void atoll_event_renew(int fd);

/* How many processors this process may use. */
int atoll_cpu_count(void);
/* The number of the processor that this thread runs on, just now; 0 when that is not to be had. */
unsigned atoll_cpu_current(void);
/* Tells the processor that this thread spins. */
static inline void atoll_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* Seconds on the monotonic clock. */
double atoll_clock(void);
void atoll_sleep(double seconds);
/* Gives up the processor to another runnable thread. */
void atoll_yield(void);

/* Starts a detached thread with all signals blocked (signals belong to Python's main thread). 0 or -1. */
int atoll_thread_start(void (*run)(void *), void *arg);
/* Never returns: parks the calling thread until the process ends. */
_Noreturn void atoll_thread_park(void);
/* True on the thread that the process started with (in a forked child: the one that forked). */
bool atoll_thread_is_main(void);

/* Calls destroy(value) when a thread that called atoll_thread_at_exit(value) ends.  One value per thread. */
int atoll_thread_exit_init(void (*destroy)(void *));
void atoll_thread_at_exit(void *value);

/* Runs in a forked child, before anything else of Atoll's. */
void atoll_at_fork_child(void (*run)(void));
/* Runs `take` before a fork and `give` after it, in the parent and in the child. */
void atoll_at_fork(void (*take)(void), void (*give_parent)(void), void (*give_child)(void));

/* Ends the process at once: no exit handlers, no destructors. */
_Noreturn void atoll_process_exit(int status);

#endif
