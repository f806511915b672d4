/* What of frozen data belongs to an interpreter: see own.c. */
#ifndef ATOLL_PY_FROZEN_OWN_H
#define ATOLL_PY_FROZEN_OWN_H

#include "py/frozen/frozen.h"

/* The frozen form of an array: 1 and a new reference; 0 for what is none; -1 with an exception: TypeError, ValueError and BufferError say why it has
 * none.  Others may run meanwhile. */
int atoll_frozen_own_array(PyObject *obj, PyObject **frozen);
/* Such an array, or a mapping of atoll_frozen_own_mapping() that is a proxy. */
bool atoll_frozen_is_own_part(PyObject *obj);

#endif
