/* A fuzzer for what tells where libraries are (libFuzzer): the dynamic linker's cache, and lists of directories.
 *
 * The cache is a block of exactly its size, so that AddressSanitizer sees a read one byte behind it.  Files are not looked at:
 * in this program there are none.
 */
#include "core/clone/clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const void *__wrap_atoll_map_file(const char *path, size_t *size);
void __wrap_atoll_unmap(const void *bytes, size_t size);
int __wrap_atoll_file_open(const char *path, atoll_file_id *id);

static const uint8_t *cache;
static size_t cache_size;

static void require(bool condition, const char *what) {
    if (!condition) {
        (void)fprintf(stderr, "fuzz_find: %s\n", what);
        abort();
    }
}

const void *__wrap_atoll_map_file(const char *path, size_t *size) {
    (void)path;
    uint8_t *bytes = cache_size > 0 ? malloc(cache_size) : NULL;
    if (bytes != NULL) {
        memcpy(bytes, cache, cache_size);
    }
    *size = cache_size;
    return bytes;
}

void __wrap_atoll_unmap(const void *bytes, size_t size) {
    (void)size;
    free((void *)(uintptr_t)bytes);
}

int __wrap_atoll_file_open(const char *path, atoll_file_id *id) {
    (void)id;
    require(strlen(path) < SIZE_MAX, "a path without an end");
    errno = ENOENT;
    return -1;
}

/* The next part of the input, up to a NUL, as a string of its own. */
static char *take(const uint8_t **at, const uint8_t *end) {
    const uint8_t *stop = memchr(*at, '\0', (size_t)(end - *at));
    size_t length = (size_t)((stop != NULL ? stop : end) - *at);
    char *text = malloc(length + 1);
    require(text != NULL, "no memory");
    memcpy(text, *at, length);
    text[length] = '\0';
    *at = stop != NULL ? stop + 1 : end;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *at = data;
    char *name = take(&at, data + size);
    char *list = take(&at, data + size);
    char *file = take(&at, data + size);
    cache = at;
    cache_size = (size_t)(data + size - at);
    char *path = atoll_clone_search_path(list, file);
    require(path != NULL, "no memory");
    require(strncmp(path, ":", 1) != 0 && strstr(path, "::") == NULL, "a directory without a name");
    char *again = atoll_clone_search_path(path, file);
    require(again != NULL && (strstr(file, "ORIGIN") != NULL || strstr(list, "$ORIGIN$") != NULL ||
                              strcmp(again, path) == 0),
            "directories change once more");
    require(atoll_dl_find(name, path, NULL) == NULL, "a library that is nowhere");
    require(atoll_dl_find(name, NULL, list) == NULL, "a library that is nowhere");
    (void)atoll_name_is_system(name);
    (void)atoll_name_keeps_nothing(name);
    free(again);
    free(path);
    free(file);
    free(list);
    free(name);
    return 0;
}
