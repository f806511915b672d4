/* What a fork does to Atoll. */
#ifndef ATOLL_PY_INTERP_FORK_H
#define ATOLL_PY_INTERP_FORK_H

/* Once per process, before there is a second interpreter. */
void atoll_fork_init(void);

#endif
