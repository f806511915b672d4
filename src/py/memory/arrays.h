/* Memory of numpy's arrays, counted for the interpreter that has them: see arrays.c. */
#ifndef ATOLL_PY_MEMORY_ARRAYS_H
#define ATOLL_PY_MEMORY_ARRAYS_H

#include "py/compat.h"

#include "core/registry/registry.h"

/* Attached to an interpreter that has a numpy of its own, whose table of functions this is: what its arrays take from now on is counted,
 * and refused beyond its limit.  False: that table is another one than is known, or memory is short; nothing was changed. */
bool atoll_arrays_count(const atoll_entry *entry, void **numpy);

#endif
