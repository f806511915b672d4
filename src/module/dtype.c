/* What a dtype means, and elements as Python objects.
 *
 * An element's type is kept as a format of the buffer protocol, which is what numpy, memoryview and struct understand.  What is native
 * to the machine is written as numpy writes it: one letter without a prefix, 'l' for 64 bits.  Elements of the usual
 * formats are read and written here; all others by the module struct.  numpy is asked only about what is numpy's own.
 */
#include "module/pyshared.h"

/* ---- names ---- */

typedef struct {
    const char *name;
    const char *format;
} known;

/* The first one of a format is its name. */
static const known names[] = {
    {"bool", "?"},     {"int8", "b"},    {"uint8", "B"},      {"int16", "h"},       {"uint16", "H"},
    {"int32", "i"},    {"uint32", "I"},  {"int64", "l"},      {"uint64", "L"},      {"float16", "e"},
    {"float32", "f"},  {"float64", "d"}, {"complex64", "Zf"}, {"complex128", "Zd"}, {"int64", "q"},
    {"uint64", "Q"},   {"n", "l"},       {"N", "L"},          {"bool_", "?"},       {"float", "d"},
    {"double", "d"},   {"single", "f"},  {"half", "e"},       {"complex", "Zd"},    {"cdouble", "Zd"},
    {"csingle", "Zf"}, {"int", "l"},     {"uint", "L"},       {"long", "l"},        {"ulong", "L"},
    {"intp", "l"},     {"uintp", "L"},   {"longlong", "q"},   {"ulonglong", "Q"},   {"intc", "i"},
    {"uintc", "I"},    {"short", "h"},   {"ushort", "H"},     {"byte", "b"},        {"ubyte", "B"},
    {"b1", "?"},       {"i1", "b"},      {"u1", "B"},         {"i2", "h"},          {"u2", "H"},
    {"i4", "i"},       {"u4", "I"},      {"i8", "l"},         {"u8", "L"},          {"f2", "e"},
    {"f4", "f"},       {"f8", "d"},      {"c8", "Zf"},        {"c16", "Zd"},        {"F", "Zf"},
    {"D", "Zd"},
};

_Static_assert(sizeof(long) == 8, "the letters 'l' and 'L' stand for 64 bits");

static const char *format_named(const char *name) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (strcmp(names[i].name, name) == 0) {
            return names[i].format;
        }
    }
    return NULL;
}

/* The bytes of a native element, or 0 for what is not one letter that is known, or complex. */
static Py_ssize_t size_of(const char *format) {
    if (format[0] == 'Z' && format[1] != '\0' && format[2] == '\0') {
        return format[1] == 'f' ? 8 : format[1] == 'd' ? 16 : 0;
    }
    if (format[0] == '\0' || format[1] != '\0') {
        return 0;
    }
    switch (format[0]) {
    case '?':
    case 'b':
    case 'B':
    case 'c':
        return 1;
    case 'h':
    case 'H':
    case 'e':
        return 2;
    case 'i':
    case 'I':
    case 'f':
        return 4;
    case 'l':
    case 'L':
    case 'q':
    case 'Q':
    case 'd':
        return 8;
    default:
        return 0;
    }
}

char atoll_dtype_kind(const char *format) {
    return size_of(format) == 0                 ? 0
           : format[0] == '?'                   ? 'b'
           : format[0] == 'c'                   ? 'S'
           : format[0] == 'Z'                   ? 'c'
           : strchr("bhilq", format[0]) != NULL ? 'i'
           : strchr("BHILQ", format[0]) != NULL ? 'u'
                                                : 'f';
}

const char *atoll_dtype_usual(const char *format, Py_ssize_t itemsize) {
    size_t length = strlen(format);
    bool native = length > 1 && (format[0] == '@' || format[0] == (PY_LITTLE_ENDIAN ? '<' : '>'));
    return native && size_of(format + 1) == itemsize ? format + 1 : format;
}

bool atoll_dtype_is_true(const char *format, Py_ssize_t itemsize) {
    return itemsize > 0 && (size_of(format) == 0 || size_of(format) == itemsize);
}

PyObject *atoll_dtype_name(const char *format) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (strcmp(names[i].format, format) == 0) {
            return PyUnicode_FromString(names[i].name);
        }
    }
    size_t length = strlen(format);
    if (length == 2 && strchr("<>!=", format[0]) != NULL && size_of(format + 1) != 0) {
        return PyUnicode_FromFormat("%c%c%zd", format[0], atoll_dtype_kind(format + 1), size_of(format + 1));
    }
    if (length > 1 && format[length - 1] == 's' && strspn(format, "0123456789") == length - 1) {
        return PyUnicode_FromFormat("S%.*s", (int)length - 1, format);
    }
    return PyUnicode_FromString(format);
}

/* ---- what a dtype means ---- */

static int set_format(atoll_dtype *out, const char *format, Py_ssize_t itemsize) {
    size_t size = strlen(format) + 1;
    out->far = size > sizeof out->near ? PyMem_Malloc(size) : NULL;
    char *to = size > sizeof out->near ? out->far : out->near;
    if (to == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(to, format, size);
    out->format = to;
    out->itemsize = itemsize;
    return 0;
}

void atoll_dtype_clear(atoll_dtype *dtype) {
    PyMem_Free(dtype->far);
    dtype->far = NULL;
}

static int refuse(PyObject *dtype, const char *why) {
    PyErr_Format(PyExc_TypeError, "dtype %R %s", dtype, why);
    return -1;
}

#define NOT_UNDERSTOOD                                                                                       \
    "is not understood: it is a name of numpy's such as 'float64' or '<f8', or a format of the module "      \
    "struct such as 'd'"

/* What struct says of it: the bytes of an element, or -1 with an exception. */
static Py_ssize_t struct_size(const char *format) {
    PyObject *module = PyImport_ImportModule("struct");
    PyObject *size = module != NULL ? PyObject_CallMethod(module, "calcsize", "s", format) : NULL;
    Py_XDECREF(module);
    Py_ssize_t itemsize = size != NULL ? PyLong_AsSsize_t(size) : -1;
    Py_XDECREF(size);
    return itemsize;
}

int atoll_dtype_is_known(const char *format) {
    if (struct_size(format) >= 0) {
        return 1;
    }
    return atoll_error_is_urgent() ? -1 : (PyErr_Clear(), 0);
}

/* A format that only struct knows: several fields, the other byte order. */
static int parse_struct(PyObject *dtype, const char *format, atoll_dtype *out) {
    if (strpbrk(format, "PO{}:") != NULL) {
        return refuse(dtype, NOT_UNDERSTOOD);
    }
    if (strspn(format, "@=<>! 0123456789x") == strlen(format)) {
        return refuse(dtype, "is of nothing but padding");
    }
    Py_ssize_t itemsize = struct_size(format);
    if (itemsize < 0) {
        return atoll_error_is_urgent() ? -1 : (PyErr_Clear(), refuse(dtype, NOT_UNDERSTOOD));
    }
    if (itemsize == 0) {
        return refuse(dtype, "has elements of no bytes");
    }
    return set_format(out, format, itemsize);
}

/* One of numpy's codes or a format, without the sign of a byte order: the letter that struct has for it, where all sizes are
 * standard. */
static const char *standard_letter(const char *code) {
    const char *named = format_named(code);
    const char *format = named != NULL ? named : code;
    if (strcmp(format, "l") == 0 || strcmp(format, "L") == 0) {
        /* numpy's i8 has 64 bits; struct's '<l' has 32. */
        return named != NULL ? (*format == 'l' ? "q" : "Q") : (*format == 'l' ? "i" : "I");
    }
    return size_of(format) != 0 && format[1] == '\0' ? format : NULL;
}

static int parse_text(PyObject *dtype, const char *text, atoll_dtype *out) {
    const char *code = text;
    bool foreign = false;
    bool ordered = false;
    if (*code != '\0' && strchr("<>=|@!", *code) != NULL) {
        foreign = *code == (PY_LITTLE_ENDIAN ? '>' : '<') || (*code == '!' && PY_LITTLE_ENDIAN);
        ordered = *code != '@' && *code != '|';
        code++;
    }
    const char *named = format_named(code);
    if (named != NULL && named[0] == 'Z' && foreign) {
        return refuse(dtype, "is complex in the other byte order, which elements cannot be");
    }
    if (named != NULL && !foreign) {
        return set_format(out, named, size_of(named));
    }
    const char *letter = ordered ? standard_letter(code) : NULL;
    if (letter != NULL) {
        bool wide = strcmp(letter, "q") == 0 || strcmp(letter, "Q") == 0;
        if (!foreign || size_of(letter) == 1) {
            letter = wide ? (*letter == 'q' ? "l" : "L") : letter;
            return set_format(out, letter, size_of(letter));
        }
        const char swapped[] = {PY_LITTLE_ENDIAN ? '>' : '<', *letter, '\0'};
        return set_format(out, swapped, size_of(letter));
    }
    if (!ordered && size_of(code) != 0) {
        return set_format(out, code, size_of(code));
    }
    switch (*code) {
    case 'O':
        return refuse(dtype, "is for pointers to Python objects, which belong to one interpreter");
    case 'U':
        return refuse(dtype, "is for text of numpy's own form: share it as bytes ('S10') or as 'uint32'");
    case 'M':
    case 'm':
        return refuse(dtype,
                      "is for dates, which the buffer protocol does not know: share them as 'int64' and "
                      "look at them with numpy.asarray(a).view()");
    case 'S': { /* numpy's bytes of this length */
        char *end;
        long length = strtol(code + 1, &end, 10);
        if (code[1] < '0' || code[1] > '9' || *end != '\0' || length <= 0 || length > INT32_MAX) {
            return refuse(dtype, NOT_UNDERSTOOD);
        }
        char format[24];
        (void)snprintf(format, sizeof format, "%lds", length);
        return set_format(out, format, length);
    }
    default:
        return parse_struct(dtype, text, out);
    }
}

/* A structured dtype of numpy's: what its buffers say. */
static int parse_numpy_record(PyObject *dtype, atoll_dtype *out) {
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *sample = numpy != NULL ? PyObject_CallMethod(numpy, "zeros", "iO", 1, dtype) : NULL;
    Py_XDECREF(numpy);
    Py_buffer b;
    int rc = -1;
    if (sample != NULL && PyObject_GetBuffer(sample, &b, PyBUF_FULL_RO) < 0) {
        if (!atoll_error_is_urgent()) { /* a date in it, say */
            PyObject *reason = PyErr_GetRaisedException();
            PyErr_Format(PyExc_TypeError, "dtype %R cannot be shared: %S", dtype, reason);
            Py_DECREF(reason);
        }
    } else if (sample != NULL) {
        rc = atoll_geometry_has_pointers(b.format)
                 ? refuse(dtype, "has pointers to Python objects, which belong to one interpreter")
             : b.itemsize == 0 ? refuse(dtype, "has elements of no bytes")
                               : set_format(out, b.format, b.itemsize);
        PyBuffer_Release(&b);
    }
    Py_XDECREF(sample);
    return rc;
}

static int parse_str(PyObject *dtype, PyObject *text, atoll_dtype *out) {
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &length);
    if (utf8 == NULL) {
        return atoll_error_is_urgent() ? -1 : (PyErr_Clear(), refuse(dtype, NOT_UNDERSTOOD));
    }
    return strlen(utf8) != (size_t)length || length == 0 ? refuse(dtype, NOT_UNDERSTOOD)
                                                         : parse_text(dtype, utf8, out);
}

/* A dtype object of numpy's, or another that has a `str` as it has one. */
static int parse_object(PyObject *dtype, atoll_dtype *out) {
    PyObject *text = PyObject_GetAttrString(dtype, "str");
    if (text == NULL || !PyUnicode_Check(text)) {
        Py_XDECREF(text);
        return text == NULL && atoll_error_is_urgent() ? -1 : (PyErr_Clear(), refuse(dtype, NOT_UNDERSTOOD));
    }
    PyObject *names_of = PyObject_GetAttrString(dtype, "names");
    PyObject *shape = names_of != NULL ? PyObject_GetAttrString(dtype, "shape") : NULL;
    PyErr_Clear();
    bool record = names_of != NULL && names_of != Py_None;
    bool nested = shape != NULL && PyTuple_Check(shape) && PyTuple_GET_SIZE(shape) != 0;
    int rc = nested   ? refuse(dtype, "is of arrays: give their shape to the array, behind its own")
             : record ? parse_numpy_record(dtype, out)
                      : parse_str(dtype, text, out);
    Py_XDECREF(shape);
    Py_XDECREF(names_of);
    Py_DECREF(text);
    return rc;
}

/* One of numpy's classes of scalars: only when numpy is there. */
static int parse_class(PyObject *dtype, atoll_dtype *out) {
    PyObject *name = PyUnicode_FromString("numpy");
    PyObject *numpy = name != NULL ? PyImport_GetModule(name) : NULL;
    Py_XDECREF(name);
    PyObject *object = numpy != NULL ? PyObject_CallMethod(numpy, "dtype", "O", dtype) : NULL;
    Py_XDECREF(numpy);
    if (object == NULL) {
        if (PyErr_Occurred() && atoll_error_is_urgent()) {
            return -1;
        }
        PyErr_Clear();
        return refuse(dtype, NOT_UNDERSTOOD);
    }
    int rc = parse_object(object, out);
    Py_DECREF(object);
    return rc;
}

int atoll_dtype_parse(PyObject *dtype, atoll_dtype *out) {
    *out = (atoll_dtype){.itemsize = 0};
    if (PyUnicode_Check(dtype)) {
        return parse_str(dtype, dtype, out);
    }
    const char *own = dtype == (PyObject *)&PyFloat_Type     ? "d"
                      : dtype == (PyObject *)&PyLong_Type    ? "l"
                      : dtype == (PyObject *)&PyBool_Type    ? "?"
                      : dtype == (PyObject *)&PyComplex_Type ? "Zd"
                                                             : NULL;
    if (own != NULL) {
        return set_format(out, own, size_of(own));
    }
    if (dtype == (PyObject *)&PyBaseObject_Type) {
        return refuse(dtype, "is for pointers to Python objects, which belong to one interpreter");
    }
    return PyType_Check(dtype) ? parse_class(dtype, out) : parse_object(dtype, out);
}

/* ---- elements ---- */

static int not_here(const char *format) {
    PyErr_Format(PyExc_NotImplementedError,
                 "elements of format '%s' are read and written through numpy.asarray()", format);
    return -1;
}

/* By the module struct: a value, or a tuple of several. */
static PyObject *unpack(const char *format, Py_ssize_t itemsize, const char *at) {
    if (format[0] == 'T') {
        (void)not_here(format);
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("struct");
    PyObject *values =
        module != NULL ? PyObject_CallMethod(module, "unpack", "sy#", format, at, itemsize) : NULL;
    if (values == NULL && module != NULL && !atoll_error_is_urgent()) {
        (void)not_here(format);
    }
    Py_XDECREF(module);
    if (values != NULL && PyTuple_GET_SIZE(values) == 1) {
        PyObject *value = Py_NewRef(PyTuple_GET_ITEM(values, 0));
        Py_SETREF(values, value);
    }
    return values;
}

static int out_of_range(const char *format, PyObject *value) {
    PyObject *name = atoll_dtype_name(format);
    if (name != NULL) {
        PyErr_Format(PyExc_OverflowError, "%S does not fit in an element of %U", value, name);
        Py_DECREF(name);
    }
    return -1;
}

/* One int in the other byte order. */
static bool is_swapped_int(const char *format) {
    char kind = format[0] != '\0' ? atoll_dtype_kind(format + 1) : 0;
    return strchr("<>!=", format[0]) != NULL && (kind == 'i' || kind == 'u');
}

static int pack(const char *format, Py_ssize_t itemsize, char *at, PyObject *value) {
    if (format[0] == 'T') {
        return not_here(format);
    }
    PyObject *module = PyImport_ImportModule("struct");
    PyObject *function = module != NULL ? PyObject_GetAttrString(module, "pack") : NULL;
    PyObject *head = function != NULL ? Py_BuildValue("(s)", format) : NULL;
    PyObject *values = head == NULL ? NULL : PyTuple_Check(value) ? Py_NewRef(value) : PyTuple_Pack(1, value);
    PyObject *args = values != NULL ? PySequence_Concat(head, values) : NULL;
    PyObject *bytes = args != NULL ? PyObject_CallObject(function, args) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(values);
    Py_XDECREF(head);
    Py_XDECREF(function);
    Py_XDECREF(module);
    if (bytes == NULL) {
        if (!atoll_error_is_urgent() && PyLong_Check(value) && is_swapped_int(format)) {
            PyErr_Clear();
            return out_of_range(format, value);
        }
        if (!atoll_error_is_urgent()) {
            PyErr_Format(PyExc_TypeError, "%R is no value for an element of format '%s'", value, format);
        }
        return -1;
    }
    bool fits = PyBytes_Check(bytes) && PyBytes_GET_SIZE(bytes) == itemsize;
    if (fits) {
        memcpy(at, PyBytes_AS_STRING(bytes), (size_t)itemsize);
    } else {
        (void)not_here(format);
    }
    Py_DECREF(bytes);
    return fits ? 0 : -1;
}

#define READ(type, var)                                                                                      \
    type var;                                                                                                \
    memcpy(&(var), at, sizeof(var))

PyObject *atoll_element_get(const char *format, Py_ssize_t itemsize, const char *at) {
    if (size_of(format) == 0) {
        return unpack(format, itemsize, at);
    }
    switch (format[0]) {
    case '?':
        return PyBool_FromLong(*at != 0);
    case 'b':
        return PyLong_FromLong(*(const signed char *)at);
    case 'B':
        return PyLong_FromLong(*(const unsigned char *)at);
    case 'c':
        return PyBytes_FromStringAndSize(at, 1);
    case 'h': {
        READ(short, v);
        return PyLong_FromLong(v);
    }
    case 'H': {
        READ(unsigned short, v);
        return PyLong_FromLong(v);
    }
    case 'i': {
        READ(int, v);
        return PyLong_FromLong(v);
    }
    case 'I': {
        READ(unsigned int, v);
        return PyLong_FromUnsignedLong(v);
    }
    case 'e': {
        double v = PyFloat_Unpack2(at, PY_LITTLE_ENDIAN);
        return v == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(v);
    }
    case 'f': {
        READ(float, v);
        return PyFloat_FromDouble(v);
    }
    case 'd': {
        READ(double, v);
        return PyFloat_FromDouble(v);
    }
    case 'Z':
        if (format[1] == 'f') {
            float v[2];
            memcpy(v, at, sizeof v);
            return PyComplex_FromDoubles(v[0], v[1]);
        } else {
            double v[2];
            memcpy(v, at, sizeof v);
            return PyComplex_FromDoubles(v[0], v[1]);
        }
    case 'L':
    case 'Q': {
        READ(unsigned long, v);
        return PyLong_FromUnsignedLong(v);
    }
    default: {
        READ(long, v);
        return PyLong_FromLong(v);
    }
    }
}

/* An int of `size` bytes. */
static int set_int(const char *format, Py_ssize_t size, char *at, PyObject *value, bool is_signed) {
    PyObject *number = PyNumber_Index(value);
    if (number == NULL) {
        return -1;
    }
    int overflow = 0;
    long long v = PyLong_AsLongLongAndOverflow(number, &overflow);
    unsigned long long u = (unsigned long long)v;
    bool fits;
    if (is_signed) {
        long long most = size == 8 ? LLONG_MAX : (1LL << (size * 8 - 1)) - 1;
        fits = overflow == 0 && v <= most && v >= -most - 1;
    } else if (overflow > 0 && size == 8) {
        u = PyLong_AsUnsignedLongLong(number);
        fits = !PyErr_Occurred();
        PyErr_Clear();
    } else {
        fits = overflow == 0 && v >= 0 && (size == 8 || v < 1LL << (size * 8));
    }
    if (fits) {
        memcpy(at, (const char *)&u + (PY_LITTLE_ENDIAN ? 0 : 8 - size), (size_t)size);
    } else {
        (void)out_of_range(format, number);
    }
    Py_DECREF(number);
    return fits ? 0 : -1;
}

static int set_complex(const char *format, char *at, PyObject *value) {
    Py_complex c = PyComplex_AsCComplex(value);
    if (c.real == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (format[1] == 'f') {
        float v[2] = {(float)c.real, (float)c.imag};
        memcpy(at, v, sizeof v);
    } else {
        double v[2] = {c.real, c.imag};
        memcpy(at, v, sizeof v);
    }
    return 0;
}

int atoll_element_set(const char *format, Py_ssize_t itemsize, char *at, PyObject *value) {
    Py_ssize_t size = size_of(format);
    if (size == 0) {
        return pack(format, itemsize, at, value);
    }
    switch (format[0]) {
    case '?': {
        int truth = PyObject_IsTrue(value);
        if (truth >= 0) {
            *at = (char)truth;
        }
        return truth < 0 ? -1 : 0;
    }
    case 'c':
        if (!PyBytes_Check(value) || PyBytes_GET_SIZE(value) != 1) {
            PyErr_Format(PyExc_TypeError, "an element of format 'c' is a bytes object of length 1, not %R",
                         value);
            return -1;
        }
        *at = PyBytes_AS_STRING(value)[0];
        return 0;
    case 'e':
    case 'f':
    case 'd': {
        double v = PyFloat_AsDouble(value);
        if (v == -1.0 && PyErr_Occurred()) {
            return -1;
        }
        if (format[0] == 'e') {
            return PyFloat_Pack2(v, at, PY_LITTLE_ENDIAN);
        }
        float narrow = (float)v;
        memcpy(at, format[0] == 'f' ? (const void *)&narrow : &v, (size_t)size);
        return 0;
    }
    case 'Z':
        return set_complex(format, at, value);
    default:
        return set_int(format, size, at, value, atoll_dtype_kind(format) == 'i');
    }
}

int atoll_dtype_explain(PyObject *obj, const char *what, const char *how) {
    PyObject *reason = PyErr_GetRaisedException();
    PyObject *dtype = PyObject_GetAttrString(obj, "dtype");
    PyObject *kind = dtype != NULL ? PyObject_GetAttrString(dtype, "kind") : NULL;
    PyErr_Clear();
    const char *letter = kind != NULL && PyUnicode_Check(kind) ? PyUnicode_AsUTF8(kind) : NULL;
    PyErr_Clear();
    const char *name = Py_TYPE(obj)->tp_name;
    if (letter == NULL) {
        PyErr_Format(PyExc_TypeError, "a %.100s cannot be %s: %S", name, what, reason);
    } else if (*letter == 'O') {
        PyErr_Format(PyExc_TypeError, "a %.100s of Python objects cannot be %s: %s its tolist()", name, what,
                     how);
    } else if (*letter == 'M' || *letter == 'm') {
        PyErr_Format(PyExc_TypeError, "a %.100s of %S cannot be %s: %s its view('int64')", name, dtype, what,
                     how);
    } else {
        PyErr_Format(PyExc_TypeError, "a %.100s of %S cannot be %s: %S", name, dtype, what, reason);
    }
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    Py_DECREF(reason);
    return -1;
}
