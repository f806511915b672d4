// A pool of threads in a static variable, under the names that Arrow's has: its destructor ends the threads, and so does
// Shutdown(), which is what Atoll calls.
#include "ext.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <vector>

#define EXPORT __attribute__((visibility("default")))

namespace arrow {

struct Status {
    ~Status() { delete text; }
    const char *text;
};

namespace internal {

class EXPORT ThreadPool {
  public:
    ~ThreadPool() { (void)Shutdown(false); }
    void Spawn(std::function<void()> task) {
        std::unique_lock<std::mutex> held(lock);
        tasks.push_back(std::move(task));
        threads.emplace_back([this] { Work(); });
        changed.notify_all();
    }
    Status Shutdown(bool wait);

  private:
    void Work() {
        std::unique_lock<std::mutex> held(lock);
        while (!over) {
            if (tasks.empty()) {
                changed.wait(held);
                continue;
            }
            auto task = std::move(tasks.back());
            tasks.pop_back();
            held.unlock();
            task();
            held.lock();
        }
    }
    std::mutex lock;
    std::condition_variable changed;
    std::vector<std::function<void()>> tasks;
    std::vector<std::thread> threads;
    bool over = false;
};

Status ThreadPool::Shutdown(bool) {
    std::unique_lock<std::mutex> held(lock);
    if (over) {
        return Status{new char('!')};
    }
    over = true;
    changed.notify_all();
    held.unlock();
    for (auto &thread : threads) {
        thread.join();
    }
    return Status{nullptr};
}

EXPORT ThreadPool *GetCpuThreadPool() {
    static auto pool = std::make_shared<ThreadPool>();
    return pool.get();
}

} // namespace internal

namespace io::internal {

EXPORT arrow::internal::ThreadPool *GetIOThreadPool() {
    static auto pool = std::make_shared<arrow::internal::ThreadPool>();
    return pool.get();
}

} // namespace io::internal
} // namespace arrow

namespace {

std::atomic<long> idle;

// start(): a thread in each pool that waits for more to do.
PyObject *start(PyObject *, PyObject *) {
    for (auto *pool : {arrow::internal::GetCpuThreadPool(), arrow::io::internal::GetIOThreadPool()}) {
        pool->Spawn([] { idle++; });
    }
    Py_RETURN_NONE;
}

// occupy(reader): a thread that is busy as long as nothing comes from the pipe.
PyObject *occupy(PyObject *, PyObject *arg) {
    int reader = static_cast<int>(PyLong_AsLong(arg));
    arrow::internal::GetCpuThreadPool()->Spawn([reader] {
        char byte;
        idle++;
        while (read(reader, &byte, 1) < 0) {
        }
    });
    Py_RETURN_NONE;
}

PyObject *count_idle(PyObject *, PyObject *) { return PyLong_FromLong(idle); }

PyMethodDef methods[] = {EXT_METHODS,
                         {"start", start, METH_NOARGS, nullptr},
                         {"occupy", occupy, METH_O, nullptr},
                         {"idle", count_idle, METH_NOARGS, nullptr},
                         EXT_METHODS_END};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_arrow_pool", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_ext_arrow_pool(void) { return PyModule_Create(&module); }
