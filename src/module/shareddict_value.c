/* Values of a SharedDict, and how long they stay.  See shareddict.c. */
#include "module/shareddict.h"

#include "py/interp/interp.h"

#include <math.h>

/* Seconds above 0, or None for ever.  0, or -1 with an exception. */
int atoll_shareddict_ttl_of(PyObject *obj, double *ttl) {
    *ttl = INFINITY;
    if (obj == Py_None) {
        return 0;
    }
    double seconds = PyFloat_AsDouble(obj);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "ttl must be a number of seconds or None, not %.200s",
                         Py_TYPE(obj)->tp_name);
        }
        return -1;
    }
    if (!(seconds > 0)) {
        PyErr_Format(PyExc_ValueError, "ttl must be above 0 seconds, got %R", obj);
        return -1;
    }
    *ttl = seconds;
    return 0;
}

/* 0, or -1 with an exception. */
int atoll_shareddict_value_of(atoll_state *state, PyObject *obj, atoll_hashmap_value *value) {
    if (PyLong_CheckExact(obj)) {
        int overflow;
        long long n = PyLong_AsLongLongAndOverflow(obj, &overflow);
        if (overflow == 0) {
            *value = (atoll_hashmap_value){NULL, n};
            return 0;
        }
    }
    atoll_message msg = atoll_spare_message();
    value->box = NULL;
    if (atoll_encode_whole(state->codec, &msg, obj, "value") == 0 && atoll_export_keep_bytes(&msg) == 0) {
        value->box = atoll_hashmap_box_new(&msg);
        if (value->box == NULL) {
            PyErr_NoMemory();
        }
    }
    atoll_spare_message_return(&msg);
    return value->box != NULL ? 0 : -1;
}

/* The object of a value, whose reference it takes over. */
PyObject *atoll_shareddict_object_of(atoll_state *state, const atoll_hashmap_value *value) {
    if (value->box == NULL) {
        return PyLong_FromLongLong(value->number);
    }
    PyObject *obj = atoll_decode(state->codec, atoll_hashmap_box_message(value->box));
    atoll_hashmap_value_release(value);
    return obj;
}

/* For what the core said to a put.  -1. */
int atoll_shareddict_raise(PyObject *self, atoll_hashmap_result result) {
    if (result == ATOLL_HASHMAP_TOO_LARGE) {
        PyErr_Format(PyExc_ValueError, "value is too large: with its key it takes more than max_bytes (%llu)",
                     (unsigned long long)atoll_hashmap_max_bytes(atoll_shareddict_map(self)));
    } else {
        PyErr_NoMemory();
    }
    return -1;
}

/* When what is stored now expires, where nothing else is said: `otherwise` where the dict has no ttl. */
double atoll_shareddict_expiry(const atoll_hashmap *map, double otherwise) {
    double ttl = atoll_hashmap_ttl(map);
    return ttl != INFINITY ? atoll_clock() + ttl : otherwise;
}
