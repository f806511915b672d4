/* What threading knows of an interpreter's threads: its main one, and those of pools. */
#ifndef ATOLL_PY_INTERP_THREADING_H
#define ATOLL_PY_INTERP_THREADING_H

#include <stdbool.h>
#include <stdint.h>

/* Attached to a new interpreter, before threading is imported there. */
void atoll_threading_prepare(void);

/* Attached: threading takes this thread for one of its own, named PREFIX_NUMBER.  1; 0: it was not imported here; -1 with an
 * exception. */
int atoll_threading_adopt(const char *prefix, uint32_t number);

/* Attached: a thread that was adopted is done, as far as others that wait for it are concerned; it is forgotten when it leaves an
 * interpreter that goes on. */
void atoll_threading_let_go(bool forget);

#endif
