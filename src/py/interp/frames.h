/* sys._current_frames() and sys._current_exceptions() of one interpreter: see frames.c. */
#ifndef ATOLL_PY_INTERP_FRAMES_H
#define ATOLL_PY_INTERP_FRAMES_H

#include "py/compat.h"

/* Attached to an interpreter: its sys gets functions that show its own threads.  0, or -1 with an exception. */
int atoll_frames_init(void);

#endif
