/* A host program that serves requests from a pool of interpreters, as a web server with a Python module does.  Its threads are its own, and know no
 * Python; each request is served in the interpreter that is next, by the function `serve` of a script.
 *
 *   LD_PRELOAD=serve.so ATOLL_TEST_HOST=1 python WHAT SCRIPT INTERPRETERS THREADS REQUESTS
 *
 * WHAT: serve; or what else is to happen: see host().  It prints a line for each thing that it has seen, and at last that it goes on.
 */
#include "embed.h"

#include <atoll.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 64 };

static char *script;
static int n_interps, n_threads, n_requests;
static atoll_interp *interps[MOST];
static atomic_int next_request, served, failed;

static void fail(const char *what) {
    printf("%s: %s\n", what, atoll_message());
    atomic_fetch_add(&failed, 1);
}

static void say(const char *what, long number) {
    printf("%s %ld\n", what, number);
    fflush(stdout);
}

/* In an interpreter: reads the script, whose names are those of __main__ from then on.  0 or -1 with an exception. */
static int load_script(void) {
    FILE *file = fopen(script, "r");
    PyObject *dict = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *done = file != NULL ? PyRun_File(file, script, Py_file_input, dict, dict) : NULL;
    if (file != NULL) {
        fclose(file);
    }
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* In an interpreter: serve(number), which has to return number + 1.  0 or -1 with an exception. */
static int serve_one(int number) {
    PyObject *dict = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *function = PyDict_GetItemString(dict, "serve"); /* borrowed */
    PyObject *result = function != NULL ? PyObject_CallFunction(function, "i", number) : NULL;
    long answer = result != NULL ? PyLong_AsLong(result) : -1;
    Py_XDECREF(result);
    return answer == number + 1 ? 0 : -1;
}

static void *serve_requests(void *Py_UNUSED(arg)) {
    int number;
    while ((number = atomic_fetch_add(&next_request, 1)) < n_requests) {
        atoll_visit *visit;
        if (atoll_enter(interps[number % n_interps], &visit) < 0) {
            fail("enter");
            continue;
        }
        int rc = serve_one(number);
        if (atoll_leave(visit) < 0 || rc < 0) {
            fail("leave");
            continue;
        }
        atomic_fetch_add(&served, 1);
    }
    return NULL;
}

/* Attached to main: Python has begun. */
static void make_pool(void) {
    if (atoll_import() < 0) {
        PyErr_Print();
        exit(98);
    }
    for (int i = 0; i < n_interps; i++) {
        char name[16];
        snprintf(name, sizeof name, "server %d", i);
        const atoll_options options = {.size = sizeof options, .name = name};
        atoll_visit *visit;
        if (atoll_create(&options, &interps[i]) < 0 || atoll_enter(interps[i], &visit) < 0) {
            PyErr_Print();
            exit(97);
        }
        int rc = load_script();
        if (atoll_leave(visit) < 0 || rc < 0) {
            PyErr_Print();
            exit(96);
        }
    }
}

static void run_threads(void *(*run)(void *)) {
    pthread_t threads[MOST];
    for (int i = 0; i < n_threads; i++) {
        pthread_create(&threads[i], NULL, run, NULL);
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void close_pool(void) {
    for (int i = 0; i < n_interps; i++) {
        if (atoll_close(interps[i], 60, 0) < 0) {
            PyErr_Print();
            fail("close");
        }
        atoll_release(interps[i]);
    }
}

/* Python has no thread state attached while the threads serve: the program's main thread waits for them. */
static void serve(void) {
    make_pool();
    atomic_store(&next_request, 0);
    PyThreadState *main_state = PyEval_SaveThread();
    run_threads(serve_requests);
    PyEval_RestoreThread(main_state);
    close_pool();
    say("served", atomic_load(&served));
    say("failed", atomic_load(&failed));
}

/* ---- a thread that is inside when something happens to it ---- */

static int is_in[2], may_go[2]; /* pipes */
static atoll_visit *stay_visit;

static void tell(int fd) { (void)!write(fd, "!", 1); }

static void await(int fd) {
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EINTR) { /* an interrupt makes system calls return */
    }
}

static void *stay_inside(void *Py_UNUSED(arg)) {
    if (atoll_enter(interps[0], &stay_visit) < 0) {
        fail("enter");
        tell(is_in[1]);
        return NULL;
    }
    PyThreadState *tstate = PyEval_SaveThread();
    tell(is_in[1]);
    await(may_go[0]);
    PyEval_RestoreThread(tstate);
    (void)atoll_leave(stay_visit);
    return NULL;
}

/* A thread is inside when Python ends; it goes on afterwards. */
static void end_while_inside(void) {
    pthread_t thread;
    make_pool();
    pthread_create(&thread, NULL, stay_inside, NULL);
    await(is_in[0]);
    say("finalize", Py_FinalizeEx());
    atoll_visit *visit;
    say("enter", atoll_enter(interps[0], &visit));
    say("leave", atoll_leave(stay_visit));
    atoll_interp *interp;
    say("create", atoll_create(NULL, &interp));
    say("close", atoll_close(interps[0], 0, 1));
    say("find", atoll_find(0, &interp));
    say("current", (long)atoll_current_id());
    atoll_release(interps[0]);
    tell(may_go[1]);
}

/* A thread waits for a queue while Python ends, and queues and memory go on without. */
static atoll_queue *queue;
static atomic_int given_back;

static void give_back(void *data, size_t size, void *context) {
    atomic_fetch_add(&given_back, (int)size);
    free(data);
    (void)context;
}

static void *await_items(void *Py_UNUSED(arg)) {
    atoll_item item;
    int kinds = 0;
    tell(is_in[1]);
    while (atoll_queue_get(queue, &item, -1) == 0) {
        kinds += item.kind;
        atoll_item_release(&item);
    }
    say("kinds", kinds);
    return NULL;
}

static void put_bytes(void) {
    if (atoll_queue_put(queue, malloc(10), 10, give_back, NULL, -1) < 0) {
        fail("put");
    }
}

static void queues_after_end(void) {
    pthread_t thread;
    atoll_shared *shared;
    make_pool();
    if (atoll_queue_create(0, &queue) < 0 || atoll_shared_create(100, &shared) < 0) {
        fail("create");
    }
    pthread_create(&thread, NULL, await_items, NULL);
    await(is_in[0]);
    PyObject *object = atoll_queue_object(queue);
    Py_XDECREF(PyObject_CallMethod(object, "put", "y", "abc"));
    Py_XDECREF(PyObject_CallMethod(object, "put", "i", 3));
    Py_DECREF(object);
    put_bytes();
    while (atoll_queue_count(queue) != 0) { /* what is left at the end of who has put it is unbound */
        usleep(1000);
    }
    close_pool();
    say("finalize", Py_FinalizeEx());
    put_bytes();
    if (atoll_queue_put_shared(queue, shared, 0) < 0) {
        fail("put");
    }
    atoll_shared_release(shared);
    atoll_queue_shutdown(queue, 0);
    pthread_join(thread, NULL);
    say("object", atoll_queue_object(queue) != NULL);
    atoll_queue_release(queue);
    if (atoll_queue_create(0, &queue) < 0) {
        fail("create");
    }
    put_bytes();
    atoll_queue_release(queue);
    say("given back", atomic_load(&given_back));
    say("failed", atomic_load(&failed));
}

/* References of one Python are used when the next one has begun. */
static void begin_again(const char *program) {
    make_pool();
    PyThreadState *main_state = PyEval_SaveThread();
    run_threads(serve_requests);
    PyEval_RestoreThread(main_state);
    atoll_interp *before = interps[0];
    atoll_retain(before);
    close_pool();
    say("finalize", Py_FinalizeEx());
    begin(program);
    make_pool();
    atoll_visit *visit;
    say("enter", atoll_enter(before, &visit));
    PyErr_Clear();
    say("same id", atoll_id(before) == atoll_id(interps[0]));
    atoll_release(before);
    atomic_store(&next_request, 0);
    main_state = PyEval_SaveThread();
    run_threads(serve_requests);
    PyEval_RestoreThread(main_state);
    close_pool();
    say("served", atomic_load(&served));
    say("failed", atomic_load(&failed));
}

/* The process is forked by a thread inside of an interpreter, which it has entered from another one. */
static void *fork_inside(void *Py_UNUSED(arg)) {
    atoll_visit *outer;
    atoll_visit *visit;
    if (atoll_enter(interps[2], &outer) < 0 || atoll_enter(interps[0], &visit) < 0) {
        fail("enter");
        return NULL;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        atoll_visit *other;
        say("child: leave", atoll_leave(visit));
        say("child: leave", atoll_leave(outer));
        say("child: enter", atoll_enter(interps[1], &other));
        fflush(stdout);
        _exit(0);
    }
    int status = -1;
    PyThreadState *tstate = PyEval_SaveThread();
    waitpid(child, &status, 0);
    PyEval_RestoreThread(tstate);
    say("child", status);
    say("leave", atoll_leave(visit));
    say("leave", atoll_leave(outer));
    return NULL;
}

/* The process ends while a thread is inside, without the end of Python. */
static void *exit_inside(void *Py_UNUSED(arg)) {
    atoll_visit *visit;
    if (atoll_enter(interps[0], &visit) < 0) {
        fail("enter");
    }
    say("exit", 0);
    exit(0);
}

/* Threads enter, again and again, while the interpreters are closed. */
static atomic_int closed;

static void *enter_until_closed(void *Py_UNUSED(arg)) {
    int code = 0;
    int number = 0;
    while (code != ATOLL_NOT_FOUND) {
        atoll_visit *visit;
        code = atoll_enter(interps[0], &visit);
        if (code == 0 && (serve_one(++number) < 0 || atoll_leave(visit) < 0)) {
            fail("leave");
        }
    }
    atomic_fetch_add(&closed, 1);
    return NULL;
}

static void *close_first(void *Py_UNUSED(arg)) {
    int code;
    while ((code = atoll_close(interps[0], 0.01, 0)) == ATOLL_ERROR) {
    }
    if (code != 0) {
        fail("close");
    }
    return NULL;
}

static void close_meanwhile(void) {
    pthread_t closer;
    make_pool();
    PyThreadState *main_state = PyEval_SaveThread();
    pthread_create(&closer, NULL, close_first, NULL);
    run_threads(enter_until_closed);
    pthread_join(closer, NULL);
    PyEval_RestoreThread(main_state);
    say("closed", atomic_load(&closed));
    say("failed", atomic_load(&failed));
}

static int host(int argc, char **argv) {
    if (argc != 6) {
        return 95;
    }
    const char *what = argv[1];
    script = argv[2];
    n_interps = atoi(argv[3]);
    n_threads = atoi(argv[4]);
    n_requests = atoi(argv[5]);
    if (pipe(is_in) < 0 || pipe(may_go) < 0) {
        return 94;
    }
    begin(argv[0]);
    if (strcmp(what, "serve") == 0) {
        serve();
    } else if (strcmp(what, "end while inside") == 0) {
        end_while_inside();
    } else if (strcmp(what, "begin again") == 0) {
        begin_again(argv[0]);
    } else if (strcmp(what, "queues after end") == 0) {
        queues_after_end();
    } else if (strcmp(what, "close meanwhile") == 0) {
        close_meanwhile();
    } else {
        make_pool();
        PyThreadState *main_state = PyEval_SaveThread();
        run_threads(strcmp(what, "fork inside") == 0 ? fork_inside : exit_inside);
        PyEval_RestoreThread(main_state);
    }
    if (Py_IsInitialized()) {
        say("finalize", Py_FinalizeEx());
    }
    printf("host goes on\n");
    fflush(stdout);
    return 0;
}
