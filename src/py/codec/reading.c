/* Messages that are being read, one inside of another.
 *
 * Code that runs while a message is read (__setstate__, an import) may receive another one, on the same thread.  What that one brings is its own:
 *
 *   whole      when it is.  What the one around it does with what it has brought itself when it is whole, or fails, is none of its business
 *              (codec/taking.c), unless it leans on that: refers to a class, function, or object that is still being made there.
 *   a change   for the one around it, as if another thread had made it: what that has read may be another now (codec/number.c, codec/arrival.c)
 *
 * Which objects have come, and may not be bound yet, is remembered with the message that they came in (codec/same.c), and known to those
 * inside of it.
 *
 * A reading lies in the decoder of its message, whose parts share it.  It is on the list of its thread from where code may run (the decoder is
 * pinned).
 */
#include "py/codec/internal.h"

static _Thread_local atoll_reading *innermost;
/* How often what was received has been changed by this thread, but for messages inside of the one that is being read. */
static _Thread_local uint64_t own_bound;

void atoll_note_bound(atoll_codec *codec, uint64_t n) {
    codec->bound += n;
    own_bound += n;
}

uint64_t atoll_bound_by_others(const atoll_codec *codec) { return codec->bound - own_bound; }

/* The next one of this interpreter's, from there on outwards. */
static atoll_reading *of_codec(atoll_reading *reading, const atoll_codec *codec) {
    while (reading != NULL && reading->codec != codec) {
        reading = reading->outer;
    }
    return reading;
}

void atoll_reading_begin(atoll_decoder *dec) {
    dec->own_reading = (atoll_reading){.outer = innermost, .codec = dec->codec, .bound = own_bound};
    dec->reading = innermost = &dec->own_reading;
}

void atoll_reading_end(const atoll_decoder *dec) {
    atoll_reading *reading = dec->reading;
    atoll_reading **link = &innermost;
    while (*link != reading) {
        link = &(*link)->outer;
    }
    *link = reading->outer;
    if (of_codec(reading->outer, reading->codec) != NULL) {
        own_bound = reading->bound;
    }
    if (reading->recent != NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        Py_CLEAR(reading->recent);
        PyErr_SetRaisedException(exc);
    }
}

void atoll_reading_lean(const atoll_decoder *dec, const atoll_reading *on) {
    for (atoll_reading *reading = dec->reading; reading != NULL && reading != on; reading = reading->outer) {
        reading->leans = true;
    }
}

/* ---- what has come ---- */

enum { R_VERSION, R_VALUE };

int atoll_recent_note(const atoll_decoder *dec, PyObject *key, uint64_t version, PyObject *obj) {
    atoll_reading *reading = dec->reading;
    if (reading->recent == NULL && (reading->recent = PyDict_New()) == NULL) {
        return -1;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(version);
    PyObject *entry = number != NULL ? PyTuple_Pack(2, number, obj) : NULL;
    int rc = entry != NULL ? PyDict_SetItem(reading->recent, key, entry) : -1;
    Py_XDECREF(entry);
    Py_XDECREF(number);
    return rc;
}

PyObject *atoll_recent_find(const atoll_decoder *dec, PyObject *key, uint64_t version) {
    PyObject *found = NULL;
    atoll_reading *reading = dec->reading;
    for (; found == NULL && reading != NULL; reading = of_codec(reading->outer, dec->codec)) {
        PyObject *entry = reading->recent != NULL ? PyDict_GetItemWithError(reading->recent, key) : NULL;
        if (entry != NULL && PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, R_VERSION)) == version) {
            found = Py_NewRef(PyTuple_GET_ITEM(entry, R_VALUE));
            atoll_reading_lean(dec, reading);
        }
    }
    return found;
}
