/* Calls Python; it and lib_circle_b need each other.
 *
 * Linked with: -Wl,--no-as-needed -l:lib_arc.so
 */
int Py_IsInitialized(void);
int circle_a_next(void);
int circle_b_next(void);
int circle_a_initialized(void);

static int count;

int circle_a_next(void) { return ++count + 100 * circle_b_next(); }
int circle_a_initialized(void) { return Py_IsInitialized(); }
