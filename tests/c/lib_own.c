/* Has what lib_provider has, under the name that a clone of lib_user looks for. */
int own_provided(void);

int own_provided(void) { return 2; }
