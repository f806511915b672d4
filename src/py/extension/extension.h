/* Extension modules in interpreters; this is the whole of the room.
 *
 *   loader            importing one: from its file where it declares support, else as a clone; with it: verdicts on files, libraries that
 *                     other code opens, modules that are built into Python
 *   parsers           what CPython remembers in static variables of clones, before these go
 *   builtin_datetime  _datetime where it is built in; builtin_types, static_types: types that are there once for the process
 *
 * One loader belongs to each interpreter, is used by threads that are attached there, and outlives the interpreter until its clones
 * are unloaded.  What a library calls that silently means the main interpreter comes to `foreign`, private to the room, which knows from
 * the clone's shim whose it is.
 * Locks: the loader's own; verdicts, plain files, parsers, foreign threads each a short one, leaves.
 * Failure: an import that fails raises ImportError with the reason and leaves nothing loaded.
 */
#ifndef ATOLL_PY_EXTENSION_H
#define ATOLL_PY_EXTENSION_H

#include "py/extension/builtin_datetime.h"
#include "py/extension/builtin_types.h"
#include "py/extension/loader.h"
#include "py/extension/parsers.h"
#include "py/extension/static_types.h"

#endif
