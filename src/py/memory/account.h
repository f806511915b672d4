/* How much memory an interpreter has, and how much it may have: see account.c. */
#ifndef ATOLL_PY_MEMORY_ACCOUNT_H
#define ATOLL_PY_MEMORY_ACCOUNT_H

#include "core/registry/registry.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { ATOLL_IN_ARENAS, ATOLL_IN_BLOCKS, ATOLL_MEMORY_KINDS } atoll_memory_kind;

/* Blocks of at most so many bytes may go beyond a limit by so much, once something has been refused: what handles that needs some. */
#define ATOLL_ACCOUNT_SMALL (16 * 1024)
#define ATOLL_ACCOUNT_RESERVE (60 * 1024)
/* And so much while Atoll describes an exception, or ends the interpreter. */
#define ATOLL_ACCOUNT_HEADROOM (4 * 1024 * 1024)

/* An interpreter has got so many bytes, or (below 0) has given them back.  Its GIL is held, or it is gone; any lock may be held. */
void atoll_account_add(int64_t owner, atoll_memory_kind kind, int64_t bytes);
/* Whether it may have so many more.  A refusal is counted, unless it was only asked. */
bool atoll_account_allows(int64_t owner, size_t bytes);
bool atoll_account_has_room(int64_t owner, size_t bytes);
/* Whether somebody has crossed his soft limit; then it is told, without any lock, if it is this one. */
extern _Atomic(bool) atoll_account_due;
void atoll_account_tell(int64_t owner);
/* It is gone, and its memory is not noted any more. */
void atoll_account_end(int64_t owner);

/* ---- by entry ---- */

/* Its statistics show what it has, from now on, and (before they are freed) no more.  False: out of memory. */
bool atoll_account_show(atoll_entry *entry);
void atoll_account_hide(atoll_entry *entry);
/* What it may have, in bytes; 0: any amount. */
void atoll_account_set_limit(atoll_entry *entry, uint64_t bytes);
uint64_t atoll_account_limit(const atoll_entry *entry);
uint64_t atoll_account_used(const atoll_entry *entry);
uint64_t atoll_account_soft(const atoll_entry *entry);
/* What it is told of when it has more, once until it has an eighth less; 0: nothing. */
void atoll_account_set_soft(atoll_entry *entry, uint64_t bytes, void (*tell)(int64_t id));
/* It keeps this (malloc) until the interpreter is gone.  False: it has something already, or there is no account. */
bool atoll_account_keep(const atoll_entry *entry, void *memory);
/* How often it was refused something. */
uint64_t atoll_account_refusals(const atoll_entry *entry);
/* It has headroom until it is taken away as often as it was given. */
void atoll_account_relax(const atoll_entry *entry, bool relaxed);

#endif
