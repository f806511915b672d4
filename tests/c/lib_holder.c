/* A library that calls Python, so that each interpreter gets a clone of it. */
int Py_IsInitialized(void);
int holder_next(void);
int holder_initialized(void);

static int count;

int holder_next(void) { return ++count; }
int holder_initialized(void) { return Py_IsInitialized(); }
