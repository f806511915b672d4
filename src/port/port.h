/* The porting contract: all that Atoll asks of an operating system.
 *
 * No function here touches Python.  A mutex is not recursive and must not be held while Python code runs or a GIL is
 * awaited.  ARCHITECTURE.md lists all locks, and which are taken with another one held; port's own are leaves.
 */
#ifndef ATOLL_PORT_H
#define ATOLL_PORT_H

#include <pthread.h>
#include <signal.h>
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

/* A file descriptor that select() and its like find readable while it is set; -1 (errno) when there is none.  Where the program has closed it
 * and has a file under its number, that is left alone. */
int atoll_event_new(void);
void atoll_event_set(int fd, bool value);
void atoll_event_free(int fd);
/* In a forked child: makes fd an event of its own, not set, instead of its parent's. */
void atoll_event_renew(int fd);

/* Memory in large pages where the system has them, for what is written all at once: aligned to a page, NULL when there is
 * none.  free() takes it back. */
void *atoll_map_large(size_t size);
/* Address space, in pages: reserved, without memory, aligned to 2 MiB, as much of `wanted` bytes as can be had but not less than `least`
 * (*size says how much; NULL: nothing); then used in parts, whose bytes are zero; made read-only; given back, reserved as before.  0 or -1. */
void *atoll_map_reserve(size_t wanted, size_t least, size_t *size);
int atoll_map_use(void *at, size_t size);
int atoll_map_protect(void *at, size_t size);
int atoll_map_empty(void *at, size_t size);
/* How many pages of memory the machine has. */
size_t atoll_page_total(void);
/* Zero-filled pages, which the system provides when they are first touched; large ones where there are many.  NULL when there are none. */
void *atoll_map_zeroed(size_t size);

/* Memory under a name in the system, which all processes of the user's that open it share: a file without a path, which stays until it
 * is removed.  A name has no slash and at most 254 bytes. */
typedef enum {
    ATOLL_SHM_EITHER, /* find it, else make it */
    ATOLL_SHM_MAKE,   /* EEXIST when there is one */
    ATOLL_SHM_FIND    /* ENOENT when there is none */
} atoll_shm_way;
typedef struct {
    uint64_t device, inode;
} atoll_shm_id;
typedef struct {
    void *data;
    size_t size; /* what was asked for, or all that it has */
    bool made;
    atoll_shm_id id;
} atoll_shm;
/* 0 or an errno code; ENODATA: it has no size, because whoever makes it has not got so far; EAGAIN: its pages are being reserved. */
int atoll_shm_open(const char *name, atoll_shm_way way, size_t size, atoll_shm *out);
/* Removes the name if it leads to that memory.  0 or an errno code; ENOENT: it does not. */
int atoll_shm_remove(const char *name, const atoll_shm_id *id);

/* Pages that other processes of the same user find, as /proc/PID/fd/FD, a file in memory that is called `name` there and has no other; where
 * the system has none, pages of this process, and fd is -1.  Zero-filled.  0 or -1. */
typedef struct {
    void *data;
    size_t size;
    int fd;
    atoll_shm_id id;
} atoll_page;
int atoll_page_make(const char *name, size_t size, atoll_page *out);
/* In a forked child: makes it pages of its own, at the same address, in which only these parts are as they were, the rest is 0. As far
 * as memory goes: when there is none, the child sees the parent's. */
typedef struct {
    size_t at;
    size_t size;
} atoll_page_part;
void atoll_page_renew(const char *name, atoll_page *page, const atoll_page_part *parts, size_t count);

/* Bytes that nobody can guess, or at the very start of the system nearly nobody. */
void atoll_random(void *bytes, size_t size);

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
/* Nanoseconds on it. */
uint64_t atoll_clock_ns(void);
/* The same, a few milliseconds late at most, for a fraction of the cost. */
double atoll_clock_coarse(void);
uint64_t atoll_clock_coarse_ns(void);
/* Nanoseconds of processor time that the calling thread has had. */
uint64_t atoll_thread_cpu_ns(void);
/* Of another thread of the process, by its number; 0 when it is gone. */
uint64_t atoll_thread_cpu_ns_of(int thread);
/* A count that the processors of a machine have in common and that goes on at one rate, in a few nanoseconds, where there is one; else
 * nanoseconds on the clock. */
static inline uint64_t atoll_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return atoll_clock_ns();
#endif
}
/* So many have passed since.  Nothing orders the processor's reading of the count with what it does before and after, nor do all machines' processors
 * quite agree: what another thread, or the one that moved, has just read may be a little more than what is read here. */
static inline uint64_t atoll_ticks_since(uint64_t began) {
    uint64_t now = atoll_ticks();
    return now > began ? now - began : 0;
}
/* How many nanoseconds a tick is: the longer the process has run the more exact, 1 % at the very beginning. */
double atoll_tick_ns(void);
void atoll_sleep(double seconds);
/* Gives up the processor to another runnable thread. */
void atoll_yield(void);

/* What a thread that runs anybody's code needs: numeric libraries keep megabytes on the stack. */
#define ATOLL_STACK_LEAST ((size_t)8 * 1024 * 1024)
#define ATOLL_STACK_ASKED                                                                                    \
    (ATOLL_STACK_LEAST + (size_t)64 * 1024) /* the C library takes its guard page from it */
/* The bytes of stack that a thread gets when nobody says how many: RLIMIT_STACK's when the process began, 2 MiB when that was
 * unlimited. */
size_t atoll_thread_stack_default(void);
/* The end of the calling thread's stack: who finds himself in [low, low + margin) must go no deeper.  Nothing (margin 0)
 * where it cannot be had. */
typedef struct {
    uintptr_t low;
    size_t margin;
} atoll_stack_end;
atoll_stack_end atoll_thread_stack_end(void);
static inline bool atoll_stack_is_short(const atoll_stack_end *end) {
    return (uintptr_t)__builtin_frame_address(0) - end->low < end->margin;
}
/* Which signals a thread has blocked.  What it starts, threads and processes, has the same blocked. */
typedef sigset_t atoll_signal_mask;
void atoll_signal_mask_get(atoll_signal_mask *mask);
void atoll_signal_mask_set(const atoll_signal_mask *mask);
/* Starts a detached thread with all signals blocked (a thread that runs users' code sets its mask itself) and at least ATOLL_STACK_LEAST
 * and `stack` bytes of stack, where so much address space is to be had. 0 or -1. */
int atoll_thread_start(void (*run)(void *), void *arg, size_t stack);
/* Names the calling thread, for debuggers and top; a name that is too long is cut. */
void atoll_thread_name(const char *name);
/* How the system has it; "" where it has none. */
void atoll_thread_name_get(char *name, size_t size);
/* Never returns: parks the calling thread until the process ends. */
_Noreturn void atoll_thread_park(void);
/* True on the thread that the process started with (in a forked child: the one that forked). */
bool atoll_thread_is_main(void);

/* Calls destroy(value) when a thread that called atoll_thread_at_exit(key, value) ends.  One value per key and thread.  0 or -1. */
typedef pthread_key_t atoll_thread_key;
int atoll_thread_key_init(atoll_thread_key *key, void (*destroy)(void *));
void atoll_thread_at_exit(atoll_thread_key key, void *value);

/* Runs `take` before a fork and `give` after it, in the parent and in the child. */
void atoll_at_fork(void (*take)(void), void (*give_parent)(void), void (*give_child)(void));

/* The same as one function for each part that has a lock. */
typedef enum { ATOLL_FORK_BEFORE, ATOLL_FORK_PARENT, ATOLL_FORK_CHILD } atoll_fork_moment;
/* Takes a leaf before the fork, so that what it guards is whole in the child, which gets a new one. */
static inline void atoll_mutex_fork(atoll_mutex *m, atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_mutex_lock(m);
    } else if (when == ATOLL_FORK_PARENT) {
        atoll_mutex_unlock(m);
    } else {
        atoll_mutex_init(m);
    }
}

/* Runs init() once in the process, whichever thread comes first, also in a child that was forked meanwhile. */
typedef pthread_once_t atoll_once;
#define ATOLL_ONCE_INIT PTHREAD_ONCE_INIT
static inline void atoll_once_run(atoll_once *once, void (*init)(void)) { pthread_once(once, init); }

/* ---- shared libraries and the files they are loaded from ---- */

/* Whether an errno code says that the process, or the system, has no more memory or descriptors at the moment: nothing that has to do with
 * what was asked for. */
bool atoll_file_is_lack(int error);

/* What tells one state of a file from another: a file that was replaced or written to has another one. */
typedef struct {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds; /* of the last change of its content */
} atoll_file_id;
bool atoll_file_same(const atoll_file_id *one, const atoll_file_id *other);

/* Opens a regular file for reading; -1 (errno; EISDIR and EINVAL for what is no regular file). */
int atoll_file_open(const char *path, atoll_file_id *id);
void atoll_file_close(int fd);
/* Whether the process can open another file: 0, or EMFILE or ENFILE. */
int atoll_file_shortage(void);
/* The file of a descriptor under a number that is none of the standard streams': where one of these is closed, what is opened next
 * has its number, and who writes to the stream writes into it.  Closes the other number.  -1 (errno), also for -1. */
int atoll_fd_above_streams(int fd);
/* What that would open: 0, or -1 as it. */
int atoll_file_identify(const char *path, atoll_file_id *id);
/* The same for a directory, whatever changes in it: ENOTDIR for what is none. */
int atoll_directory_identify(const char *path, atoll_file_id *id);
/* The absolute path of a file; malloc, or NULL (errno). */
char *atoll_file_absolute(const char *path);
/* Opens a regular file for writing, made when there is none, which no other does meanwhile that opens it so; its content stays.  -1 (errno;
 * EWOULDBLOCK: it is open so, EISDIR and EINVAL for what is no regular file).  The lock goes with the last descriptor, also a forked
 * child's. */
int atoll_file_open_output(const char *path, atoll_file_id *id);
/* Whether the descriptor still is of that file, whatever is in it by now: the program may have closed it, and have another file under its
 * number. */
bool atoll_file_is(int fd, const atoll_file_id *id);
/* Cuts it to so many bytes.  0 or -1 (errno). */
int atoll_file_cut(int fd, uint64_t size);
/* All of it, or -1 (errno). */
int atoll_file_write(int fd, const void *bytes, size_t size, uint64_t offset);
/* Copies the first `size` bytes of one file to the start of another; the file system may share them.  0 or -1. */
int atoll_file_copy(int from, int to, uint64_t size);

/* A file mapped read-only and private; NULL (errno).  An empty file is EINVAL.  The mapping outlives the file;
 * reading what a file no longer has, because it was truncated after that, is SIGBUS. */
const void *atoll_map_file(const char *path, size_t *size);
const void *atoll_map_fd(int fd, size_t size);
void atoll_unmap(const void *bytes, size_t size);
/* Maps `size` bytes of the file at `offset` over the pages at `address`, private, readable and, when
 * asked for, executable.  All three are multiples of the page size.  0 or -1 (errno). */
int atoll_map_over(void *address, size_t size, int fd, uint64_t offset, bool executable);
size_t atoll_page_size(void);
/* For each of so many pages from `address` on: whether it is the process's own copy, not a page of a file.  0, or -1 where the
 * system does not tell. */
int atoll_pages_own(const void *address, size_t count, bool *own);
/* Takes the content of whole pages out of a file and gives back their memory, where the file system can. */
void atoll_file_punch(int fd, uint64_t offset, uint64_t size);

/* A place for a file that is soon to be loaded and then removed: a directory of its own (mode 0700), on a file
 * system that lets code be executed, or memory (memfd) where there is none. */
typedef struct {
    char *directory; /* NULL: memory */
    unsigned place;  /* which of those that are tried in turn; memory is the last */
    struct atoll_scratch_name *made;
} atoll_scratch;
/* Holds the lock of what is known of directories while the process is forked. */
void atoll_scratch_fork(atoll_fork_moment when);
/* 0 or -1 (errno).  `serial` makes its name unique in this process, for ever. */
int atoll_scratch_open(atoll_scratch *scratch, unsigned serial);
/* This place does not take what it was opened for (it is full, say): removes it and opens the next one.  -1: there is none. */
int atoll_scratch_move(atoll_scratch *scratch, unsigned serial);
/* A new file in it, open for reading and writing; its path (malloc), to be given to the dynamic linker, or
 * NULL (errno).  A file in memory can be opened as long as *fd is open; no other file ever has its path. */
char *atoll_scratch_file(atoll_scratch *scratch, const char *name, int *fd);
/* Removes the directory and the files that were made in it, which needs neither memory nor descriptors.  What is loaded stays loaded. */
void atoll_scratch_close(atoll_scratch *scratch);

/* Keeps threads out of the dynamic linker while the process is forked; waits for those that are inside, but not for long. */
void atoll_dl_fork(atoll_fork_moment when);

/* The dynamic linker.  Errors: a text of its own, in `why`. */
typedef enum {
    ATOLL_DL_DEEPBIND = 1, /* own symbols first */
    ATOLL_DL_PIN = 2,      /* never unload */
    ATOLL_DL_GLOBAL = 4,   /* what is loaded later finds its symbols; not for atoll_dl_open() */
    ATOLL_DL_LOADED = 8,   /* only if it is loaded already; not for atoll_dl_open() */
    ATOLL_DL_LAZY = 16,    /* functions are bound when they are first called */
} atoll_dl_flags;
/* The system's own flags, as far as they are among these. */
int atoll_dl_flags_of(int native_flags);
/* The system's flags, with the one that has everything bound at once. */
int atoll_dl_mode_now(int native_flags);
void *atoll_dl_open(const char *path, int flags, char *why, size_t why_size);
/* The same with the system's own flags. */
void *atoll_dl_open_as(const char *path, int native_flags, char *why, size_t why_size);
void atoll_dl_close(void *handle);
void *atoll_dl_symbol(void *handle, const char *name);
/* The size of the object that a loaded library exports at this address; 0: it is not known. */
size_t atoll_dl_symbol_size(const void *address);
/* A handle of a library that is loaded under this name or path (to be closed); NULL: none is. */
void *atoll_dl_loaded(const char *name);
/* Whether a library is loaded from this very path; no file is looked at. */
bool atoll_dl_is_loaded(const char *path);
/* Calls visit() with the path of each library that is loaded, which must not load or unload any. */
void atoll_dl_each(void (*visit)(const char *path, void *context), void *context);
/* Where a library is loaded and the path it was loaded from (owned by the dynamic linker; "" for the program). */
uintptr_t atoll_dl_base(void *handle, const char **path);
/* From where to where it is loaded; false: it is not known. */
bool atoll_dl_extent(void *handle, uintptr_t *low, uintptr_t *high);
/* The same file by an absolute path, whatever the current directory was when it was loaded; malloc, or NULL (errno): it is the program, or
 * nobody knows. */
char *atoll_dl_file(void *handle);
/* A directory, or a list of them, in which `$ORIGIN` or `${ORIGIN}` stands for the directory of `file`; other variables stay.
 * malloc, or NULL when out of memory. */
char *atoll_dl_expand(const char *text, size_t length, const char *file);
/* The path of the library that would be loaded for a NEEDED name: looked for in `rpath` (unless there is a
 * `runpath`; both are lists with colons, $ORIGIN already expanded, may be NULL, and are those of the library that needs
 * it), LD_LIBRARY_PATH as it was at the start, `runpath`, the system's cache and the default directories, as the dynamic linker does.
 * malloc, or NULL (errno): ENOENT when there is none, else what kept it from being looked for (atoll_file_is_lack()).  That it may already be
 * loaded under that name is not looked at. */
char *atoll_dl_find(const char *name, const char *rpath, const char *runpath);
/* The words from `start` on that are whole in `size` bytes: *end is behind the last. */
const uintptr_t *atoll_data_words(const void *start, size_t size, const uintptr_t **end);
/* The first from `word` to before `end` whose value is one of `width` from `lowest` on, or `end`; *value is what it was.  Other threads may
 * write there meanwhile. */
const uintptr_t *atoll_data_next(const uintptr_t *word, const uintptr_t *end, uintptr_t lowest, size_t width,
                                 uintptr_t *value);
/* Whether the page of this address can be read. */
bool atoll_data_is_readable(const void *address);
/* Where in `size` bytes a word is that is looked for, or NULL. */
typedef const uintptr_t *atoll_data_search(const void *start, size_t size, void *context);
/* Whether look() finds a word in a writable segment of what is loaded, the program included (its path is empty), or in what it has for the
 * calling thread (thread_local): of each for whose path wants(path, context) is true, or of all when that is NULL.  Words that are as the file has them, constants that nobody has written, do not count.
 * Nothing is loaded or unloaded meanwhile, so neither function must want to. */
bool atoll_dl_any_data(bool (*wants)(const char *path, void *context), atoll_data_search *look,
                       void *context);
/* Calls a library's constructor as the dynamic linker does, with the program's argc, argv and environment. */
void atoll_dl_construct(void (*function)(void));

/* The addresses of the process's signal handlers, as many as there are signals; 0 and 1 stand for none. */
enum { ATOLL_SIGNALS = 65 };
void atoll_signal_handlers(uintptr_t handlers[ATOLL_SIGNALS]);

/* A signal to one of this process's threads: there the functions that listen are called, with the handler's context
 * (ucontext_t), from a signal handler.  listen(): false where the signal is somebody else's.  poke(): false when
 * no such thread is left.  allow(): the calling thread does not block the signal.  See linux/poke.c. */
typedef void (*atoll_poke_listener)(void *context);
bool atoll_poke_listen(atoll_poke_listener listener);
bool atoll_poke(int thread);
void atoll_poke_allow(void);

/* Makes a thread of this process that is inside a system call come back from it, as by a signal, and when it then calls one of
 * these functions (int f(void)), call another one in its place, once: true.  False: that cannot be had, or did not happen
 * within some seconds, or go_on() became false.  Blocks meanwhile, on any other thread.  Not to be done for what need not be:
 * see linux/redirect.c. */
enum { ATOLL_REDIRECTIONS = 2 };
typedef struct {
    uintptr_t function[ATOLL_REDIRECTIONS];
    uintptr_t instead[ATOLL_REDIRECTIONS];
} atoll_redirection;
bool atoll_redirect(int thread, const atoll_redirection *redirection, bool (*go_on)(void));
void atoll_redirect_arrived(
    void); /* on any thread: if it is the one that is led, it has got there by another way */
void atoll_redirect_after_fork(void);
/* The number that the system knows the calling thread by; that of the process's first thread, or the one that forked. */
int atoll_thread_number(void);
int atoll_thread_main_number(void);

/* Writes a text to the process's standard error and ends it at once, as a signal handler may. */
_Noreturn void atoll_exit_abandon(const char *text, int status);
/* Ends the process at once: no exit handlers, no destructors. */
_Noreturn void atoll_exit_process(int status);

#endif
