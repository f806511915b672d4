/* The first steps of an interpreter's end: see wind_down.c.  It is attached, its gate shut. */
#ifndef ATOLL_PY_INTERP_WIND_DOWN_H
#define ATOLL_PY_INTERP_WIND_DOWN_H

#include "py/compat.h"

/* Waits for threading's threads that are not daemons, once and for all. */
void atoll_join_threads(void);
/* Calls what was given to atexit, and forgets it. */
void atoll_run_exit_functions(void);
/* A number that stands for the files, and what is around them (io), that are open in the attached interpreter. */
uintptr_t atoll_files_note(void);

#endif
