/* The helper libraries' functions. */
#ifndef EXT_LIBS_H
#define EXT_LIBS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LIB_EXPORT __attribute__((visibility("default")))

LIB_EXPORT long lib_state_bump(void);
LIB_EXPORT PyObject *lib_state_append(PyObject *item);
LIB_EXPORT int64_t lib_state_built_in(void);
LIB_EXPORT void *lib_state_address(void);

LIB_EXPORT long lib_middle_bump(void);
LIB_EXPORT void *lib_middle_address(void);

LIB_EXPORT long lib_plain_double(long value);
LIB_EXPORT void *lib_plain_address(void);

LIB_EXPORT void lib_keeper_keep(void *what);
LIB_EXPORT void *lib_keeper_last(void);
LIB_EXPORT long (*lib_keeper_handle(long (*function)(long)))(long);
LIB_EXPORT int sqlite3_auto_extension(void (*function)(void));
LIB_EXPORT long lib_keeper_run(void);
LIB_EXPORT void lib_keeper_close_with(int (*function)(FILE *stream));
LIB_EXPORT int lib_keeper_close(void);
LIB_EXPORT long lib_keeper_call(long number);
LIB_EXPORT void lib_keeper_handle_here(long (*function)(long));
LIB_EXPORT long lib_keeper_call_here(long number);
LIB_EXPORT int lib_keeper_guard(void);

LIB_EXPORT void lib_missing(void);

LIB_EXPORT long lib_runtime_bump(void);

#ifdef __cplusplus
}

/* lib_throw.cc: thrown there, caught in the extension. */
namespace lib {
struct LIB_EXPORT Error {
    explicit Error(long code_) : code(code_) {}
    virtual ~Error();
    virtual const char *what() const;
    long code;
};
LIB_EXPORT void fail(long code); /* throws Error */
/* Passes on what the function throws, and has a destructor to run then; how often that ran. */
LIB_EXPORT void call_back(void (*function)());
LIB_EXPORT long unwound();
/* What the library's constructor got from weak(). */
LIB_EXPORT long constructed();

/* In the library and in the extension, as templates are: the dynamic linker takes the first that it finds, which
   is the extension's while that is being loaded, perhaps before its code may run. */
template <class T> LIB_EXPORT __attribute__((noinline)) long weak(T value) { return 3 * value + 1; }
} // namespace lib
#endif

#endif
