/* Never loaded: lib_circle_a is linked with it instead of lib_circle_b, which is linked with lib_circle_a.
 *
 * Linked with: -Wl,-soname,lib_circle_b.so
 */
int circle_b_next(void);

int circle_b_next(void) { return 0; }
