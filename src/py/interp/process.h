/* What an interpreter takes from the process when it is made: see process.c. */
#ifndef ATOLL_PY_INTERP_PROCESS_H
#define ATOLL_PY_INTERP_PROCESS_H

#include "py/compat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The environment and the time zone at one moment, told from those of another one. */
typedef struct {
    uint64_t environment;
    uint64_t zone;
} atoll_process_mark;

/* No thread state needed. */
atoll_process_mark atoll_process_look(void);
/* The attached interpreter's os.environ becomes the process's environment.  0, or -1 with an exception. */
int atoll_process_renew_environment(void);
/* The attached interpreter's time module, if it is there, takes over the time zone.  0, or -1 with an exception. */
int atoll_process_renew_zone(void);

/* Attached to main: remembers which of its standard streams are not there. */
void atoll_process_note_streams(void);
/* A new, attached interpreter has none of these, either.  0, or -1 with an exception. */
int atoll_process_settle_streams(void);

/* The bytes of stack that the attached interpreter's threading.stack_size() says; 0: the system's default. */
size_t atoll_process_stack_size(void);
/* Makes threads that the attached interpreter starts get at least ATOLL_STACK_LEAST.  Whether that changed *before,
 * threading.stack_size(). */
bool atoll_process_stack_raise(size_t *before);
/* Puts that back, unless somebody has set another size meanwhile. */
void atoll_process_stack_restore(size_t before);

#endif
