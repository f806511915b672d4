/* Needs no clone; lib_uses_python needs it, and so it is loaded for good. */
int plain_next(void);

static int calls;

int plain_next(void) { return ++calls; }
