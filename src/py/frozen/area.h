/* Memory for frozen objects that is filled: see area.c. */
#ifndef ATOLL_PY_FROZEN_AREA_H
#define ATOLL_PY_FROZEN_AREA_H

#include "py/frozen/frozen.h"

/* `size` bytes, zeroed, aligned to 16; `slack` bytes behind them can be read, whatever is there.  NULL with MemoryError.  For who fills it. */
void *atoll_area_take(atoll_area *area, size_t size, size_t slack);
/* A mapping proxy is made in it, or what is in it leads to one. */
void atoll_area_note_proxy(atoll_area *area);
/* What is taken from it does not count in atoll_areas_bytes().  Before anything is. */
void atoll_area_leave_out(atoll_area *area);
/* How full it is. */
typedef struct {
    size_t chunks;
    size_t used; /* of the last of them */
    size_t bytes;
} atoll_area_mark;
atoll_area_mark atoll_area_now(const atoll_area *area);
/* Takes back what was taken since then. */
void atoll_area_rewind(atoll_area *area, const atoll_area_mark *mark);
/* What was taken since then is complete: nobody writes to it any more. */
void atoll_area_seal(atoll_area *area, const atoll_area_mark *mark);
/* The same, as far as pages are full: what is next taken lies beside it. */
void atoll_area_seal_pages(atoll_area *area, const atoll_area_mark *mark);

#endif
