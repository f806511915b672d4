/* What comes with a package: what lies below a directory that modules are imported from (clones.h).
 *
 * For an extension module that is the directory it was found in, which its caller says for as long as it is loaded.  A library that
 * somebody opens later has none: for it, the set has a list of all such directories that its owner knows of, and the library is in one of
 * their packages when a directory between says that it is one.  (Modules of a package are executed in each interpreter, and give its
 * libraries the state that they need.  A library that lies beside a script is the script's, which is executed once; and a script may lie
 * anywhere, in /usr, too.)  What counts is which directory it is, not how it is spelled, as packages resolve links in the paths of their
 * files; only the path of the library itself is taken as it is.
 *
 * Ownership: the list is the set's.  Threads: as loading (set.c).
 */
#include "core/clone/clones.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether the file is in a directory such as wheels have for the libraries that they bring; those that are made with cmeel (Pinocchio's)
 * have one for all of them, and their modules in a directory below it. */
static bool is_in_libs(const char *file) {
    static const char ending[] = ".libs";
    const char *slash = strrchr(file, '/');
    size_t length = slash != NULL ? (size_t)(slash - file) : 0;
    return strstr(file, "/cmeel.prefix/lib") != NULL ||
           (length > sizeof ending && memcmp(slash - (sizeof ending - 1), ending, sizeof ending - 1) == 0);
}

/* Whatever `..` is in its path. */
bool atoll_clones_is_packaged(const atoll_clones *set, const char *file) {
    size_t length = set->root != NULL ? strlen(set->root) : 0;
    if (is_in_libs(file)) {
        return true;
    }
    if (length == 0 || strncmp(file, set->root, length) != 0 || file[length] != '/') {
        return false;
    }
    long depth = 0;
    for (const char *part = file + length; *part != '\0' && depth >= 0;) {
        part += strspn(part, "/");
        size_t size = strcspn(part, "/");
        bool up = size == 2 && strncmp(part, "..", 2) == 0;
        depth += up ? -1 : size > 0 && !(size == 1 && *part == '.');
        part += size;
    }
    return depth > 0;
}

/* By its name (NULL: none) too: it may have been made anew since. */
static bool is_root(const atoll_clones *set, const char *directory, const atoll_file_id *id) {
    for (size_t i = 0; i < set->nroots; i++) {
        if (atoll_file_same(&set->roots[i].id, id) ||
            (directory != NULL && strcmp(set->roots[i].file, directory) == 0)) {
            return true;
        }
    }
    return false;
}

/* They mostly come in the order in which they are, all of them each time: each is looked for behind the one before it. */
static bool is_listed(atoll_clones *set, const char *directory) {
    for (size_t i = 0; i < set->nroots; i++) {
        size_t at = (set->root_next + i) % set->nroots;
        if (strcmp(set->roots[at].file, directory) == 0) {
            set->root_next = at + 1;
            return true;
        }
    }
    return false;
}

void atoll_clones_add_root(atoll_clones *set, const char *directory) {
    atoll_file_id id;
    /* One that is meant by where the process is may be another one by now. */
    bool relative = directory[0] != '/';
    if ((!relative && is_listed(set, directory)) ||
        atoll_directory_identify(directory[0] != '\0' ? directory : ".", &id) != 0 ||
        (relative && is_root(set, NULL, &id))) {
        return;
    }
    atoll_original *roots = realloc(set->roots, (set->nroots + 1) * sizeof *roots);
    if (roots == NULL) {
        return; /* what lies below it is not taken for a package's: shared */
    }
    set->roots = roots;
    char *own = strdup(directory);
    if (own != NULL) {
        roots[set->nroots++] = (atoll_original){own, id};
    }
}

/* Whether a directory says that it is a package. */
static bool is_package(const char *directory) {
    static const char *const files[] = {"__init__.py", "__init__.pyc"};
    bool found = false;
    for (size_t i = 0; !found && i < sizeof files / sizeof *files; i++) {
        char *file;
        atoll_file_id id;
        if (asprintf(&file, "%s/%s", directory, files[i]) < 0) {
            break;
        }
        found = atoll_file_identify(file, &id) == 0;
        free(file);
    }
    return found;
}

char *atoll_clones_root_of(const atoll_clones *set, const char *file) {
    char *root = set->nroots != 0 ? strdup(file) : NULL;
    bool packaged = false;
    for (char *slash; root != NULL && (slash = strrchr(root, '/')) != NULL && slash != root;) {
        atoll_file_id id;
        *slash = '\0';
        if (packaged && atoll_directory_identify(root, &id) == 0 && is_root(set, root, &id)) {
            return root;
        }
        packaged = packaged || is_package(root);
    }
    free(root);
    return NULL;
}
