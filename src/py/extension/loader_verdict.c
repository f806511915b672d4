/* Which extension modules are initialised from their files: loader.c says why.
 *
 * The verdict about a file is the process's, found again by the file's identity, so that asking costs one system call.
 * Atoll's own library is never cloned, under whatever name it is imported: its lists and locks are the process's.
 *
 * Locks: `verdicts_lock` is a leaf.
 */
#include "py/extension/loader_internal.h"

#include "port/port.h"

#include <stdlib.h>
#include <string.h>

static const char *own_file; /* set once, by the first import of Atoll, as is the next */
static atoll_file_id own_id;

void atoll_verdict_file_set_own(const char *library) {
    if (own_file == NULL && atoll_file_identify(library, &own_id) == 0) {
        own_file = library;
    }
}

typedef enum { UNKNOWN, FROM_CLONE, FROM_FILE } origin;

typedef struct verdict {
    struct verdict *next;
    atoll_file_id id;
    origin from;
} verdict;

static atoll_mutex verdicts_lock = ATOLL_MUTEX_INIT;
static verdict *verdicts;

void atoll_verdicts_fork(atoll_fork_moment when) { atoll_mutex_fork(&verdicts_lock, when); }

static origin known_verdict(const atoll_file_id *id) {
    origin known = UNKNOWN;
    atoll_mutex_lock(&verdicts_lock);
    for (const verdict *v = verdicts; v != NULL; v = v->next) {
        if (atoll_file_same(&v->id, id)) {
            known = v->from;
            break;
        }
    }
    atoll_mutex_unlock(&verdicts_lock);
    return known;
}

static void add_verdict(const atoll_file_id *id, origin from) {
    verdict *v = malloc(sizeof *v);
    if (v != NULL) {
        *v = (verdict){.id = *id, .from = from};
        atoll_mutex_lock(&verdicts_lock);
        v->next = verdicts;
        verdicts = v;
        atoll_mutex_unlock(&verdicts_lock);
    }
}

/* Also when the file has been replaced since it was loaded: what is loaded counts. */
const char *atoll_verdict_file_own(const char *file) {
    atoll_file_id id;
    bool own = own_file != NULL && (strcmp(file, own_file) == 0 ||
                                    (atoll_file_identify(file, &id) == 0 && atoll_file_same(&id, &own_id)));
    return own ? own_file : NULL;
}

int atoll_verdict_file_keep_own(atoll_clones *clones) {
    return own_file == NULL ? 0 : atoll_clones_add_original(clones, own_file, &own_id);
}

/* Whether what a module has is the process's on purpose, and it keeps nothing of Python's, by reading; it has to declare support as well.
 * setproctitle's own finds the arguments in the process's memory by walking back from its environment, and moves that to have room
 * for the title: a second copy would find nothing, and set nothing. */
static bool is_for_process(const atoll_module_info *info) {
    const char *dot = strrchr(info->full, '.');
    return strcmp(dot != NULL ? dot + 1 : info->full, "_setproctitle") == 0;
}

/* Where the module is to be loaded from.  One whose file cannot be read is the clone's loader's, which says why. */
static origin look_at(const atoll_module_info *info) {
    atoll_file_id id;
    if ((!atoll_extension_is_standard(info) && !is_for_process(info)) ||
        atoll_file_identify(info->file, &id) != 0) {
        return FROM_CLONE;
    }
    origin from = known_verdict(&id);
    atoll_elf elf;
    atoll_elf_error why;
    if (from == UNKNOWN && atoll_elf_open(&elf, info->file, &why) == 0) {
        from = atoll_verdict_file_may_declare(&elf, info) && !atoll_verdict_file_must_clone(&elf)
                   ? FROM_FILE
                   : FROM_CLONE;
        atoll_elf_close(&elf);
        add_verdict(&id, from);
    }
    return from;
}

bool atoll_extension_may_declare(const atoll_module_info *info) {
    atoll_elf elf;
    atoll_elf_error why;
    if (atoll_elf_open(&elf, info->file, &why) != 0) {
        return false;
    }
    bool may = atoll_verdict_file_may_declare(&elf, info);
    atoll_elf_close(&elf);
    return may;
}

bool atoll_extension_from_file(const atoll_module_info *info) {
    return atoll_verdict_file_own(info->file) != NULL || look_at(info) == FROM_FILE;
}
