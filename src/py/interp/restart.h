/* Python that ends and begins again in one process. */
#ifndef ATOLL_PY_INTERP_RESTART_H
#define ATOLL_PY_INTERP_RESTART_H

/* Attached, before anything else of Atoll's is used in an interpreter: what is left of a Python that has ended is forgotten. */
void atoll_restart_begin(void);
/* Attached to main: hears of the end of this Python. */
void atoll_restart_await(void);

#endif
