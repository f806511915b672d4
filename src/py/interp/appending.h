/* Appending to lists when there is no memory: see appending.c. */
#ifndef ATOLL_PY_INTERP_APPENDING_H
#define ATOLL_PY_INTERP_APPENDING_H

/* Attached to an interpreter in which no code of a user's has run. */
void atoll_appending_make_safe(void);

#endif
