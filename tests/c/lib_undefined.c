/* Cannot be loaded: what it calls is nowhere.  It needs a library that is cloned, and can be.
 *
 * Linked with: -Wl,-z,now -l:lib_holder.so
 */
int holder_next(void);
int nowhere_to_be_found(void);
int undefined_next(void);

int undefined_next(void) { return holder_next() + nowhere_to_be_found(); }
