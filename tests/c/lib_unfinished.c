/* As an extension module: needs a library that is cloned, and one that touches this file while it is being loaded.
 *
 * Linked with: -l:lib_closes.so -l:lib_touches.so
 */
int closes_initialized(void);
int touches_next(void);
int Py_IsInitialized(void);
int unfinished_initialized(void);

int unfinished_initialized(void) {
    return touches_next() > 0 && Py_IsInitialized() == closes_initialized() ? Py_IsInitialized() : -1;
}
