// A module of pybind11 that uses atoll.h, for the tests.
#include <pybind11/pybind11.h>

#include <atoll.h>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace py = pybind11;

namespace {

// A reference to a queue, as long as it lives.
struct ReleaseQueue {
    void operator()(atoll_queue *queue) const { atoll_queue_release(queue); }
};
using Queue = std::unique_ptr<atoll_queue, ReleaseQueue>;

Queue queue_of(py::handle object) {
    atoll_queue *queue;
    if (atoll_queue_from_object(object.ptr(), &queue) < 0) {
        throw py::error_already_set();
    }
    return Queue(queue);
}

void delete_vector(void *, size_t, void *context) { delete static_cast<std::vector<double> *>(context); }

// Threads of C++ put vectors, which belong to the messages from then on.
int produce(py::handle object, int threads, int each) {
    Queue queue = queue_of(object);
    py::gil_scoped_release release;
    std::vector<std::thread> running;
    for (int i = 0; i < threads; i++) {
        running.emplace_back([&queue, i, each] {
            for (int k = 0; k < each; k++) {
                auto values = std::make_unique<std::vector<double>>(4, i + 1.0);
                if (atoll_queue_put(queue.get(), values->data(), values->size() * sizeof(double), delete_vector,
                                    values.get(), -1) == ATOLL_OK) {
                    values.release();
                }
            }
        });
    }
    for (auto &thread : running) {
        thread.join();
    }
    return threads * each;
}

// The sum of all doubles in the items that are there.
double consume(py::handle object, int items) {
    Queue queue = queue_of(object);
    py::gil_scoped_release release;
    double sum = 0;
    for (int i = 0; i < items; i++) {
        atoll_item item;
        if (atoll_queue_get(queue.get(), &item, 60) < 0) {
            throw std::runtime_error(atoll_message());
        }
        const double *values = static_cast<double *>(item.data);
        for (size_t k = 0; k < item.size / sizeof(double); k++) {
            sum += values[k];
        }
        atoll_item_release(&item);
    }
    return sum;
}

class Stay {
  public:
    explicit Stay(atoll_interp *interp) {
        if (atoll_enter(interp, &visit) < 0) {
            throw std::runtime_error(atoll_message());
        }
    }
    ~Stay() { (void)atoll_leave(visit); }
    Stay(const Stay &) = delete;
    Stay &operator=(const Stay &) = delete;

  private:
    atoll_visit *visit;
};

// What the expression is in the interpreter, as text.
std::string evaluate(py::handle object, const std::string &expression) {
    atoll_interp *interp;
    if (atoll_from_object(object.ptr(), &interp) < 0) {
        throw py::error_already_set();
    }
    std::string result = "?";
    {
        Stay stay(interp); // nothing of pybind11's until it is over: its objects belong to where they were made
        PyObject *dict = PyModule_GetDict(PyImport_AddModule("__main__"));
        PyObject *value = PyRun_String(expression.c_str(), Py_eval_input, dict, dict);
        PyObject *text = value != nullptr ? PyObject_Str(value) : nullptr;
        if (text != nullptr) {
            result = PyUnicode_AsUTF8(text);
        }
        Py_XDECREF(text);
        Py_XDECREF(value);
        PyErr_Clear();
    }
    atoll_release(interp);
    return result;
}

} // namespace

PYBIND11_MODULE(capi_pybind11, module) {
    if (atoll_import() < 0) {
        throw py::error_already_set();
    }
    module.def("produce", produce);
    module.def("consume", consume);
    module.def("evaluate", evaluate);
}
