/* A function that is chosen by code which the dynamic linker runs while it relocates: no page of it can be left out. */
int chosen(void);

static int constructed;

static int choose_seven(void) { return 7 * constructed; }
__attribute__((used)) static int (*choose(void))(void) { return choose_seven; }
int chosen(void) __attribute__((ifunc("choose")));

__attribute__((constructor)) static void construct(void) { constructed++; }
