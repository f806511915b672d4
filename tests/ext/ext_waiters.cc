// Threads that wait for something to do and are never told to end, one for each way of waiting, and a pool in a static variable,
// whose destructor tells them and joins them.
#include "ext.h"

#include <atomic>
#include <condition_variable>
#include <linux/futex.h>
#include <memory>
#include <mutex>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <string>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <thread>
#include <threads.h>
#include <time.h>
#include <unistd.h>

namespace {

std::atomic<long> idle;

const timespec hour = {3600, 0};
std::mutex lock;
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
// Never destroyed, like that of any program which ends while threads wait: its destructor would wait for them.
std::condition_variable &changed = *new std::condition_variable;
sem_t semaphore;
uint32_t word;

timespec in_an_hour(clockid_t clock) {
    timespec until;
    clock_gettime(clock, &until);
    until.tv_sec += 3600;
    return until;
}

// A waiter's frames own something, which is lost with it, and has a destructor, which must not run.
struct Owned {
    ~Owned() { _exit(77); }
};

void wait_once(const std::string &kind, int epoll) {
    timespec until = in_an_hour(CLOCK_REALTIME);
    if (kind == "condition_variable") {
        std::unique_lock<std::mutex> held(lock);
        changed.wait(held);
    } else if (kind == "condition_variable_for") {
        std::unique_lock<std::mutex> held(lock);
        changed.wait_for(held, std::chrono::hours(1));
    } else if (kind == "pthread_cond_wait") {
        pthread_mutex_lock(&mutex);
        pthread_cond_wait(&condition, &mutex);
        pthread_mutex_unlock(&mutex);
    } else if (kind == "pthread_cond_timedwait") {
        pthread_mutex_lock(&mutex);
        pthread_cond_timedwait(&condition, &mutex, &until);
        pthread_mutex_unlock(&mutex);
    } else if (kind == "cnd_wait") {
        static cnd_t changed;
        static mtx_t held;
        mtx_lock(&held);
        cnd_wait(&changed, &held);
        mtx_unlock(&held);
    } else if (kind == "sem_wait") {
        sem_wait(&semaphore);
    } else if (kind == "sem_timedwait") {
        sem_timedwait(&semaphore, &until);
    } else if (kind == "poll") {
        poll(nullptr, 0, 3600'000);
    } else if (kind == "select") {
        timeval time = {3600, 0};
        select(0, nullptr, nullptr, nullptr, &time);
    } else if (kind == "epoll_wait") {
        epoll_event event;
        epoll_wait(epoll, &event, 1, -1);
    } else if (kind == "nanosleep") {
        nanosleep(&hour, nullptr);
    } else if (kind == "clock_nanosleep") {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, nullptr);
    } else if (kind == "sleep_for") {
        std::this_thread::sleep_for(std::chrono::hours(1));
    } else if (kind == "futex") {
        syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, nullptr, nullptr, 0);
    } else if (kind == "yield") {
        sched_yield();
    } else { // all signals blocked, and inherited so, as jemalloc's
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
        std::thread([] {
            Owned owned;
            idle++;
            for (;;) {
                pthread_mutex_lock(&mutex);
                pthread_cond_wait(&condition, &mutex);
                pthread_mutex_unlock(&mutex);
            }
        }).detach();
        nanosleep(&hour, nullptr);
    }
}

// start(kind): a thread that waits.
PyObject *start(PyObject *, PyObject *arg) {
    std::string kind = PyUnicode_AsUTF8(arg);
    int epoll = epoll_create1(0);
    std::thread([kind, epoll] {
        Owned owned;
        idle++;
        for (;;) {
            wait_once(kind, epoll);
        }
    }).detach();
    Py_RETURN_NONE;
}

class Pool {
  public:
    ~Pool() {
        std::unique_lock<std::mutex> held(lock);
        over = true;
        changed.notify_all();
        held.unlock();
        thread.join();
    }

  private:
    std::mutex lock;
    std::condition_variable changed;
    bool over = false;
    std::thread thread = std::thread([this] {
        std::unique_lock<std::mutex> held(lock);
        idle++;
        changed.wait(held, [this] { return over; });
    });
};

// start_pool(): one whose destructor ends its thread.
PyObject *start_pool(PyObject *, PyObject *) {
    static auto pool = std::make_shared<Pool>();
    Py_RETURN_NONE;
}

// occupy(reader): a thread that is busy as long as nothing comes from the pipe.
PyObject *occupy(PyObject *, PyObject *arg) {
    int reader = static_cast<int>(PyLong_AsLong(arg));
    std::thread([reader] {
        char byte;
        idle++;
        while (read(reader, &byte, 1) < 0) {
        }
    }).detach();
    Py_RETURN_NONE;
}

PyObject *count_idle(PyObject *, PyObject *) { return PyLong_FromLong(idle); }

PyMethodDef methods[] = {EXT_METHODS,
                         {"start", start, METH_O, nullptr},
                         {"start_pool", start_pool, METH_NOARGS, nullptr},
                         {"occupy", occupy, METH_O, nullptr},
                         {"idle", count_idle, METH_NOARGS, nullptr},
                         EXT_METHODS_END};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_waiters", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_ext_waiters(void) { return PyModule_Create(&module); }
