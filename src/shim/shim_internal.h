/* What the files of the shim share. */
#ifndef ATOLL_SHIM_SHIM_INTERNAL_H
#define ATOLL_SHIM_SHIM_INTERNAL_H

#include "core/clone/shim.h"

#define EXPORT __attribute__((visibility("default")))

/* What the clones' calls go to; set before the first of them. */
extern const atoll_shim *shim __attribute__((visibility("hidden")));

#endif
