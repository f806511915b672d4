/* Streams of clones (shim.c).
 *
 * The C library flushes every stream that is open when the process ends, or when somebody asks it to: through functions and into
 * memory that the stream was opened with.  Those of a clone's will be gone.  A buffer can be the C library's own instead.  A
 * stream whose functions or whose memory are a clone's cannot: it is counted until it is closed, and as long as there is one the
 * clones stay (core/clone/unload.c).
 */
#include "shim/shim_internal.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

EXPORT int atoll_setvbuf(FILE *stream, char *buffer, int mode, size_t size);
EXPORT int atoll_setvbuf(FILE *stream, char *buffer, int mode, size_t size) {
    bool goes = buffer != NULL && shim->original(shim->owner, buffer) != NULL;
    return setvbuf(stream, goes ? NULL : buffer, mode, size);
}

EXPORT void atoll_setbuffer(FILE *stream, char *buffer, size_t size);
EXPORT void atoll_setbuffer(FILE *stream, char *buffer, size_t size) {
    (void)atoll_setvbuf(stream, buffer, buffer != NULL ? _IOFBF : _IONBF, size);
}

EXPORT void atoll_setbuf(FILE *stream, char *buffer);
EXPORT void atoll_setbuf(FILE *stream, char *buffer) { atoll_setbuffer(stream, buffer, BUFSIZ); }

/* ---- streams that lead into clones ---- */

typedef struct open_stream {
    struct open_stream *next;
    FILE *stream;
} open_stream;

static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static open_stream *open_streams; /* is empty when the shim is unloaded */

/* Puts it on the list. NULL, and it is closed: out of memory. */
static FILE *watched(FILE *stream) {
    open_stream *item = stream != NULL ? malloc(sizeof *item) : NULL;
    if (item == NULL) {
        if (stream != NULL) {
            (void)fclose(stream);
        }
        return NULL;
    }
    (void)pthread_mutex_lock(&streams_lock);
    *item = (open_stream){open_streams, stream};
    open_streams = item;
    (void)pthread_mutex_unlock(&streams_lock);
    return stream;
}

EXPORT FILE *atoll_fopencookie(void *cookie, const char *mode, cookie_io_functions_t functions);
EXPORT FILE *atoll_fopencookie(void *cookie, const char *mode, cookie_io_functions_t functions) {
    return watched(fopencookie(cookie, mode, functions));
}

EXPORT FILE *atoll_fmemopen(void *memory, size_t size, const char *mode);
EXPORT FILE *atoll_fmemopen(void *memory, size_t size, const char *mode) {
    FILE *stream = fmemopen(memory, size, mode);
    return memory != NULL && shim->original(shim->owner, memory) != NULL ? watched(stream) : stream;
}

EXPORT int atoll_fclose(FILE *stream);
EXPORT int atoll_fclose(FILE *stream) {
    (void)pthread_mutex_lock(&streams_lock);
    open_stream **link = &open_streams;
    while (*link != NULL && (*link)->stream != stream) {
        link = &(*link)->next;
    }
    open_stream *item = *link;
    if (item != NULL) {
        *link = item->next;
    }
    (void)pthread_mutex_unlock(&streams_lock);
    free(item);
    return fclose(stream);
}

EXPORT int atoll_shim_has_streams(void);
EXPORT int atoll_shim_has_streams(void) {
    (void)pthread_mutex_lock(&streams_lock);
    int any = open_streams != NULL;
    (void)pthread_mutex_unlock(&streams_lock);
    return any;
}
