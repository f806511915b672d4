/* When a new interpreter imports the module `site`: see site.c. */
#ifndef ATOLL_PY_INTERP_SITE_H
#define ATOLL_PY_INTERP_SITE_H

#include "py/compat.h"

#include <stdbool.h>

/* One interpreter's making, on the thread that makes it. */
typedef struct atoll_site {
    struct atoll_site *outer;
    bool seen;     /* the new interpreter has begun to run */
    bool deferred; /* it does not import site by itself */
    bool unwanted; /* nobody is to import it */
} atoll_site;

/* Attached, before the first: finds out whether it can be done. */
void atoll_site_prove(void);
/* Around Py_NewInterpreterFromConfig(), with no thread state attached before. */
void atoll_site_begin(atoll_site *site, bool unwanted);
void atoll_site_end(const atoll_site *site);
/* An interpreter takes an arena: called on its thread, attached or not. */
void atoll_site_on_arena(void);
/* Attached to the new interpreter, after end(): imports site, if that was put off.  0, or -1 with an exception: also when CPython has
 * imported it though it is unwanted. */
int atoll_site_import(const atoll_site *site);

#endif
