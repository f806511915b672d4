/* A library that others need, with a version for each symbol (its SONAME): a clone of its user has to name the
 * clone of this one in its version needs, too.
 *
 * Linked with: -Wl,--default-symver
 */
static int calls;

int leaf_next(void);

int leaf_next(void) { return ++calls; }
