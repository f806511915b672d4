/* port.h for Linux. */
#include "port/port.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void atoll_cond_init(atoll_cond *c) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

static struct timespec to_timespec(double seconds) {
    struct timespec ts = {.tv_sec = (time_t)seconds};
    ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
    return ts;
}

bool atoll_cond_wait_for(atoll_cond *c, atoll_mutex *m, double seconds) {
    struct timespec until = to_timespec(atoll_clock() + seconds);
    return pthread_cond_timedwait(c, m, &until) != ETIMEDOUT;
}

#define FOREVER 1e15 /* more seconds than a timespec needs to hold; the kernel refuses too many */

atoll_wait_result atoll_word_wait(_Atomic(uint32_t) *word, uint32_t expected, double deadline) {
    struct timespec until;
    bool limited = deadline < FOREVER;
    if (limited) {
        until = to_timespec(deadline > 0 ? deadline : 0);
    }
    /* _BITSET takes an absolute time, on the monotonic clock. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, limited ? &until : NULL, NULL,
                      FUTEX_BITSET_MATCH_ANY);
    if (rc == 0 || errno == EAGAIN) {
        return ATOLL_WAIT_OK;
    }
    return errno == ETIMEDOUT ? ATOLL_WAIT_TIMEOUT : ATOLL_WAIT_SIGNAL;
}

void atoll_word_wake(_Atomic(uint32_t) *word, int count) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Each event bears a mark that its file descriptions go on having: the signal that would tell of it, which nobody asks for.  Where there
 * are no marks (a sandbox), what counts is that it has no type, as all have none that are no files. */
enum { MARK = SIGPWR };
static _Atomic(bool) unmarked;

int atoll_event_new(void) {
    int fd = atoll_fd_above_streams(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (fd >= 0 && fcntl(fd, F_SETSIG, MARK) != 0) {
        atomic_store(&unmarked, true);
    }
    return fd;
}

/* Whether the number still is one of these: the program may have closed it, and have something of its own there. */
static bool is_event(int fd) {
    struct stat info;
    return atomic_load(&unmarked) ? fstat(fd, &info) == 0 && (info.st_mode & S_IFMT) == 0
                                  : fcntl(fd, F_GETSIG) == MARK;
}

void atoll_event_set(int fd, bool value) {
    eventfd_t count = 1;
    if (!is_event(fd)) {
        return;
    }
    if (value) {
        (void)eventfd_write(fd, count);
    } else {
        (void)eventfd_read(fd, &count);
    }
}

void atoll_event_free(int fd) {
    if (is_event(fd)) {
        (void)close(fd);
    }
}

void atoll_event_renew(int fd) {
    int fresh = is_event(fd) ? atoll_event_new() : -1;
    if (fresh >= 0) {
        (void)dup3(fresh, fd, O_CLOEXEC);
        (void)close(fresh);
    }
}

void *atoll_map_large(size_t size) {
    const size_t large = (size_t)2 * 1024 * 1024;
    void *memory = aligned_alloc(large, (size + large - 1) / large * large);
    if (memory != NULL) {
        (void)madvise(memory, size, MADV_HUGEPAGE);
    }
    return memory;
}

void *atoll_map_reserve(size_t wanted, size_t least, size_t *size) {
    const size_t large = (size_t)2 * 1024 * 1024;
    for (size_t n = wanted; n >= least; n /= 2) {
        char *at = mmap(NULL, n + large, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at != MAP_FAILED) {
            size_t before = (large - (uintptr_t)at % large) % large;
            if (before != 0) {
                (void)munmap(at, before);
            }
            if (before != large) {
                (void)munmap(at + before + n, large - before);
            }
            *size = n;
            return at + before;
        }
    }
    return NULL;
}

int atoll_map_use(void *at, size_t size) {
    const size_t large = (size_t)2 * 1024 * 1024;
    if (mprotect(at, size, PROT_READ | PROT_WRITE) < 0) {
        return -1;
    }
    if (size >= 2 * large) {
        (void)madvise(at, size, MADV_HUGEPAGE);
    }
    return 0;
}

int atoll_map_protect(void *at, size_t size) { return mprotect(at, size, PROT_READ); }

int atoll_map_empty(void *at, size_t size) {
    void *again = mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return again != MAP_FAILED ? 0 : -1;
}

size_t atoll_page_total(void) {
    long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 ? (size_t)pages : 0;
}

void atoll_random(void *bytes, size_t size) {
    if (getrandom(bytes, size, GRND_NONBLOCK) != (ssize_t)size) {
        uint64_t state =
            (uint64_t)(uintptr_t)&state ^ (uint64_t)(uintptr_t)bytes << 20 ^ (uint64_t)(atoll_clock() * 1e9);
        for (size_t i = 0; i < size; i++) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            ((uint8_t *)bytes)[i] = (uint8_t)(state >> 56);
        }
    }
}

int atoll_cpu_count(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

unsigned atoll_cpu_current(void) {
    int cpu = sched_getcpu();
    return cpu >= 0 ? (unsigned)cpu : 0;
}

double atoll_clock(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

uint64_t atoll_clock_ns(void) { return nanoseconds(CLOCK_MONOTONIC); }

uint64_t atoll_clock_coarse_ns(void) { return nanoseconds(CLOCK_MONOTONIC_COARSE); }

uint64_t atoll_thread_cpu_ns(void) { return nanoseconds(CLOCK_THREAD_CPUTIME_ID); }

/* The kernel's numbers of such clocks: the thread's, of the scheduler (2), of a thread (4). */
uint64_t atoll_thread_cpu_ns_of(int thread) {
    struct timespec now;
    clockid_t id = (clockid_t)((~(unsigned)thread << 3) | 6U);
    return clock_gettime(id, &now) == 0 ? (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec : 0;
}

static uint64_t first_ticks;
static uint64_t first_ns;

static void begin_ticks(void) {
    const uint64_t least = 20000; /* ns, after which a reading of the clock is exact enough */
    first_ns = atoll_clock_ns();
    first_ticks = atoll_ticks();
    while (atoll_clock_ns() - first_ns < least) {
        atoll_cpu_relax();
    }
}

double atoll_tick_ns(void) {
    static atoll_once once = ATOLL_ONCE_INIT;
    static _Atomic(uint64_t) next; /* in ticks: when it is to be measured again */
    static _Atomic(double) known;
    atoll_once_run(&once, begin_ticks);
    uint64_t ticks = atoll_ticks();
    if (ticks >= atomic_load_explicit(&next, memory_order_acquire)) {
        uint64_t since = ticks - first_ticks;
        double rate = since != 0 ? (double)(atoll_clock_ns() - first_ns) / (double)since : 1;
        atomic_store_explicit(&known, rate, memory_order_relaxed);
        /* The longer, the less it changes.  Whoever sees this sees a rate. */
        atomic_store_explicit(&next, ticks + since, memory_order_release);
    }
    return atomic_load_explicit(&known, memory_order_relaxed);
}

double atoll_clock_coarse(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

void atoll_sleep(double seconds) {
    struct timespec ts = to_timespec(seconds);
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR) {
    }
}

void atoll_yield(void) { sched_yield(); }

typedef struct {
    void (*run)(void *);
    void *arg;
} start_info;

static void *start_thread(void *raw) {
    start_info info = *(start_info *)raw;
    free(raw);
    info.run(info.arg);
    return NULL;
}

size_t atoll_thread_stack_default(void) {
    size_t size = 0;
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) == 0) {
        (void)pthread_attr_getstacksize(&attr, &size);
        pthread_attr_destroy(&attr);
    }
    return size;
}

void atoll_signal_mask_get(atoll_signal_mask *mask) { (void)pthread_sigmask(SIG_SETMASK, NULL, mask); }

void atoll_signal_mask_set(const atoll_signal_mask *mask) { (void)pthread_sigmask(SIG_SETMASK, mask, NULL); }

int atoll_thread_start(void (*run)(void *), void *arg, size_t stack) {
    start_info *info = malloc(sizeof *info);
    if (info == NULL) {
        return -1;
    }
    *info = (start_info){run, arg};
    /* The new thread inherits the mask, so no signal can slip in before it blocks them itself. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t usual = atoll_thread_stack_default();
    stack = stack > ATOLL_STACK_ASKED ? (stack + page - 1) / page * page : ATOLL_STACK_ASKED;
    /* What is asked for, what is needed, or else what there is. */
    const size_t sizes[] = {stack > usual ? stack : usual,
                            ATOLL_STACK_ASKED > usual ? ATOLL_STACK_ASKED : usual, usual};
    pthread_t thread;
    int failed = EAGAIN;
    for (size_t i = 0; failed != 0 && i < sizeof sizes / sizeof *sizes; i++) {
        failed = pthread_attr_setstacksize(&attr, sizes[i]);
        failed = failed == 0 ? pthread_create(&thread, &attr, start_thread, info) : failed;
    }
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        free(info);
        return -1;
    }
    return 0;
}

void atoll_thread_name(const char *name) {
    char cut[16]; /* as much as Linux keeps */
    strncpy(cut, name, sizeof cut - 1);
    cut[sizeof cut - 1] = '\0';
    (void)pthread_setname_np(pthread_self(), cut);
}

void atoll_thread_name_get(char *name, size_t size) {
    if (pthread_getname_np(pthread_self(), name, size) != 0) {
        name[0] = '\0';
    }
}

_Noreturn void atoll_thread_park(void) {
    for (;;) {
        pause();
    }
}

int atoll_thread_number(void) { return (int)syscall(SYS_gettid); }

int atoll_thread_main_number(void) { return (int)getpid(); }

atoll_stack_end atoll_thread_stack_end(void) {
    static _Thread_local struct {
        atoll_stack_end end;
        bool known;
    } mine;
    pthread_attr_t attr;
    if (!mine.known && pthread_getattr_np(pthread_self(), &attr) == 0) {
        void *low = NULL;
        size_t size = 0;
        if (pthread_attr_getstack(&attr, &low, &size) == 0) {
            /* Room for Python code that runs at the end of a deep structure, but not most of a small stack. */
            size_t margin = (size_t)256 * 1024;
            mine.end = (atoll_stack_end){(uintptr_t)low, size / 4 < margin ? size / 4 : margin};
        }
        pthread_attr_destroy(&attr);
    }
    mine.known = true;
    return mine.end;
}

/* Asked at each wait, so the answer is kept; a fork changes it for its thread, the only one that the child has. */
static _Thread_local enum { UNKNOWN, MAIN, NOT_MAIN } which_thread;

static void forget_which_thread(void) { which_thread = UNKNOWN; }

static void watch_forks(void) { (void)pthread_atfork(NULL, NULL, forget_which_thread); }

bool atoll_thread_is_main(void) {
    if (which_thread == UNKNOWN) {
        static atoll_once once = ATOLL_ONCE_INIT;
        atoll_once_run(&once, watch_forks);
        which_thread = syscall(SYS_gettid) == (long)getpid() ? MAIN : NOT_MAIN;
    }
    return which_thread == MAIN;
}

int atoll_thread_key_init(atoll_thread_key *key, void (*destroy)(void *)) {
    return pthread_key_create(key, destroy) == 0 ? 0 : -1;
}

void atoll_thread_at_exit(atoll_thread_key key, void *value) { pthread_setspecific(key, value); }

void atoll_at_fork(void (*take)(void), void (*give_parent)(void), void (*give_child)(void)) {
    pthread_atfork(take, give_parent, give_child);
}

_Noreturn void atoll_exit_process(int status) { _exit(status); }

_Noreturn void atoll_exit_abandon(const char *text, int status) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    _exit(written >= 0 ? status : status + 1);
}

void atoll_signal_handlers(uintptr_t handlers[ATOLL_SIGNALS]) {
    for (int number = 0; number < ATOLL_SIGNALS; number++) {
        struct sigaction action;
        /* Both kinds of handlers are in one place. */
        handlers[number] =
            number > 0 && sigaction(number, NULL, &action) == 0 ? (uintptr_t)action.sa_sigaction : 0;
    }
}
