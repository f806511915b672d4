/* The part of capi_module.c that is about queues, shared memory and types. */
#ifndef TEST_CAPI_DATA_H
#define TEST_CAPI_DATA_H

#include <Python.h>

#include <atoll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- queues ---- */

static atomic_long released, released_bytes;

static void release_memory(void *data, size_t size, void *context) {
    if (context != NULL && strcmp(context, "context") != 0) {
        Py_FatalError("another context");
    }
    atomic_fetch_add(&released, 1);
    atomic_fetch_add(&released_bytes, (long)size);
    free(data);
}

/* released(): how often what was put was released, and how many bytes that were. */
static PyObject *count_released(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored)) {
    return Py_BuildValue("ll", atomic_load(&released), atomic_load(&released_bytes));
}

/* A thread that knows no Python, or this one, does something with a queue. */
typedef struct {
    atoll_queue *queue;
    const char *text;
    int times;
    double timeout;
    bool shared;
    int code;
    int kind;
    size_t bytes;
    char message[200];
} traffic;

static void *put_all(void *raw) {
    traffic *t = raw;
    size_t size = strlen(t->text);
    for (int i = 0; i < t->times && t->code == 0; i++) {
        if (t->shared) {
            atoll_shared *shared;
            t->code = atoll_shared_create(size, &shared);
            if (t->code == 0) {
                memcpy(atoll_shared_data(shared), t->text, size);
                t->code = atoll_queue_put_shared(t->queue, shared, t->timeout);
                atoll_shared_release(shared);
            }
            continue;
        }
        char *copy = malloc(size + 1);
        memcpy(copy, t->text, size);
        t->code = atoll_queue_put(t->queue, copy, size, release_memory, (void *)"context", t->timeout);
        if (t->code != 0) {
            free(copy);
        }
    }
    snprintf(t->message, sizeof t->message, "%s", t->code < 0 ? atoll_message() : "");
    return NULL;
}

static void *get_all(void *raw) {
    traffic *t = raw;
    for (int i = 0; i < t->times && t->code == 0; i++) {
        atoll_item item;
        t->code = atoll_queue_get(t->queue, &item, t->timeout);
        t->kind = item.kind;
        t->bytes += item.size;
        if (item.kind == ATOLL_ITEM_OPAQUE && item.release == NULL) {
            Py_FatalError("no release function");
        }
        atoll_item_release(&item);
        atoll_item_release(&item);
    }
    snprintf(t->message, sizeof t->message, "%s", t->code < 0 ? atoll_message() : "");
    return NULL;
}

static PyObject *run_traffic(PyObject *args, void *(*run)(void *), bool in_thread) {
    PyObject *object;
    traffic t = {.text = "", .times = 1, .timeout = -1};
    int shared = 0;
    pthread_t thread;
    if (!PyArg_ParseTuple(args, "O|sidp", &object, &t.text, &t.times, &t.timeout, &shared) ||
        atoll_queue_from_object(object, &t.queue) < 0) {
        return NULL;
    }
    t.shared = shared;
    if (in_thread) {
        Py_BEGIN_ALLOW_THREADS;
        pthread_create(&thread, NULL, run, &t);
        pthread_join(thread, NULL);
        Py_END_ALLOW_THREADS;
    } else {
        run(&t);
    }
    atoll_queue_release(t.queue);
    if (PyErr_Occurred()) {
        return NULL;
    }
    return Py_BuildValue("isin", t.code, t.message, t.kind, (Py_ssize_t)t.bytes);
}

/* put(queue, text, times, timeout, shared), get(queue, "", times, timeout): (code, message, the last kind, all bytes). */
static PyObject *put(PyObject *Py_UNUSED(self), PyObject *args) { return run_traffic(args, put_all, false); }
static PyObject *get(PyObject *Py_UNUSED(self), PyObject *args) { return run_traffic(args, get_all, false); }
static PyObject *put_in_thread(PyObject *Py_UNUSED(self), PyObject *args) {
    return run_traffic(args, put_all, true);
}
static PyObject *get_in_thread(PyObject *Py_UNUSED(self), PyObject *args) {
    return run_traffic(args, get_all, true);
}

static void *put_until_refused(void *queue) {
    const struct timespec pause = {.tv_nsec = 1000000};
    char *memory = malloc(8);
    while (atoll_queue_put(queue, memory, 8, release_memory, NULL, -1) == 0) {
        memory = malloc(8);
        (void)nanosleep(&pause, NULL);
    }
    free(memory);
    atoll_queue_release(queue);
    return NULL;
}

/* keep_putting(queue): a thread of this module's, which is not waited for, puts until that is refused. */
static PyObject *keep_putting(PyObject *Py_UNUSED(self), PyObject *object) {
    atoll_queue *queue;
    pthread_t thread;
    if (atoll_queue_from_object(object, &queue) < 0) {
        return NULL;
    }
    pthread_create(&thread, NULL, put_until_refused, queue);
    pthread_detach(thread);
    Py_RETURN_NONE;
}

/* look(queue): the first item: (kind, what C sees of it, readonly, what Python sees of it). */
static PyObject *look(PyObject *Py_UNUSED(self), PyObject *object) {
    atoll_queue *queue;
    atoll_item item;
    if (atoll_queue_from_object(object, &queue) < 0) {
        return NULL;
    }
    int code = atoll_queue_get(queue, &item, 0);
    atoll_queue_release(queue);
    if (code < 0) {
        return NULL;
    }
    PyObject *seen = atoll_item_object(&item);
    PyObject *result = NULL;
    if (seen != NULL) {
        result = Py_BuildValue("iy#iO", item.kind, (const char *)item.data, (Py_ssize_t)item.size,
                               item.readonly, seen);
        Py_DECREF(seen);
    }
    atoll_item_release(&item);
    return result;
}

/* new_queue(maxsize): an object for a queue that C has made, found once more by its id. */
static PyObject *new_queue(PyObject *Py_UNUSED(self), PyObject *args) {
    long long maxsize;
    atoll_queue *queue;
    atoll_queue *same;
    if (!PyArg_ParseTuple(args, "L", &maxsize) || atoll_queue_create(maxsize, &queue) < 0) {
        return NULL;
    }
    if (atoll_queue_find(atoll_queue_id(queue), &same) < 0) {
        return NULL;
    }
    if (queue != same || atoll_queue_count(queue) != 0) {
        Py_FatalError("another queue");
    }
    atoll_queue_release(same);
    PyObject *object = atoll_queue_object(queue);
    atoll_queue_release(queue);
    return object;
}

static PyObject *find_queue(PyObject *Py_UNUSED(self), PyObject *args) {
    long long id;
    atoll_queue *queue;
    if (!PyArg_ParseTuple(args, "L", &id) || atoll_queue_find(id, &queue) < 0) {
        return NULL;
    }
    atoll_queue_release(queue);
    Py_RETURN_NONE;
}

/* put_stream(queue): memory of the C library's, with a function of its as the one that releases it. */
static PyObject *put_stream(PyObject *Py_UNUSED(self), PyObject *object) {
    atoll_queue *queue;
    if (atoll_queue_from_object(object, &queue) < 0) {
        return NULL;
    }
    FILE *stream = fopen("/dev/null", "r");
    int (*function)(FILE *) = fclose; /* which does not mind more arguments */
    atoll_release_function release;
    memcpy(&release, &function, sizeof release);
    int code = atoll_queue_put(queue, stream, 1, release, NULL, 0);
    atoll_queue_release(queue);
    return code == 0 ? Py_NewRef(Py_None) : NULL;
}

/* shutdown(queue, drop) */
static PyObject *shut_queue(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *object;
    int drop;
    atoll_queue *queue;
    if (!PyArg_ParseTuple(args, "Op", &object, &drop) || atoll_queue_from_object(object, &queue) < 0) {
        return NULL;
    }
    atoll_queue_shutdown(queue, drop);
    atoll_queue_release(queue);
    Py_RETURN_NONE;
}

/* ---- shared memory ---- */

/* share(text): a SharedBuffer with it. */
static PyObject *share(PyObject *Py_UNUSED(self), PyObject *args) {
    const char *text;
    Py_ssize_t size;
    atoll_shared *shared;
    if (!PyArg_ParseTuple(args, "s#", &text, &size) || atoll_shared_create((size_t)size, &shared) < 0) {
        return NULL;
    }
    if (atoll_shared_size(shared) != (size_t)size || (uintptr_t)atoll_shared_data(shared) % 64 != 0) {
        Py_FatalError("another size or alignment");
    }
    if (size != 0) {
        memcpy(atoll_shared_data(shared), text, (size_t)size);
    }
    PyObject *object = atoll_shared_object(shared);
    atoll_shared_release(shared);
    return object;
}

/* increase(object): adds one to each byte of its memory; how many, and whether that is not allowed. */
static PyObject *increase(PyObject *Py_UNUSED(self), PyObject *object) {
    atoll_shared *shared;
    void *data;
    size_t size;
    int readonly;
    if (atoll_shared_from_object(object, &shared, &data, &size, &readonly) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < size && !readonly; i++) {
        ((unsigned char *)data)[i]++;
    }
    atoll_shared_release(shared);
    return Py_BuildValue("ni", (Py_ssize_t)size, readonly);
}

/* ---- a type ---- */

typedef struct {
    PyObject_HEAD
    double x, y;
} point;

static PyObject *point_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    point *self = (point *)type->tp_alloc(type, 0);
    if (self != NULL && !PyArg_ParseTuple(args, "dd", &self->x, &self->y)) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *point_repr(PyObject *self) {
    char text[100];
    snprintf(text, sizeof text, "Point(%g, %g)", ((point *)self)->x, ((point *)self)->y);
    return PyUnicode_FromString(text);
}

static void point_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot point_slots[] = {
    {Py_tp_new, (void *)point_new},
    {Py_tp_repr, (void *)point_repr},
    {Py_tp_dealloc, (void *)point_dealloc},
    {0, NULL},
};

static PyType_Spec point_spec = {MODULE ".Point", sizeof(point), 0, Py_TPFLAGS_DEFAULT, point_slots};

static PyObject *encode_point(PyObject *object) {
    const point *self = (point *)object;
    if (self->x < 0) {
        PyErr_SetString(PyExc_ValueError, "points with a negative x stay at home");
        return NULL;
    }
    return Py_BuildValue("dd", self->x, self->y);
}

/* The type is the interpreter's: found in its module. */
static PyObject *decode_point(PyObject *value) {
    PyObject *module = PyImport_ImportModule(MODULE);
    PyObject *type = module != NULL ? PyObject_GetAttrString(module, "Point") : NULL;
    PyObject *result = type != NULL ? PyObject_CallObject(type, value) : NULL;
    Py_XDECREF(type);
    Py_XDECREF(module);
    return result;
}

/* register(type): any, in the same way. */
static PyObject *register_any(PyObject *Py_UNUSED(self), PyObject *type) {
    return atoll_register(type, encode_point, decode_point) < 0 ? NULL : Py_NewRef(Py_None);
}

#endif
