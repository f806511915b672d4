/* _datetime that is built into Python's executable or library, so that there is no file of it to clone.
 *
 * CPython 3.13: what its static types have in common is made by the interpreter that imports it first, and freed, with another
 * interpreter's allocator, by the one that ends last.  When main imports it before any other, both are main.
 *
 * CPython 3.12: the module is made by single-phase initialisation, and keeps Python objects in static variables:
 *
 *   seven types                        static_types.c shares them, as CPython shares its own
 *   timezone.utc, the Epoch,           values that never change: immortal, so that nobody counts their references.  The Epoch
 *   seven ints (us_per_day, ...)       and the ints are in no dict.  They are made to show themselves: operators of timedelta's
 *                                      constructor hand its ints to operands, and datetime.timestamp() asks timezone.utc for
 *                                      the offset of the Epoch
 *   the module _strptime               of whoever called strptime() first: other interpreters have a strptime() of Atoll's
 *   the C API                          a block of memory that main's capsule frees; the capsule is kept
 *
 * Other interpreters get a module object that has the types, timezone.utc and a capsule with the same C API.  Nothing runs
 * PyInit__datetime() but main, once.
 *
 * Where any of this is not as expected, the module is not held, and `import datetime` uses _pydatetime in other interpreters
 * (atoll/_extension/builtin.py says so to who wants _datetime itself).
 *
 * State: `state` is written with main's GIL and the lifecycle lock held, once.  What it says is settled lasts for the process.
 */
#include "py/extension/builtin_datetime.h"

#include "py/extension/static_types.h"

#include <stdatomic.h>

#include <string.h>

enum { UNSETTLED, HELD, NOT_HELD };
static _Atomic(int) state;

bool atoll_datetime_is_settled(void) { return atomic_load(&state) != UNSETTLED; }

bool atoll_datetime_is_held(void) { return atomic_load(&state) == HELD; }

#if ATOLL_DATETIME_NEEDS_MAIN
static bool is_built_in(void) {
    for (const struct _inittab *entry = PyImport_Inittab; entry->name != NULL; entry++) {
        if (strcmp(entry->name, "_datetime") == 0) {
            return true;
        }
    }
    return false;
}
#endif

#if ATOLL_DATETIME_IS_STATIC

#include <datetime.h>

static PyTypeObject *types[7];
static PyObject *kept_capsule;

#define DATETIME_TYPE types[3]
#define TIMEZONE_TYPE types[5]

/* ---- values in static variables that show themselves ---- */

static const int64_t constants[] = {1000,        1000000,      60000000, 3600000000,
                                    86400000000, 604800000000, 86400 /* seconds in a day */};
#define EVERY_CONSTANT ((1U << Py_ARRAY_LENGTH(constants)) - 1)

/* What was shown.  Main's GIL is held. */
static struct {
    PyObject *ints[Py_ARRAY_LENGTH(constants)];
    PyObject *epoch;
} shown;

/* An operand of a Shower's operator. */
static void look_at(PyObject *op) {
    if (!PyLong_CheckExact(op)) {
        return;
    }
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(op, &overflow);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(constants); i++) {
        if (value == constants[i]) {
            Py_XSETREF(shown.ints[i], Py_NewRef(op));
        }
    }
}

/* A Shower is an int whose operators look at the other operand: s * x and 0 + s are s, divmod(s, x) is (s, 0). */
static PyObject *shower_multiply(PyObject *left, PyObject *right) {
    look_at(right);
    return Py_NewRef(left);
}

static PyObject *shower_add(PyObject *left, PyObject *right) {
    return Py_NewRef(PyLong_CheckExact(left) ? right : left);
}

static PyObject *shower_divmod(PyObject *left, PyObject *right) {
    look_at(right);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *both = zero != NULL ? PyTuple_Pack(2, left, zero) : NULL;
    Py_XDECREF(zero);
    return both;
}

static PyType_Slot shower_slots[] = {
    {Py_nb_multiply, shower_multiply}, {Py_nb_add, shower_add}, {Py_nb_divmod, shower_divmod}, {0, NULL}};
static PyType_Spec shower_spec = {"atoll._Shower", 0, 0, Py_TPFLAGS_DEFAULT, shower_slots};

/* timedelta(milliseconds=s, ...) multiplies s by each constant, and divides the sum by two of them. */
static bool show_ints(void) {
    static const char *const units[] = {"milliseconds", "seconds", "minutes", "hours", "days", "weeks"};
    PyObject *type = PyType_FromSpecWithBases(&shower_spec, (PyObject *)&PyLong_Type);
    PyObject *one = type != NULL ? PyObject_CallFunction(type, "i", 1) : NULL;
    PyObject *none = PyTuple_New(0);
    for (size_t i = 0; one != NULL && none != NULL && i < Py_ARRAY_LENGTH(units); i++) {
        PyObject *kwargs = Py_BuildValue("{sO}", units[i], one);
        PyObject *made = kwargs != NULL ? PyObject_Call((PyObject *)types[0], none, kwargs) : NULL;
        Py_XDECREF(made);
        Py_XDECREF(kwargs);
        PyErr_Clear();
    }
    Py_XDECREF(none);
    Py_XDECREF(one);
    Py_XDECREF(type);
    PyErr_Clear();
    for (size_t i = 0; i < Py_ARRAY_LENGTH(constants); i++) {
        if (shown.ints[i] == NULL) {
            return false;
        }
    }
    return true;
}

/* timezone.utc.utcoffset(), for a moment. */
static PyObject *offset_of(PyObject *utc, PyObject *moment) {
    if (shown.epoch == NULL && PyObject_TypeCheck(moment, DATETIME_TYPE) &&
        PyDateTime_GET_YEAR(moment) == 1970) {
        shown.epoch = Py_NewRef(moment);
    }
    return PyObject_CallMethod((PyObject *)TIMEZONE_TYPE, "utcoffset", "OO", utc, moment);
}

static PyMethodDef offset_def = {"utcoffset", offset_of, METH_O, NULL};

static PyObject *get_attribute(PyObject *object, PyObject *name) {
    if (object == PyDateTimeAPI->TimeZone_UTC && PyUnicode_CompareWithASCIIString(name, "utcoffset") == 0) {
        return PyCFunction_New(&offset_def, object);
    }
    return PyObject_GenericGetAttr(object, name);
}

/* datetime(2000, 1, 1, tzinfo=timezone(timedelta(hours=1))).timestamp() subtracts the Epoch, in whose timezone there is another
 * way to find attributes meanwhile. */
static bool show_epoch(void) {
    PyObject *hour = PyDateTimeAPI->Delta_FromDelta(0, 3600, 0, 1, types[0]);
    PyObject *zone = hour != NULL ? PyDateTimeAPI->TimeZone_FromTimeZone(hour, NULL) : NULL;
    PyObject *moment =
        zone != NULL ? PyDateTimeAPI->DateTime_FromDateAndTime(2000, 1, 1, 0, 0, 0, 0, zone, DATETIME_TYPE)
                     : NULL;
    if (moment != NULL && TIMEZONE_TYPE->tp_getattro == PyObject_GenericGetAttr) {
        TIMEZONE_TYPE->tp_getattro = get_attribute;
        PyObject *seconds = PyObject_CallMethod(moment, "timestamp", NULL);
        TIMEZONE_TYPE->tp_getattro = PyObject_GenericGetAttr;
        Py_XDECREF(seconds);
    }
    Py_XDECREF(moment);
    Py_XDECREF(zone);
    Py_XDECREF(hour);
    PyErr_Clear();
    return shown.epoch != NULL;
}

/* ---- main ---- */

/* A value that others will see, with what is in it.  0, or -1 with an exception. */
static int share_value(PyObject *value) {
    if (Py_IS_TYPE(value, TIMEZONE_TYPE)) {
        PyObject *offset = PyObject_CallMethod(value, "utcoffset", "O", Py_None); /* the object in it */
        if (offset == NULL) {
            return -1;
        }
        atoll_make_immortal(offset);
    }
    atoll_make_immortal(value);
    return 0;
}

static bool is_ours(const PyTypeObject *type) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if (types[i] == type) {
            return true;
        }
    }
    return false;
}

static int share_values(void) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        PyObject *key;
        PyObject *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(types[i]->tp_dict, &at, &key, &value)) {
            if (is_ours(Py_TYPE(value)) && share_value(value) < 0) {
                return -1;
            }
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(constants); i++) {
        atoll_make_immortal(shown.ints[i]);
    }
    atoll_make_immortal(shown.epoch);
    return share_value(PyDateTimeAPI->TimeZone_UTC);
}

/* The type of date.isocalendar()'s results; borrowed from a static variable. */
static PyTypeObject *iso_calendar_type(void) {
    PyObject *date = PyDateTimeAPI->Date_FromDate(2000, 1, 1, PyDateTimeAPI->DateType);
    PyObject *made = date != NULL ? PyObject_CallMethod(date, "isocalendar", NULL) : NULL;
    PyTypeObject *type = made != NULL ? Py_TYPE(made) : NULL;
    Py_XDECREF(made);
    Py_XDECREF(date);
    return type;
}

static bool hold(PyObject *module) {
    kept_capsule = PyObject_GetAttrString(module, "datetime_CAPI"); /* kept */
    PyDateTimeAPI = kept_capsule != NULL ? PyCapsule_GetPointer(kept_capsule, PyDateTime_CAPSULE_NAME) : NULL;
    PyTypeObject *iso = PyDateTimeAPI != NULL ? iso_calendar_type() : NULL;
    if (iso == NULL) {
        return false;
    }
    PyTypeObject *const found[] = {PyDateTimeAPI->DeltaType,
                                   PyDateTimeAPI->TZInfoType,
                                   PyDateTimeAPI->DateType,
                                   PyDateTimeAPI->DateTimeType,
                                   PyDateTimeAPI->TimeType,
                                   Py_TYPE(PyDateTimeAPI->TimeZone_UTC),
                                   iso};
    memcpy(types, found, sizeof types);
    return show_ints() && show_epoch() && share_values() == 0 &&
           atoll_static_types_adopt(types, Py_ARRAY_LENGTH(types));
}

/* ---- other interpreters ---- */

static PyObject *parse_time(PyObject *type, PyObject *args) {
    PyObject *string;
    PyObject *format;
    if (!PyArg_ParseTuple(args, "UU:strptime", &string, &format)) {
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("_strptime");
    PyObject *made = module != NULL
                         ? PyObject_CallMethod(module, "_strptime_datetime", "OOO", type, string, format)
                         : NULL;
    Py_XDECREF(module);
    return made;
}

static PyMethodDef parse_time_def = {
    "strptime", parse_time, METH_VARARGS | METH_CLASS,
    "string, format -> new datetime parsed from a string (like time.strptime())."};

static int fill(PyObject *module) {
    for (size_t i = 0; i + 1 < Py_ARRAY_LENGTH(types); i++) { /* the last one has no name there */
        const char *dot = strrchr(types[i]->tp_name, '.');
        if (PyModule_AddObjectRef(module, dot != NULL ? dot + 1 : types[i]->tp_name, (PyObject *)types[i]) <
            0) {
            return -1;
        }
    }
    PyObject *capsule = PyCapsule_New(PyDateTimeAPI, PyDateTime_CAPSULE_NAME, NULL);
    int rc = capsule != NULL ? PyModule_AddObjectRef(module, "datetime_CAPI", capsule) : -1;
    Py_XDECREF(capsule);
    if (rc < 0 || PyModule_AddIntConstant(module, "MINYEAR", 1) < 0 ||
        PyModule_AddIntConstant(module, "MAXYEAR", 9999) < 0 ||
        PyModule_AddObjectRef(module, "UTC", PyDateTimeAPI->TimeZone_UTC) < 0) {
        return -1;
    }
    return PyModule_SetDocString(module, "Fast implementation of the datetime type.");
}

PyObject *atoll_datetime_create(void) {
    if (atoll_static_types_provide(DATETIME_TYPE, &parse_time_def) < 0) {
        return NULL;
    }
    PyObject *module = PyModule_New("_datetime");
    if (module != NULL && fill(module) < 0) {
        Py_CLEAR(module);
    }
    return module;
}

#else

#if ATOLL_DATETIME_NEEDS_MAIN
static bool hold(PyObject *module) {
    (void)module; /* its types stay as they are until main ends */
    return true;
}
#endif

PyObject *atoll_datetime_create(void) { return NULL; }

#endif

#if ATOLL_DATETIME_NEEDS_MAIN
/* Whether the exception that is set has nothing to do with what was imported. */
static bool is_others_business(void) {
    return PyErr_ExceptionMatches(PyExc_MemoryError) || !PyErr_ExceptionMatches(PyExc_Exception);
}

/* UNSETTLED: with an exception. */
static int settle(void (*lock)(void), void (*unlock)(void)) {
    if (!is_built_in()) {
        return NOT_HELD;
    }
    PyObject *module =
        PyImport_ImportModule("_datetime"); /* before the lock is taken: hooks may run Python */
    if (module == NULL && is_others_business()) {
        return UNSETTLED;
    }
    int now = NOT_HELD;
    lock();
    if (atoll_datetime_is_settled()) {
        now = atomic_load(&state);
    } else if (module != NULL && hold(module)) {
        now = HELD;
    }
    atomic_store(&state, now);
    unlock();
    Py_XDECREF(module);
    PyErr_Clear();
    return now;
}
#else
static int settle(void (*lock)(void), void (*unlock)(void)) { return HELD; }
#endif

int atoll_datetime_hold(void (*lock)(void), void (*unlock)(void)) {
    int now = atoll_datetime_is_settled() ? HELD : settle(lock, unlock);
    if (now != UNSETTLED && !atoll_datetime_is_settled()) {
        atomic_store(&state, now);
    }
    return now != UNSETTLED ? 0 : -1;
}

void atoll_datetime_let_go(void) {
    atoll_static_types_release();
    atomic_store(&state, UNSETTLED);
}

void atoll_datetime_forget(void) {
#if ATOLL_DATETIME_IS_STATIC
    kept_capsule = NULL;
    memset(&shown, 0, sizeof shown);
#endif
    atomic_store(&state, UNSETTLED);
}
