/* getopt() and its like for clones (shim.c).
 *
 * The C library has one state of it for the process: where it is in which arguments.  Programs that were made modules, samtools in pysam
 * say, read a command line with it in each call, two interpreters at once; and what it was given last it looks at once more when it is
 * called the next time, by whomever, though that may have gone with a clone.  So the clones of an interpreter have a state of their own.
 *
 * It does what glibc's does.  Arguments that are no options are put behind the options, unless the text of options begins with `+`, or
 * POSIXLY_CORRECT is set; with `-` they are told as options of the number 1.  [first, last) are those that have been passed over and not yet been put
 * behind.
 */
#include "shim/shim_internal.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EXPORT char *atoll_optarg;
EXPORT int atoll_optind = 1;
EXPORT int atoll_opterr = 1;
EXPORT int atoll_optopt = '?';

static char *next; /* in a group of short options; NULL or empty: the next argument */
static int first;
static int last;
static bool begun;
static enum { PERMUTE, STOP, IN_ORDER } order;

typedef struct {
    int argc;
    char **argv;
    const char *shorts;
    const struct option *longs; /* NULL: none */
    int *which;                 /* of those, or NULL */
    bool by_one_dash;           /* they may begin with one dash */
    bool silent;
    int missing; /* what is returned where an argument is missing */
} command;

static void reverse(char **from, char **to) {
    for (; from < to; from++) {
        char *one = *from;
        *from = *--to;
        *to = one;
    }
}

/* Those passed over go behind the options that came after them. */
static void put_behind(char **argv) {
    int options = atoll_optind - last;
    reverse(argv + first, argv + last);
    reverse(argv + last, argv + atoll_optind);
    reverse(argv + first, argv + atoll_optind);
    first += options;
    last = atoll_optind;
}

static void pass_over(char **argv) {
    if (first != last && last != atoll_optind) {
        put_behind(argv);
    } else if (last != atoll_optind) {
        first = atoll_optind;
    }
}

static bool is_option(const char *argument) { return argument[0] == '-' && argument[1] != '\0'; }

/* The one with this name, or the only one that begins so; NULL: none, or several (`many`). */
static const struct option *find(const command *c, size_t length, bool *many) {
    const struct option *found = NULL;
    *many = false;
    for (const struct option *o = c->longs; o->name != NULL; o++) {
        if (strncmp(o->name, next, length) != 0) {
            continue;
        }
        if (strlen(o->name) == length) {
            *many = false;
            return o;
        }
        *many |= found != NULL && (c->by_one_dash || found->has_arg != o->has_arg || found->flag != o->flag ||
                                   found->val != o->val);
        found = found != NULL ? found : o;
    }
    return *many ? NULL : found;
}

/* The long option at `next`, which this stands before in the argument; -1: it may be short ones. */
static int read_long(const command *c, const char *dashes, bool or_short) {
    size_t length = strcspn(next, "=");
    bool many;
    const struct option *o = find(c, length, &many);
    if (o == NULL && !many && or_short && strchr(c->shorts, *next) != NULL) {
        return -1;
    }
    const char *name = next;
    char *value = next[length] == '=' ? next + length + 1 : NULL;
    int failed = '?';
    const char *why = NULL;
    next = NULL;
    atoll_optind++;
    atoll_optopt = o != NULL ? o->val : 0;
    if (o == NULL) {
        why = many ? "is ambiguous" : "is not known";
    } else if (value != NULL && o->has_arg == no_argument) {
        why = "doesn't allow an argument";
    } else if (value == NULL && o->has_arg == required_argument) {
        value = atoll_optind < c->argc ? c->argv[atoll_optind++] : NULL;
        failed = c->missing;
        why = value == NULL ? "requires an argument" : NULL;
    }
    if (why != NULL) {
        if (!c->silent) {
            (void)fprintf(stderr, "%s: option '%s%s' %s\n", c->argv[0], dashes, o != NULL ? o->name : name,
                          why);
        }
        return failed;
    }
    atoll_optarg = value;
    if (c->which != NULL) {
        *c->which = (int)(o - c->longs);
    }
    if (o->flag != NULL) {
        *o->flag = o->val;
        return 0;
    }
    return o->val;
}

static int read_short(const command *c) {
    char letter = *next++;
    const char *known = letter != ':' && letter != ';' ? strchr(c->shorts, letter) : NULL;
    if (*next == '\0') {
        atoll_optind++;
    }
    if (known == NULL) {
        atoll_optopt = (unsigned char)letter;
        if (!c->silent) {
            (void)fprintf(stderr, "%s: invalid option -- '%c'\n", c->argv[0], letter);
        }
        return '?';
    }
    bool is_long = letter == 'W' && known[1] == ';' && c->longs != NULL; /* -W name: as --name */
    if (known[1] != ':' && !is_long) {
        return (unsigned char)letter;
    }
    bool here = *next != '\0';
    if (here || (known[1] == ':' && known[2] == ':')) {
        atoll_optarg = here ? next : NULL;
        atoll_optind += here;
    } else if (atoll_optind < c->argc) {
        atoll_optarg = c->argv[atoll_optind++];
    } else {
        atoll_optopt = (unsigned char)letter;
        if (!c->silent) {
            (void)fprintf(stderr, "%s: option requires an argument -- '%c'\n", c->argv[0], letter);
        }
        next = NULL;
        return c->missing;
    }
    next = is_long ? atoll_optarg : NULL;
    if (is_long) {
        atoll_optind--; /* of which reading it takes one */
        atoll_optarg = NULL;
        return read_long(c, "-W ", false);
    }
    return (unsigned char)letter;
}

/* The place of the next option, or -1 at the end; or 1, with an argument that is none. */
static int go_on(const command *c) {
    last = last > atoll_optind ? atoll_optind : last;
    first = first > atoll_optind ? atoll_optind : first;
    if (order == PERMUTE) {
        pass_over(c->argv);
        while (atoll_optind < c->argc && !is_option(c->argv[atoll_optind])) {
            atoll_optind++;
        }
        last = atoll_optind;
    }
    if (atoll_optind < c->argc && strcmp(c->argv[atoll_optind], "--") == 0) {
        atoll_optind++;
        if (first != last && last != atoll_optind) {
            put_behind(c->argv);
        } else if (first == last) {
            first = atoll_optind;
        }
        last = atoll_optind = c->argc;
    }
    if (atoll_optind >= c->argc) {
        atoll_optind = first != last ? first : atoll_optind;
        return -1;
    }
    if (!is_option(c->argv[atoll_optind])) {
        if (order == STOP) {
            return -1;
        }
        atoll_optarg = c->argv[atoll_optind++];
        return 1;
    }
    return 0;
}

static int parse(command *c, bool posix) {
    if (c->argc < 1) {
        return -1;
    }
    atoll_optarg = NULL;
    char begins = c->shorts[0];
    if (atoll_optind == 0 || !begun) {
        atoll_optind = atoll_optind == 0 ? 1 : atoll_optind;
        first = last = atoll_optind;
        next = NULL;
        begun = true;
        order = begins == '-'                                                 ? IN_ORDER
                : begins == '+' || posix || getenv("POSIXLY_CORRECT") != NULL ? STOP
                                                                              : PERMUTE;
    }
    c->shorts += begins == '-' || begins == '+';
    c->silent = atoll_opterr == 0 || c->shorts[0] == ':';
    c->missing = c->shorts[0] == ':' ? ':' : '?';
    if (next == NULL || *next == '\0') {
        int found = go_on(c);
        if (found != 0) {
            return found;
        }
        char *argument = c->argv[atoll_optind];
        bool is_double = argument[1] == '-';
        if (c->longs != NULL && (is_double || (c->by_one_dash && (argument[2] != '\0' ||
                                                                  strchr(c->shorts, argument[1]) == NULL)))) {
            next = argument + 1 + is_double;
            int option = read_long(c, is_double ? "--" : "-", !is_double);
            if (option != -1) {
                return option;
            }
        }
        next = argument + 1;
    }
    return read_short(c);
}

EXPORT int atoll_getopt(int argc, char *const *argv, const char *shorts);
EXPORT int atoll_getopt(int argc, char *const *argv, const char *shorts) {
    command c = {.argc = argc, .argv = (char **)(uintptr_t)argv, .shorts = shorts};
    return parse(&c, false);
}

EXPORT int atoll___posix_getopt(int argc, char *const *argv, const char *shorts);
EXPORT int atoll___posix_getopt(int argc, char *const *argv, const char *shorts) {
    command c = {.argc = argc, .argv = (char **)(uintptr_t)argv, .shorts = shorts};
    return parse(&c, true);
}

EXPORT int atoll_getopt_long(int argc, char *const *argv, const char *shorts, const struct option *longs,
                             int *which);
EXPORT int atoll_getopt_long(int argc, char *const *argv, const char *shorts, const struct option *longs,
                             int *which) {
    command c = {
        .argc = argc, .argv = (char **)(uintptr_t)argv, .shorts = shorts, .longs = longs, .which = which};
    return parse(&c, false);
}

EXPORT int atoll_getopt_long_only(int argc, char *const *argv, const char *shorts, const struct option *longs,
                                  int *which);
EXPORT int atoll_getopt_long_only(int argc, char *const *argv, const char *shorts, const struct option *longs,
                                  int *which) {
    command c = {.argc = argc,
                 .argv = (char **)(uintptr_t)argv,
                 .shorts = shorts,
                 .longs = longs,
                 .which = which,
                 .by_one_dash = true};
    return parse(&c, false);
}
