/* What exec() runs.
 *
 * Compiling `pass` takes several times as long as running it in another interpreter, so each interpreter keeps the code of
 * the last scripts it ran: a direct-mapped table keyed by the text itself, compared whole.  A text that is not
 * there is compiled in the caller, where its SyntaxError and SyntaxWarnings belong, and crosses as
 * marshalled code.  Code objects and functions are keyed by their marshalled form, and so is source in bytes, which is
 * compiled at once: its encoding is the compiler's to find, as in a file.
 *
 * The key's bytes belong to an immutable str or bytes object of the caller, which holds a reference until the
 * exec() is over; the target compares and copies them, nothing else.
 */
#include "py/interp/run.h"

#define KEEP_BYTES (64 * 1024) /* longer scripts are compiled every time */

static const char script_name[] = "<script>";
static const char has_nul[] = "source code string cannot contain null bytes";

/* Whether the first line that is not blank is indented. */
static bool is_indented(const char *text, Py_ssize_t len) {
    bool indent = false;
    for (Py_ssize_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '\n' || c == '\r') {
            indent = false;
        } else if (c == ' ' || c == '\t' || c == '\f') {
            indent = true;
        } else {
            return indent;
        }
    }
    return false;
}

static int key_of_source(PyObject *source, bool dedent, atoll_script_key *key) {
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(source, &len);
    if (text == NULL) {
        return -1;
    }
    if (memchr(text, '\0', (size_t)len) != NULL) {
        PyErr_SetString(PyExc_SyntaxError, has_nul);
        return -1;
    }
    int kind = dedent && is_indented(text, len) ? ATOLL_SCRIPT_DEDENT : ATOLL_SCRIPT_SOURCE;
    *key = (atoll_script_key){Py_NewRef(source), text, len, PyObject_Hash(source), kind};
    return 0;
}

/* 0 when code can run as a script, else -1 with ValueError. */
static int check_code(PyCodeObject *code, PyObject *closure) {
    const char *why = NULL;
    if (closure != NULL || PyCode_GetNumFree(code) != 0) {
        why = "closures not supported";
    } else if (code->co_argcount != 0 || code->co_kwonlyargcount != 0 ||
               (code->co_flags & (CO_VARARGS | CO_VARKEYWORDS)) != 0) {
        why = "code with args not supported";
    } else if ((code->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)) != 0) {
        why = "generators and coroutines not supported";
    }
    if (why != NULL) {
        PyErr_Format(PyExc_ValueError, "%U: %s", code->co_qualname, why);
        return -1;
    }
    PyObject *helper = PyImport_ImportModule("atoll._interp.script");
    PyObject *answer = helper != NULL ? PyObject_CallMethod(helper, "returns_value", "O", code) : NULL;
    Py_XDECREF(helper);
    if (answer == NULL) {
        return -1;
    }
    int returns = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    if (returns > 0) {
        PyErr_Format(PyExc_ValueError, "%U: code that returns a value is not a script", code->co_qualname);
    }
    return returns == 0 ? 0 : -1;
}

static int key_of_code(PyObject *code, PyObject *closure, atoll_script_key *key) {
    if (check_code((PyCodeObject *)code, closure) < 0) {
        return -1;
    }
    PyObject *bytes = atoll_code_bytes(code);
    const atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (bytes == NULL && state != NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Format(state->not_shareable,
                     "%U: code with constants that marshal cannot write is not shareable",
                     ((PyCodeObject *)code)->co_qualname);
    }
    if (bytes == NULL) {
        return -1;
    }
    *key = (atoll_script_key){bytes, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes), PyObject_Hash(bytes),
                              ATOLL_SCRIPT_CODE};
    return 0;
}

/* Bytes, or what shows its memory as bytes. */
static int key_of_bytes(PyObject *source, atoll_script_key *key) {
    PyObject *bytes = PyBytes_FromObject(source);
    PyObject *code = NULL;
    if (bytes != NULL && strlen(PyBytes_AS_STRING(bytes)) != (size_t)PyBytes_GET_SIZE(bytes)) {
        PyErr_SetString(PyExc_SyntaxError, has_nul);
    } else if (bytes != NULL) {
        code = Py_CompileString(PyBytes_AS_STRING(bytes), script_name, Py_file_input);
    }
    Py_XDECREF(bytes);
    int rc = code != NULL ? key_of_code(code, NULL, key) : -1;
    Py_XDECREF(code);
    return rc;
}

int atoll_script_key_of(PyObject *code, bool dedent, atoll_script_key *key) {
    if (PyUnicode_Check(code)) {
        return key_of_source(code, dedent, key);
    }
    if (PyObject_CheckBuffer(code)) {
        return key_of_bytes(code, key);
    }
    if (PyFunction_Check(code)) {
        return key_of_code(PyFunction_GET_CODE(code), PyFunction_GET_CLOSURE(code), key);
    }
    if (PyCode_Check(code)) {
        return key_of_code(code, NULL, key);
    }
    PyErr_Format(PyExc_TypeError, "code must be a str, bytes, a code object or a function, not %.200s: %R",
                 Py_TYPE(code)->tp_name, code);
    return -1;
}

PyObject *atoll_script_compile(const atoll_script_key *key) {
    if (key->kind == ATOLL_SCRIPT_CODE) {
        return Py_NewRef(key->holder);
    }
    PyObject *source = Py_NewRef(key->holder);
    if (key->kind == ATOLL_SCRIPT_DEDENT) {
        PyObject *textwrap = PyImport_ImportModule("textwrap");
        Py_SETREF(source, textwrap != NULL ? PyObject_CallMethod(textwrap, "dedent", "O", source) : NULL);
        Py_XDECREF(textwrap);
    }
    const char *text = source != NULL ? PyUnicode_AsUTF8(source) : NULL;
    /* As for exec(): text has no encoding any more, whatever a comment at its beginning says. */
    PyCompilerFlags flags = {.cf_flags = PyCF_SOURCE_IS_UTF8 | PyCF_IGNORE_COOKIE};
    PyObject *code = text != NULL ? Py_CompileStringFlags(text, script_name, Py_file_input, &flags) : NULL;
    Py_XDECREF(source);
    PyObject *bytes = code != NULL ? atoll_code_bytes(code) : NULL;
    Py_XDECREF(code);
    return bytes;
}

static atoll_script *slot_of(atoll_state *state, const atoll_script_key *key) {
    return &state->scripts[(size_t)key->hash % ATOLL_SCRIPT_CACHE];
}

PyObject *atoll_script_find(atoll_state *state, const atoll_script_key *key) {
    atoll_script *slot = slot_of(state, key);
    if (slot->code != NULL && slot->hash == key->hash && slot->kind == key->kind && slot->len == key->len &&
        memcmp(slot->text, key->text, (size_t)key->len) == 0) {
        return slot->code;
    }
    return NULL;
}

static void slot_clear(atoll_script *slot) {
    PyObject *code = slot->code;
    PyMem_Free(slot->text);
    *slot = (atoll_script){0};
    Py_XDECREF(code);
}

PyObject *atoll_script_keep(atoll_state *state, const atoll_script_key *key, const char *code,
                            Py_ssize_t len) {
    PyObject *object = PyMarshal_ReadObjectFromString(code, len);
    if (object == NULL) {
        return NULL;
    }
    if (!PyCode_Check(object)) {
        Py_DECREF(object);
        PyErr_SetString(PyExc_TypeError, "a script must be code");
        return NULL;
    }
    atoll_script *slot = slot_of(state, key);
    slot_clear(slot);
    slot->code = object;
    slot->text = key->len <= KEEP_BYTES ? PyMem_Malloc((size_t)key->len + 1) : NULL;
    if (slot->text != NULL) {
        memcpy(slot->text, key->text, (size_t)key->len);
        slot->hash = key->hash;
        slot->len = key->len;
        slot->kind = key->kind;
    }
    return object; /* kept alive by the slot, which kind 0 makes unfindable when there is no text */
}

void atoll_script_clear(atoll_state *state) {
    for (int i = 0; i < ATOLL_SCRIPT_CACHE; i++) {
        slot_clear(&state->scripts[i]);
    }
}
