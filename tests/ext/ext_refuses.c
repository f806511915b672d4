/* Multi-phase initialisation that declares that it supports one interpreter only. */
#include "ext.h"

static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
                                   {0, NULL}};

EXT_MULTI_PHASE(ext_refuses, slots)
