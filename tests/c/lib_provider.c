/* Has a symbol that a clone of lib_user looks for under another name: in lib_own. */
int provided(void);

int provided(void) { return 1; }
