/* See libraries.h. */
#include "libraries.h"

#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Held while the dynamic linker loads or unloads.  It has a lock of its own, but ThreadSanitizer does not see that: it
 * would take a library that is loaded where another one was for the same memory. */
static atoll_mutex linker = ATOLL_MUTEX_INIT;

uint8_t *file_read(const char *path, size_t *size) {
    const void *bytes = atoll_map_file(path, size);
    uint8_t *copy = bytes != NULL ? malloc(*size) : NULL;
    if (copy == NULL) {
        test_failed(__FILE__, __LINE__, "%s cannot be read: %s", path, strerror(errno));
    } else {
        memcpy(copy, bytes, *size);
    }
    atoll_unmap(bytes, *size);
    return copy;
}

char *file_make(atoll_scratch *scratch, const char *name, const void *bytes, size_t size) {
    int fd;
    char *path = atoll_scratch_file(scratch, name, &fd);
    if (path == NULL || atoll_file_write(fd, bytes, size, 0) != 0) {
        test_failed(__FILE__, __LINE__, "%s cannot be written: %s", name, strerror(errno));
        free(path);
        path = NULL;
    }
    if (fd >= 0) {
        atoll_file_close(fd);
    }
    return path;
}

static bool load(loaded_clone *c, const char *path, const atoll_elf_edit *edit) {
    c->fd = -1;
    if (atoll_elf_open(&c->elf, path, &c->why) != 0) {
        test_failed(__FILE__, __LINE__, "%s: %s", path, c->why.text);
        return false;
    }
    c->path = atoll_scratch_file(&c->scratch, edit->soname, &c->fd);
    if (c->path == NULL) {
        test_failed(__FILE__, __LINE__, "%s: %s", edit->soname, strerror(errno));
        return false;
    }
    if (atoll_elf_write_clone(&c->elf, c->fd, edit, &c->clone, &c->why) != 0) {
        test_failed(__FILE__, __LINE__, "%s: %s", path, c->why.text);
        return false;
    }
    atoll_mutex_lock(&linker);
    c->handle = atoll_dl_open(c->path, 0, c->dl_why, sizeof c->dl_why);
    atoll_mutex_unlock(&linker);
    if (c->handle == NULL) {
        return false;
    }
    const char *name;
    c->base = atoll_dl_base(c->handle, &name);
    return true;
}

bool clone_load(loaded_clone *c, const char *path, const atoll_elf_edit *edit) {
    static atomic_uint serial;
    *c = (loaded_clone){.fd = -1};
    if (atoll_scratch_open(&c->scratch, atomic_fetch_add(&serial, 1)) != 0) {
        test_failed(__FILE__, __LINE__, "no place for files: %s", strerror(errno));
        return false;
    }
    return load(c, path, edit);
}

bool clone_load_in_memory(loaded_clone *c, const char *path, const atoll_elf_edit *edit) {
    *c = (loaded_clone){.fd = -1};
    return load(c, path, edit);
}

bool clone_start(loaded_clone *c) {
    if (atoll_elf_share(&c->elf, c->base, &c->clone, &c->why) != 0) {
        test_failed(__FILE__, __LINE__, "%s: %s", c->path, c->why.text);
        return false;
    }
    if (c->clone.init != 0) {
        atoll_dl_construct((void (*)(void))(c->base + c->clone.init));
    }
    for (size_t i = 0; i < c->clone.init_count; i++) {
        atoll_dl_construct(((void (**)(void))(c->base + c->clone.init_array))[i]);
    }
    return true;
}

void clone_close(loaded_clone *c) {
    if (c->handle != NULL) {
        atoll_mutex_lock(&linker);
        atoll_dl_close(c->handle);
        atoll_mutex_unlock(&linker);
    }
    if (c->fd >= 0) {
        atoll_file_close(c->fd);
    }
    free(c->clone.dirty);
    free(c->path);
    atoll_scratch_close(&c->scratch);
    if (c->elf.path != NULL) {
        atoll_elf_close(&c->elf);
    }
    *c = (loaded_clone){.fd = -1};
}

int call_int(void *handle, const char *name) {
    int (*function)(void) = (int (*)(void))(uintptr_t)atoll_dl_symbol(handle, name);
    if (function == NULL) {
        test_failed(__FILE__, __LINE__, "there is no function %s", name);
        return -1;
    }
    return function();
}
