/* Static strings of CPython 3.12, interned ahead of time.
 *
 * CPython has a few hundred strings in static memory, one for each of the first 256 characters and one for each name that it uses
 * itself, which all interpreters share.  Those that were interned are in one table of the process, which every interpreter
 * looks into whenever it interns any string.  3.12 puts one in when it is first interned, by whichever interpreter, without
 * a lock: what another one reads at that moment may have been freed, and the entry lies in memory of the interpreter
 * that came first.  (A compiler interns "<lambda>", ".0" and the names of variables: so this happens when modules are
 * imported from source.)  3.13 fills the table before there is a second interpreter.
 *
 * So does this, in the main interpreter, before the first is made: after it, the table is only read.  The strings are found
 * where they are: in the runtime's state, of which only the name and the size are to be had.  py/frozen has them found in all versions.
 */
#include "py/memory/interned.h"

#include "port/port.h"

#include <string.h>

/* Whether what lies here is one of them: nothing else begins like this by chance. */
static bool is_static_string(const char *at, const char *end) {
    PyASCIIObject string;
    memcpy(&string, at, sizeof string);
    if (string.ob_base.ob_type != &PyUnicode_Type || !atoll_is_immortal(&string) ||
        !string.state.statically_allocated || !string.state.compact ||
        string.state.kind != PyUnicode_1BYTE_KIND) {
        return false;
    }
    size_t header = string.state.ascii ? sizeof(PyASCIIObject) : sizeof(PyCompactUnicodeObject);
    return (size_t)(end - at) > header && string.length >= 0 &&
           string.length < end - at - (Py_ssize_t)header && at[header + (size_t)string.length] == '\0';
}

void atoll_interned_each(void (*each)(PyObject *str)) {
    char *end = atoll_runtime + atoll_dl_symbol_size(atoll_runtime);
    for (char *at = atoll_runtime; at + sizeof(PyASCIIObject) < end; at += sizeof(void *)) {
        if (is_static_string(at, end)) {
            each((PyObject *)at);
        }
    }
}

static void intern(PyObject *string) { PyUnicode_InternInPlace(&string); /* as immortal as before */ }

void atoll_interned_init(void) {
    if (ATOLL_INTERNS_STATIC_STRINGS_LATE) {
        atoll_interned_each(intern);
    }
}
