/* Memory that belongs to no interpreter: what SharedBuffer and SharedArray (src/module) show to Python.  This is the whole of the room.
 *
 * A block is zero-filled memory and a count of those who have it: Python objects in any interpreter, messages under way, and what
 * was handed out to C libraries (DLPack).  Whoever drops the last reference frees it, in whatever thread, with a thread state
 * or without: nothing of Python is in it, so its maker's interpreter may have ended long before.
 *
 *   less than ATOLL_SHARED_PAGES   one allocation with its head, aligned to 64 bytes
 *   more                           pages of their own, which the system fills with zeros when they are first touched; large pages
 *                                  where the block is large
 *   with a name                    pages that other processes map, too
 *
 * The content is nobody's: who reads and writes at once sees what the hardware makes of it.  Of a block that is fixed it never changes.
 *
 * Names.  A name is the system's (shm_open, in the form that Python's multiprocessing.shared_memory uses), and stays until it is
 * removed, whoever has ended.  So the process that made one removes it: with unlink(), else with its last reference, else when it
 * ends in the ordinary way.  It removes only what it made: not a file that somebody else has put there under the same name
 * meanwhile.  A process that found a name never removes it unless it is told to.  The memory lasts as long as any process maps
 * it.  A process that is killed leaves its names behind.  Whoever finds a name of which the process has the memory already gets that block: so the
 * last reference is the process's, in whichever of its interpreters the name was made or found.
 *
 * Locks: blocks with names are in a list with a mutex, a leaf, held by fork.  Else counts only.
 *
 * Fork: memory without a name is copied on write, as all memory of the process is: the child reads what was there and its writes are its
 * own.  References that were held by interpreters which are gone in the child are never dropped there, so such blocks stay allocated
 * in it.  Named memory is the same in both; a child removes no name of its parent's.
 *
 * Failure: NULL when out of memory; an errno code for what concerns names.  Nothing is half done.
 */
#ifndef ATOLL_CORE_SHARED_H
#define ATOLL_CORE_SHARED_H

#include "core/base/base.h"
#include "port/port.h"

enum { ATOLL_SHARED_PAGES = 64 * 1024 };

typedef struct atoll_shared {
    _Atomic(size_t) refs;
    uint64_t serial; /* no other block of the process ever has it */
    size_t size;     /* of data; at least what was asked for where it has a name */
    uint8_t *data;
    struct atoll_shared_label *name; /* NULL: none */
    bool fixed;                      /* nobody writes to it any more */
} atoll_shared;

/* A new block with one reference; NULL when out of memory. */
atoll_shared *atoll_shared_new(size_t size);
/* The content stays as it is from now on; before anybody else has the block, which has no name.  guarded: whoever writes to its pages, where it has
 * pages of its own, ends the process. */
void atoll_shared_fix(atoll_shared *block, bool guarded);
void atoll_shared_retain(atoll_shared *block);
void atoll_shared_release(atoll_shared *block);
extern const atoll_handle_class atoll_shared_class;

/* A block with a name, with one reference in *out: made with `size` bytes, which are not 0, or found, with all the bytes that it has.
 * 0 or an errno code: EEXIST and ENOENT where the way forbids it, ENOSPC when the system has no room for it, ENODATA for memory that
 * whoever made it has not given a size, ETIMEDOUT for memory that is still being reserved after a minute.  May take long: `size` bytes
 * are reserved.  The name is one that
 * atoll_shared_name_is_good. */
int atoll_shared_named(const char *name, atoll_shm_way way, size_t size, atoll_shared **out);
bool atoll_shared_name_is_good(const char *name, size_t length);
/* The name it was made or found with, or NULL.  Valid as long as the block. */
const char *atoll_shared_name(const atoll_shared *block);
/* Which memory that was, as the system has it: what a name leads to later may be another.  Of a block with a name. */
atoll_shm_id atoll_shared_id(const atoll_shared *block);
/* Removes the name, if it still leads to this memory.  0, or an errno code: ENOENT where it does not. */
int atoll_shared_unlink(atoll_shared *block);

/* How many blocks there are, and their bytes. */
typedef struct {
    uint64_t blocks;
    uint64_t bytes;
} atoll_shared_figures;
atoll_shared_figures atoll_shared_count(void);

/* Holds the lock of the list of names while the process is forked. */
void atoll_shared_fork(atoll_fork_moment when);

#endif
