/* Where CPython says that a GIL is taken.
 *
 * Taking a GIL that is free costs less than looking at a clock twice.  So the clock is looked at only when it seems to be taken: CPython has
 * a word for that, which 3.13 and newer publish for debuggers (the description at the beginning of the runtime's state: where an
 * interpreter has the pointer to its GIL, and how far in it that word is).  It is only read, and what it says may be another
 * thing an instant later; a wait that began then is not counted.
 *
 * Proof: the interpreter that asks is attached, so its GIL is taken, and by this thread state.  Where that is not what is
 * there, and on 3.12, a GIL seems to be taken when a session is inside.
 */
#include "py/gil.h"

const _Atomic(int) *atoll_gil_word(void) {
    const char *interp = (const char *)PyInterpreterState_Get();
    atoll_compat_gil place;
    if (!atoll_compat_published_gil(&place)) {
        return NULL;
    }
    const char *gil;
    const void *holder;
    int locked;
    memcpy(&gil, interp + place.gil, sizeof gil);
    if (gil == NULL) {
        return NULL;
    }
    memcpy(&holder, gil + place.holder, sizeof holder);
    memcpy(&locked, gil + place.locked, sizeof locked);
    if (holder != PyThreadState_Get() || locked != 1) {
        return NULL;
    }
    return (const _Atomic(int) *)(const void *)(gil + place.locked);
}
