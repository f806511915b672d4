/* Classes, and functions, that are there in part (codec/making.c), and what is shown meanwhile (codec/shown.c). */
#ifndef ATOLL_PY_CODEC_MAKING_H
#define ATOLL_PY_CODEC_MAKING_H

#include "py/codec/decoder.h"

/* A class, or a function, with this number is being made by this thread; another that needs it waits (codec/making.c). */
void atoll_begin_making(const atoll_decoder *dec, atoll_making *making, uint64_t number);
void atoll_end_making(atoll_codec *codec, const atoll_making *making);
/* The same for one of both lists. */
void atoll_making_enter(const atoll_decoder *dec, atoll_making **list, atoll_making *making, uint64_t number);
void atoll_making_leave(atoll_making **list, const atoll_making *making);
/* What this thread is making that has this number, or NULL. */
const atoll_making *atoll_coming(const atoll_codec *codec, uint64_t number);
/* Where this thread is making what has this number, what is being read leans on the message that it comes in (codec/reading.c). */
void atoll_lean_on_coming(const atoll_decoder *dec, uint64_t number);
/* In a forked child: what other threads were making, which are not there, is nobody's. */
void atoll_drop_orphans(atoll_codec *codec);
extern _Atomic(uint64_t) atoll_forks;
/* Until another thread has made it, or failed.  0, or -1 with an exception. */
int atoll_wait_for_maker(atoll_codec *codec, uint64_t number);
/* Whether this thread is making it, and its functions are there. */
bool atoll_is_being_made(const atoll_codec *codec, const PyTypeObject *type);
/* Whether the current exception, which is gone then, was about an attribute that a class will have when it is whole: until then it is
 * None, as the one instance mostly is before there is one.  A call is made again as often as that: code may take one away again. */
enum { ATOLL_STAND_INS = 1000 };
bool atoll_stand_in(const atoll_codec *codec);

/* ---- codec/shown.c ---- */

/* What a class statement (what of its skeleton came) is to find in __main__ is there from now on: 0, or -1 with an exception, when nothing is. */
int atoll_show(atoll_codec *codec, atoll_making *making, PyObject *skeleton);
void atoll_hide(const atoll_codec *codec, atoll_making *making);
/* Whether that is all that a dict has under a name. */
bool atoll_is_shown(const atoll_codec *codec, PyObject *dict, PyObject *name, PyObject *value);

#endif
