/* Multi-phase initialisation that declares support for interpreters that share one GIL, which is not enough. */
#include "ext.h"

static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
                                   {0, NULL}};

EXT_MULTI_PHASE(ext_shares_gil, slots)
