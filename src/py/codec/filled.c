/* Lists, dicts, sets and the like that are there before what is in them (codec/later.c).
 *
 * Deques, weak dictionaries and such come as shells: empty ones, made as the sender's were (atoll._crossing.byvalue.shell_of).
 *
 * Code that makes what is in them may look for what was made before, so each thing is put in at once; and may put something in
 * itself, as it did at home: in the end they have what they have there, which is looked after once more when all that came together
 * is there (codec/taking.c).
 */
#include "py/codec/internal.h"

/* ---- writing ---- */

PyObject *atoll_filled_shell(atoll_codec *codec, PyObject *value) {
    PyObject *byvalue = atoll_codec_byvalue(codec);
    return byvalue != NULL ? PyObject_CallMethod(byvalue, "shell_of", "(O)", value) : NULL;
}

int atoll_filled_write_shell(atoll_encoder *enc, PyObject *value) {
    struct atoll_later *empty = enc->empty;
    PyObject *shell = atoll_filled_shell(enc->codec, value);
    enc->empty = NULL; /* what it is made with comes with it */
    int rc = shell != NULL ? atoll_encode_shared(enc, shell) : -1;
    enc->empty = empty;
    Py_XDECREF(shell);
    return rc;
}

/* A list, dict or set: what is in it now. */
int atoll_filled_write(atoll_encoder *enc, PyObject *obj) {
    if (PyDict_CheckExact(obj)) {
        return atoll_encode_dict_body(enc, obj, AT_KEY);
    }
    bool shell = !PyList_CheckExact(obj) && !PySet_CheckExact(obj);
    PyObject *byvalue = shell ? atoll_codec_byvalue(enc->codec) : NULL;
    PyObject *from = !shell            ? Py_NewRef(obj)
                     : byvalue != NULL ? PyObject_CallMethod(byvalue, "contents_of", "(O)", obj)
                                       : NULL;
    PyObject *items = from != NULL ? PySequence_Tuple(from) : NULL;
    Py_XDECREF(from);
    int rc = items != NULL ? atoll_write_count(enc, (uint64_t)PyTuple_GET_SIZE(items)) : -1;
    atoll_frame fr;
    atoll_push(enc, &fr, obj, PySet_CheckExact(obj) ? AT_ELEMENT : AT_INDEX);
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(items); i++) {
        fr.index = i;
        rc = atoll_encode_shared(enc, PyTuple_GET_ITEM(items, i));
    }
    atoll_pop(enc, &fr);
    Py_XDECREF(items);
    return rc;
}

/* ---- reading ---- */

static bool is_shell(PyObject *obj) {
    return !PyDict_CheckExact(obj) && !PyList_CheckExact(obj) && !PySet_CheckExact(obj);
}

/* Of a shell: all of what comes, or one thing.  0, or -1 with an exception. */
static int fill_shell(atoll_codec *codec, PyObject *obj, const char *how, PyObject *with) {
    PyObject *byvalue = atoll_codec_byvalue(codec);
    PyObject *done = byvalue != NULL ? PyObject_CallMethod(byvalue, how, "OO", obj, with) : NULL;
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int put(PyObject *obj, PyObject *key, PyObject *value) {
    return PyDict_CheckExact(obj)   ? PyDict_SetItem(obj, key, value)
           : PyList_CheckExact(obj) ? PyList_Append(obj, value)
                                    : PySet_Add(obj, value);
}

/* Whether it has that already, the very objects. */
static bool has_contents(PyObject *obj, PyObject *whole) {
    Py_ssize_t n = PyList_GET_SIZE(whole);
    if (PyDict_CheckExact(obj)) {
        Py_ssize_t pos = 0;
        Py_ssize_t i = 0;
        PyObject *key;
        PyObject *value;
        while (i < n && PyDict_Next(obj, &pos, &key, &value) && PyList_GET_ITEM(whole, i) == key &&
               PyList_GET_ITEM(whole, i + 1) == value) {
            i += 2;
        }
        return i == n && PyDict_GET_SIZE(obj) * 2 == n;
    }
    Py_ssize_t i = 0;
    while (i < n && PyList_CheckExact(obj) && i < PyList_GET_SIZE(obj) &&
           PyList_GET_ITEM(obj, i) == PyList_GET_ITEM(whole, i)) {
        i++;
    }
    return i == n && PyList_CheckExact(obj) && PyList_GET_SIZE(obj) == n;
}

/* obj has what `whole` has, a list of items, or of keys and values in turn; in this order. */
static int set_contents(atoll_codec *codec, PyObject *obj, PyObject *whole) {
    Py_ssize_t step = PyDict_CheckExact(obj) ? 2 : 1;
    if (is_shell(obj)) {
        return fill_shell(codec, obj, "fill_shell", whole);
    }
    if (has_contents(obj, whole)) {
        return 0;
    }
    if (PyList_CheckExact(obj)) {
        return PyList_SetSlice(obj, 0, PY_SSIZE_T_MAX, whole);
    }
    if (step == 2) {
        PyDict_Clear(obj);
    } else if (PySet_GET_SIZE(obj) == PyList_GET_SIZE(whole)) {
        return 0;
    } else if (PySet_Clear(obj) < 0) {
        return -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(whole); i += step) {
        rc = put(obj, PyList_GET_ITEM(whole, i), PyList_GET_ITEM(whole, i + step - 1));
    }
    return rc;
}

int atoll_filled_settle(atoll_codec *codec, PyObject *obj, PyObject *whole) {
    return set_contents(codec, obj, whole);
}

int atoll_filled_read(atoll_decoder *dec, PyObject *obj) {
    bool is_dict = PyDict_CheckExact(obj);
    Py_ssize_t n = atoll_read_count(dec, is_dict ? 2 : 1);
    PyObject *whole = n >= 0 ? PyList_New(0) : NULL;
    int rc = whole != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < n; i++) {
        PyObject *key = is_dict ? atoll_decode_value(dec) : NULL;
        PyObject *value = is_dict && key == NULL ? NULL : atoll_decode_value(dec);
        rc =
            value == NULL || (key != NULL && PyList_Append(whole, key) < 0) || PyList_Append(whole, value) < 0
                ? -1
            : is_shell(obj) ? fill_shell(dec->codec, obj, "put_into_shell", value)
                            : put(obj, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    rc = rc == 0 ? set_contents(dec->codec, obj, whole) : -1;
    rc = rc == 0 ? atoll_takings_keep(&dec->pending->takings, obj, whole) : -1;
    Py_XDECREF(whole);
    return rc;
}
