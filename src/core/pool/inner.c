/* The threads that libraries start for themselves, while pools work.
 *
 * OpenBLAS, BLIS and MKL divide one operation among as many threads as there are processors.  When every worker of a pool does so, there
 * are far more threads than processors, and each waits for the others: so while a worker works they get its share of
 * the processors, as joblib does it for its processes.  Whoever works says so (begin, end) and looks for such libraries when it has loaded
 * something; between workers of several pools the smallest number counts.  No library gets more threads than it had, and when nobody
 * works any more each has what it had.
 *
 * OpenBLAS and BLIS have one number for the process, so what main does with them meanwhile is divided less, too.  MKL has one for each
 * thread, as OpenMP runtimes have, which is set on the worker's thread and ends with it.
 *
 * Only libraries that all interpreters share: a clone of one has threads of its own.
 *
 * Lock: `lock`, around the lists; libraries are called with it held, and call nobody.  Nothing is asked of the dynamic linker with it
 * held, which a fork stops first.  Fork: a child has no workers, and no threads of libraries either: it starts with what is set.
 */
#include "core/pool/pool.h"

#include "port/port.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 8 }; /* libraries: a process has one or two */

typedef int get_count(void);
typedef void set_count(int count);
typedef int set_local(int count);

/* How libraries are called, and their functions.  MKL's says what was set. */
static const struct kind {
    const char *begins;
    const char *get;
    const char *set;
    const char *set_here;
    bool local; /* its number is one thread's, not the process's */
} kinds[] = {
    {"libopenblas", "openblas_get_num_threads", "openblas_set_num_threads", NULL, false},
    {"libopenblas", "openblas_get_num_threads64_", "openblas_set_num_threads64_", NULL, false},
    {"libscipy_openblas", "scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads", NULL, false},
    {"libscipy_openblas", "scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_", NULL,
     false},
    {"libblis", "bli_thread_get_num_threads", "bli_thread_set_num_threads", NULL, false},
    {"libmkl_rt", "MKL_Get_Max_Threads", NULL, "MKL_Set_Num_Threads_Local", true},
    {"libgomp", "omp_get_max_threads", "omp_set_num_threads", NULL, true},
    {"libomp", "omp_get_max_threads", "omp_set_num_threads", NULL, true},
    {"libiomp5", "omp_get_max_threads", "omp_set_num_threads", NULL, true},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct {
    void *handle;
    get_count *get;
    set_count *set; /* or */
    set_local *set_here;
    bool local;
    int before;
} library;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_inner *workers;
static library libraries[MOST]; /* with one number for the process, and what that was */
static int library_count;

/* ---- what is loaded ---- */

typedef struct {
    char *paths[MOST];
    int count;
} found;

static bool begins(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return strncmp(slash != NULL ? slash + 1 : path, name, strlen(name)) == 0;
}

static void visit(const char *path, void *context) {
    found *all = context;
    bool wanted = false;
    for (int i = 0; i < KINDS; i++) {
        wanted = wanted || begins(path, kinds[i].begins);
    }
    if (wanted && all->count < MOST) {
        all->paths[all->count] = strdup(path);
        all->count += all->paths[all->count] != NULL;
    }
}

static void *function_of(void *handle, const char *name) {
    return name != NULL ? atoll_dl_symbol(handle, name) : NULL;
}

/* With a handle of it, when its functions are as they should be. */
static bool open_library(const char *path, library *lib) {
    void *handle = atoll_dl_loaded(path);
    for (int i = 0; i < KINDS && handle != NULL; i++) {
        if (!begins(path, kinds[i].begins)) {
            continue;
        }
        *lib = (library){.handle = handle, .local = kinds[i].local};
        lib->get = (get_count *)(uintptr_t)function_of(handle, kinds[i].get);
        lib->set = (set_count *)(uintptr_t)function_of(handle, kinds[i].set);
        lib->set_here = (set_local *)(uintptr_t)function_of(handle, kinds[i].set_here);
        if (lib->get != NULL && (lib->set != NULL || lib->set_here != NULL)) {
            return true;
        }
    }
    if (handle != NULL) {
        atoll_dl_close(handle);
    }
    return false;
}

/* ---- what holds ---- */

static void set_number(const library *lib, int count) {
    if (lib->get() == count) {
        return;
    }
    if (lib->set != NULL) {
        lib->set(count);
    } else {
        (void)lib->set_here(count);
    }
}

static void apply_locked(void) {
    int most = INT32_MAX;
    for (const atoll_inner *worker = workers; worker != NULL; worker = worker->next) {
        most = worker->count < most ? worker->count : most;
    }
    for (int i = 0; i < library_count; i++) {
        set_number(&libraries[i], libraries[i].before < most ? libraries[i].before : most);
    }
}

/* True: it is in the list now, with its handle. */
static bool note_locked(const library *lib) {
    for (int i = 0; i < library_count; i++) {
        if (libraries[i].handle == lib->handle) {
            return false;
        }
    }
    if (lib->local || library_count == MOST) {
        return false;
    }
    libraries[library_count] = *lib;
    libraries[library_count++].before = lib->get();
    return true;
}

void atoll_inner_look(const atoll_inner *inner) {
    found all = {.count = 0};
    atoll_dl_each(visit, &all);
    for (int i = 0; i < all.count; i++) {
        library lib;
        bool usable = open_library(all.paths[i], &lib);
        free(all.paths[i]);
        if (!usable) {
            continue;
        }
        if (lib.local && lib.get() > inner->count) {
            set_number(&lib, inner->count);
        }
        atoll_mutex_lock(&lock);
        bool noted = note_locked(&lib);
        atoll_mutex_unlock(&lock);
        if (!noted) {
            atoll_dl_close(lib.handle);
        }
    }
    atoll_mutex_lock(&lock);
    apply_locked();
    atoll_mutex_unlock(&lock);
}

void atoll_inner_begin(atoll_inner *inner, int count) {
    *inner = (atoll_inner){.count = count};
    atoll_mutex_lock(&lock);
    inner->next = workers;
    workers = inner;
    atoll_mutex_unlock(&lock);
    atoll_inner_look(inner);
}

void atoll_inner_end(atoll_inner *inner) {
    library done[MOST];
    int done_count = 0;
    atoll_mutex_lock(&lock);
    atoll_inner **link = &workers;
    while (*link != NULL && *link != inner) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = inner->next;
        apply_locked();
    }
    while (workers == NULL && library_count > 0) {
        done[done_count++] = libraries[--library_count];
    }
    atoll_mutex_unlock(&lock);
    while (done_count > 0) {
        atoll_dl_close(done[--done_count].handle);
    }
}

void atoll_inner_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lock, when);
    if (when == ATOLL_FORK_CHILD) {
        workers = NULL;
        library_count = 0; /* their handles stay open */
    }
}
