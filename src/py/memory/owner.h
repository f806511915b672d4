/* Whose memory it is. */
#ifndef ATOLL_PY_MEMORY_OWNER_H
#define ATOLL_PY_MEMORY_OWNER_H

#include <stdint.h>

/* An interpreter's number among those of all Pythons of this process, 0 for main. */
int64_t atoll_memory_owner(int64_t id);
/* Of one of this Python's, the id. */
int64_t atoll_memory_id(int64_t owner);
/* Python has ended: the ids of the next one begin at 0 again. */
void atoll_memory_restart(void);

#endif
