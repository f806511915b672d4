/* The functions in which a thread of a clone's waits (shim.c, core/clone/native_threads.c), and those that change which signals it
 * blocks. */
#include "shim/shim_internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* Where a thread waits, it may be made to leave: between the two calls it must hold nothing that is not the clone's.  So what
 * is called there is bound when the shim is loaded, which its link options say. */
#define WAITING(type, call)                                                                                  \
    shim->wait_begins();                                                                                     \
    type result_ = (call);                                                                                   \
    shim->wait_ends();                                                                                       \
    return result_

EXPORT int atoll_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
EXPORT int atoll_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    WAITING(int, pthread_cond_wait(condition, mutex));
}

EXPORT int atoll_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                        const struct timespec *until);
EXPORT int atoll_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                        const struct timespec *until) {
    WAITING(int, pthread_cond_timedwait(condition, mutex, until));
}

/* Younger than the oldest C library that there is a wheel for, and so perhaps not in its headers: who asks for them has them.
 * NOLINTBEGIN(readability-redundant-declaration, readability-inconsistent-declaration-parameter-name) */
extern int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until) __attribute__((weak));
extern int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
    __attribute__((weak));
/* NOLINTEND(readability-redundant-declaration, readability-inconsistent-declaration-parameter-name) */

EXPORT int atoll_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                        const struct timespec *until);
EXPORT int atoll_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                        const struct timespec *until) {
    WAITING(int, pthread_cond_clockwait(condition, mutex, clock, until));
}

EXPORT int atoll_cnd_wait(cnd_t *condition, mtx_t *mutex);
EXPORT int atoll_cnd_wait(cnd_t *condition, mtx_t *mutex) { WAITING(int, cnd_wait(condition, mutex)); }

EXPORT int atoll_cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until);
EXPORT int atoll_cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    WAITING(int, cnd_timedwait(condition, mutex, until));
}

EXPORT int atoll_sem_wait(sem_t *semaphore);
EXPORT int atoll_sem_wait(sem_t *semaphore) { WAITING(int, sem_wait(semaphore)); }

EXPORT int atoll_sem_timedwait(sem_t *semaphore, const struct timespec *until);
EXPORT int atoll_sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    WAITING(int, sem_timedwait(semaphore, until));
}

EXPORT int atoll_sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until);
EXPORT int atoll_sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    WAITING(int, sem_clockwait(semaphore, clock, until));
}

EXPORT int atoll_poll(struct pollfd *files, nfds_t count, int timeout);
EXPORT int atoll_poll(struct pollfd *files, nfds_t count, int timeout) {
    WAITING(int, poll(files, count, timeout));
}

EXPORT int atoll_ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
                       const sigset_t *mask);
EXPORT int atoll_ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
                       const sigset_t *mask) {
    WAITING(int, ppoll(files, count, timeout, mask));
}

EXPORT int atoll_select(int count, fd_set *to_read, fd_set *to_write, fd_set *urgent,
                        struct timeval *timeout);
EXPORT int atoll_select(int count, fd_set *to_read, fd_set *to_write, fd_set *urgent,
                        struct timeval *timeout) {
    WAITING(int, select(count, to_read, to_write, urgent, timeout));
}

EXPORT int atoll_epoll_wait(int file, struct epoll_event *events, int most, int timeout);
EXPORT int atoll_epoll_wait(int file, struct epoll_event *events, int most, int timeout) {
    WAITING(int, epoll_wait(file, events, most, timeout));
}

EXPORT int atoll_epoll_pwait(int file, struct epoll_event *events, int most, int timeout,
                             const sigset_t *mask);
EXPORT int atoll_epoll_pwait(int file, struct epoll_event *events, int most, int timeout,
                             const sigset_t *mask) {
    WAITING(int, epoll_pwait(file, events, most, timeout, mask));
}

EXPORT int atoll_nanosleep(const struct timespec *time, struct timespec *left);
EXPORT int atoll_nanosleep(const struct timespec *time, struct timespec *left) {
    WAITING(int, nanosleep(time, left));
}

EXPORT int atoll_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                                 struct timespec *left);
EXPORT int atoll_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                                 struct timespec *left) {
    WAITING(int, clock_nanosleep(clock, flags, time, left));
}

EXPORT int atoll_usleep(useconds_t time);
EXPORT int atoll_usleep(useconds_t time) { WAITING(int, usleep(time)); }

EXPORT unsigned atoll_sleep(unsigned seconds);
EXPORT unsigned atoll_sleep(unsigned seconds) { WAITING(unsigned, sleep(seconds)); }

EXPORT int atoll_pause(void);
EXPORT int atoll_pause(void) { WAITING(int, pause()); }

/* What spins waits as well: OpenCV's threads do so before they sleep. */
EXPORT int atoll_sched_yield(void);
EXPORT int atoll_sched_yield(void) { WAITING(int, sched_yield()); }

EXPORT int atoll_pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
EXPORT int atoll_pthread_sigmask(int how, const sigset_t *set, sigset_t *before) {
    int rc = pthread_sigmask(how, set, before);
    shim->signals_changed();
    return rc;
}

EXPORT int atoll_sigprocmask(int how, const sigset_t *set, sigset_t *before);
EXPORT int atoll_sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    int rc = sigprocmask(how, set, before);
    int error = errno;
    shim->signals_changed();
    errno = error;
    return rc;
}

/* Rust, and C++20's atomics, wait in a futex that they ask the system for themselves.  What has fewer arguments than six gets
 * whatever is where they would be, as from the C library. */
EXPORT long atoll_syscall(long number, ...);
EXPORT long atoll_syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(list, long);
    }
    va_end(list);
    long operation = a[1] & FUTEX_CMD_MASK;
    if (number == SYS_futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET)) {
        WAITING(long, syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* C++'s condition variable is the system's, and a lock of it begins with a pointer to its mutex, which is the
 * system's, too: the header of libstdc++ has all waits with a time in it, which rely on that. */
typedef struct {
    pthread_mutex_t *mutex;
} std_lock;

EXPORT void std_wait(pthread_cond_t *condition, std_lock *lock) __asm__("atoll_" ATOLL_SHIM_STD_WAIT);
EXPORT void std_wait(pthread_cond_t *condition, std_lock *lock) {
    (void)atoll_pthread_cond_wait(condition, lock->mutex);
}
