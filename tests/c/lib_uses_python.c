/* As an extension module: calls Python, starts threads, and needs a library that is cloned and one that is not.
 *
 * Linked with: -l:lib_holder.so -l:lib_plain.so
 */
#include <pthread.h>
#include <unistd.h>

int holder_next(void);
int holder_initialized(void);
int plain_next(void);
int Py_IsInitialized(void);

int module_holder(void);
int module_holder_initialized(void);
int module_plain(void);
int module_initialized(void);
int module_processors(void);
int module_start(int reader);
int module_constructed(void);

static int constructed;

__attribute__((constructor)) static void construct(void) { constructed++; }

int module_holder(void) { return holder_next(); }
int module_holder_initialized(void) { return holder_initialized(); }
int module_plain(void) { return plain_next(); }
int module_initialized(void) { return Py_IsInitialized(); }
int module_processors(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
int module_constructed(void) { return constructed; }

static void *wait_for_end(void *arg) {
    char byte;
    return read((int)(long)arg, &byte, 1) == 0 ? (void *)0 : arg;
}

/* A thread that ends when nobody can write to the pipe any more. */
int module_start(int reader) {
    pthread_t thread;
    int rc = pthread_create(&thread, (void *)0, wait_for_end, (void *)(long)reader);
    return rc == 0 ? pthread_detach(thread) : rc;
}
