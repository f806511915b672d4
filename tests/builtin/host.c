/* Makes an ordinary Python one whose extension modules are built in, as those are that link their modules statically.
 *
 *   LD_PRELOAD=builtin_host.so BUILTIN_MODULES=_datetime,pyexpat BUILTIN_DIRECTORY=lib-dynload python ...
 *
 * Before the program begins, the init functions of the named modules (`all`: of every file in that directory) go on the
 * list of built-in modules, as PyImport_AppendInittab() puts them there.  The files stay mapped and nothing else of them
 * is seen: no path, no file to clone.  What the program starts inherits the environment, and so is the same.  In a
 * program that has no Python nothing happens.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*append_function)(const char *name, void *(*init)(void));

static void fail(const char *what, const char *why) {
    fprintf(stderr, "builtin_host: %s: %s\n", what, why);
    _exit(99);
}

/* NAME.cpython-312-x86_64-linux-gnu.so in the directory. */
static void add(append_function append, const char *directory, const char *file, const char *name) {
    char path[4096];
    char symbol[256];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    snprintf(symbol, sizeof symbol, "PyInit_%s", name);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        fail(name, dlerror());
    }
    void *init = dlsym(library, symbol);
    if (init == NULL) {
        return; /* what has only the export function of 3.15 cannot be built in */
    }
    void *(*function)(void);
    memcpy(&function, &init, sizeof function);
    if (append(strdup(name), function) != 0) {
        fail(name, "no memory");
    }
}

static int is_wanted(const char *list, const char *name) {
    if (strcmp(list, "all") == 0) {
        return 1;
    }
    size_t length = strlen(name);
    for (const char *at = list; at != NULL && *at != '\0'; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0')) {
            return 1;
        }
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *list = getenv("BUILTIN_MODULES");
    const char *directory = getenv("BUILTIN_DIRECTORY");
    void *found = dlsym(RTLD_DEFAULT, "PyImport_AppendInittab");
    if (list == NULL || directory == NULL || found == NULL) {
        return;
    }
    append_function append;
    memcpy(&append, &found, sizeof append);
    DIR *entries = opendir(directory);
    if (entries == NULL) {
        fail(directory, "not a directory");
    }
    struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        char name[256];
        const char *dot = strchr(entry->d_name, '.');
        if (dot == NULL || dot == entry->d_name || strlen(entry->d_name) >= sizeof name ||
            strcmp(strrchr(entry->d_name, '.'), ".so") != 0) {
            continue;
        }
        memcpy(name, entry->d_name, (size_t)(dot - entry->d_name));
        name[dot - entry->d_name] = '\0';
        if (is_wanted(list, name)) {
            add(append, directory, entry->d_name, name);
        }
    }
    closedir(entries);
}
