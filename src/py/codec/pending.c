/* What of a class or function comes later in a message, as it is read: stage by stage, as codec/later.c has it written.
 *
 * What waits is in lists of the part of a message that is one class, or of a function.  Functions are listed as being made (codec/making.c)
 * until all is there.
 */
#include "py/codec/internal.h"

typedef struct pending {
    struct pending *next;
    PyObject *obj;           /* owned: a function, a cell, a list, dict or set; NULL for globals */
    atoll_globals to;        /* a function's, or those that are to be bound */
    atoll_received received; /* of a function */
    atoll_making making;
    bool listed; /* in codec->making */
    bool begun;  /* it has come, or is being read */
} pending;

void atoll_pending_begin(atoll_pending *list, const atoll_decoder *dec) {
    *list = (atoll_pending){0};
    atoll_takings_begin(&list->takings, dec);
    list->functions_end = &list->functions;
    for (int i = 0; i < ATOLL_RANKS; i++) {
        list->data_end[i] = &list->data[i];
    }
}

static void end_list(atoll_codec *codec, pending *item, bool whole) {
    while (item != NULL) {
        pending *next = item->next;
        if (item->listed) {
            if (!whole) {
                atoll_function_forget(codec, (PyFunctionObject *)item->obj, item->received.identity);
            }
            atoll_end_making(codec, &item->making);
        }
        Py_XDECREF(item->obj);
        atoll_globals_clear(&item->to);
        PyMem_RawFree(item);
        item = next;
    }
}

void atoll_pending_end(atoll_pending *list, atoll_codec *codec, bool whole) {
    PyObject *exc = PyErr_GetRaisedException();
    atoll_takings_end(&list->takings, codec, whole);
    exc = exc != NULL ? exc : PyErr_GetRaisedException();
    end_list(codec, list->functions, whole);
    for (int i = 0; i < ATOLL_RANKS; i++) {
        end_list(codec, list->data[i], whole);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static pending *append(struct pending ***end, PyObject *obj, const atoll_globals *to) {
    pending *item = PyMem_RawCalloc(1, sizeof *item);
    if (item == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    item->obj = Py_XNewRef(obj);
    if (to != NULL) {
        item->to = *to;
        Py_XINCREF(to->dict);
        Py_XINCREF(to->seen);
        Py_XINCREF(to->mains);
    }
    **end = item;
    *end = &item->next;
    return item;
}

int atoll_pending_function(atoll_decoder *dec, PyFunctionObject *func, const atoll_globals *to,
                           const atoll_received *received) {
    pending *item = append(&dec->pending->functions_end, (PyObject *)func, to);
    if (item == NULL) {
        return -1;
    }
    item->received = *received;
    if (received->known || !received->reusable || dec->pending->of_function) {
        return 0;
    }
    item->listed = true;
    atoll_begin_making(dec, &item->making, received->identity);
    return atoll_weak_put(dec->codec->function_refs, received->identity, (PyObject *)func);
}

int atoll_pending_globals(atoll_decoder *dec, atoll_rank rank, const atoll_globals *to) {
    return append(&dec->pending->data_end[rank], NULL, to) != NULL ? 0 : -1;
}

int atoll_pending_contents(atoll_decoder *dec, atoll_rank rank, PyObject *obj) {
    return append(&dec->pending->data_end[rank], obj, NULL) != NULL ? 0 : -1;
}

PyObject *atoll_decode_empty(atoll_decoder *dec) {
    uint8_t tag = atoll_get_u8(&dec->rd);
    if (dec->rd.failed || (tag != T_LIST && tag != T_DICT && tag != T_SET && tag != T_OBJECT) ||
        dec->pending == NULL) {
        return atoll_malformed("contents that never come");
    }
    PyObject *obj = tag == T_LIST   ? PyList_New(0)
                    : tag == T_DICT ? PyDict_New()
                    : tag == T_SET  ? PySet_New(NULL)
                                    : atoll_decode_value(dec);
    if (obj != NULL && (atoll_remember(dec, obj) < 0 || atoll_pending_contents(dec, RANK_LATE, obj) < 0)) {
        Py_CLEAR(obj);
    }
    return obj;
}

int atoll_read_bodies(atoll_decoder *dec, const atoll_pending *list) {
    int rc = 0;
    for (pending *item = list->functions; rc == 0 && item != NULL; item = item->next) { /* it may grow */
        rc = atoll_decode_body(dec, (PyFunctionObject *)item->obj, &item->to, &item->received);
    }
    return rc;
}

static int read_cell(atoll_decoder *dec, PyObject *cell) {
    PyObject *contents = atoll_decode_value(dec);
    if (contents != NULL) {
        PyCell_Set(cell, contents);
    }
    Py_XDECREF(contents);
    return contents != NULL ? 0 : -1;
}

static int read_data(atoll_decoder *dec, pending *item) {
    int rc = 0;
    for (; rc == 0 && item != NULL; item = item->next) {
        if (item->begun) {
            continue;
        }
        item->begun = true;
        rc = item->obj == NULL         ? atoll_decode_reached(dec, &item->to)
             : PyCell_Check(item->obj) ? read_cell(dec, item->obj)
                                       : atoll_filled_read(dec, item->obj);
    }
    return rc;
}

int atoll_read_early(atoll_decoder *dec, atoll_pending *list) {
    if (read_data(dec, list->data[RANK_EARLY]) < 0) {
        return -1;
    }
    list->takings.filling = true;
    int rc = read_data(dec, list->data[RANK_FILLED]);
    list->takings.filling = false;
    return rc;
}

int atoll_read_states(atoll_decoder *dec, const atoll_pending *list) {
    int rc = 0;
    for (pending *item = list->functions; rc == 0 && item != NULL; item = item->next) {
        rc = atoll_decode_function_state(dec, (PyFunctionObject *)item->obj, &item->received);
    }
    return rc;
}

int atoll_read_late(atoll_decoder *dec, const atoll_pending *list) {
    return read_data(dec, list->data[RANK_LATE]);
}

PyObject *atoll_decode_filled(atoll_decoder *dec) {
    Py_ssize_t n = atoll_read_count(dec, 0);
    pending *item = n >= 0 && dec->pending != NULL ? dec->pending->data[RANK_LATE] : NULL;
    for (; item != NULL && n > 0; n--) {
        item = item->next;
    }
    if (item == NULL || item->begun || item->obj == NULL || PyCell_Check(item->obj)) {
        return PyErr_Occurred() ? NULL : atoll_malformed("contents of nothing");
    }
    item->begun = true;
    /* Which object has them may be another, that was here: what refers to it follows. */
    return atoll_filled_read(dec, item->obj) == 0 ? atoll_decode_value(dec) : NULL;
}
