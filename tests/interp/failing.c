/* Preloaded by tests/interp/test_no_memory.py: memory that atoll._atoll asks for itself runs out.
 *
 * Not what CPython asks for through its allocators, which Atoll wraps: the wrappers are named to failing_exclude().  Of the others'
 * calls the one that is numbered in failing_arm() fails.  After failing_objects() it is of those that ask CPython for an object.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static uintptr_t base, code, code_end;
static uintptr_t excluded[32][2];
static size_t excluded_count;
static _Atomic(long) calls, hits;
static _Atomic(long) failing = -1;

static int find(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    for (int i = 0; info->dlpi_name != NULL && strstr(info->dlpi_name, "/_atoll.") && i < info->dlpi_phnum;
         i++) {
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            base = info->dlpi_addr;
            code = base + info->dlpi_phdr[i].p_vaddr;
            code_end = code + info->dlpi_phdr[i].p_memsz;
        }
    }
    return 0;
}

void failing_exclude(uintptr_t first, uintptr_t size) {
    excluded[excluded_count][0] = first;
    excluded[excluded_count++][1] = first + size;
}

/* From now on: call number n fails. */
void failing_arm(long n) {
    dl_iterate_phdr(find, NULL);
    calls = hits = 0;
    failing = n;
}

/* Whether it has. */
long failing_disarm(void) {
    failing = -1;
    return hits;
}

static int fails(void *caller) {
    uintptr_t at = (uintptr_t)caller;
    if (failing < 0 || at < code || at >= code_end) {
        return 0;
    }
    for (size_t i = 0; i < excluded_count; i++) {
        if (at - base >= excluded[i][0] && at - base <= excluded[i][1]) {
            return 0;
        }
    }
    if (calls++ != failing) {
        return 0;
    }
    hits++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

char *strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

/* ---- objects: the table of functions that PyMem_SetAllocator() takes, which never changes ---- */

typedef struct {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *old, size_t size);
    void (*free)(void *context, void *old);
} allocator;

extern void PyMem_GetAllocator(int domain, allocator *out) __attribute__((weak));
extern void PyMem_SetAllocator(int domain, allocator *in) __attribute__((weak));

enum { OBJECTS = 2 }; /* PYMEM_DOMAIN_OBJ */

static allocator objects;
static _Thread_local long failing_object =
    -1; /* of the thread that has armed it: other interpreters have the same allocators */

static int object_fails(void) {
    if (failing_object < 0 || calls++ != failing_object) {
        return 0;
    }
    hits++;
    return 1;
}

static void *object_malloc(void *context, size_t size) {
    return object_fails() ? NULL : objects.malloc(context, size);
}

static void *object_calloc(void *context, size_t count, size_t size) {
    return object_fails() ? NULL : objects.calloc(context, count, size);
}

static void *object_realloc(void *context, void *old, size_t size) {
    return object_fails() ? NULL : objects.realloc(context, old, size);
}

void failing_objects(void) {
    PyMem_GetAllocator(OBJECTS, &objects);
    allocator ours = {objects.context, object_malloc, object_calloc, object_realloc, objects.free};
    PyMem_SetAllocator(OBJECTS, &ours);
}

void failing_arm_objects(long n) {
    calls = hits = 0;
    failing_object = n;
}

long failing_disarm_objects(void) {
    failing_object = -1;
    return hits;
}
