/* Multi-phase initialisation with nothing to execute: no slots at all (NULL). */
#include "ext.h"

EXT_MULTI_PHASE(ext_slotless, NULL)
