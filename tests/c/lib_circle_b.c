/* Does not call Python; it and lib_circle_a need each other.
 *
 * Linked with: -Wl,--no-as-needed -l:lib_circle_a.so
 */
int circle_a_initialized(void);
int circle_b_next(void);
int circle_b_initialized(void);

static int count;

int circle_b_next(void) { return ++count; }
int circle_b_initialized(void) { return circle_a_initialized(); }
