/* What is counted, for Python: atoll/_stats reads the page. */
#include "module/module.h"

#include "core/stats/stats.h"
#include "py/interp/interp.h"

/* The page that other processes may read, as this one has it, without a copy. */
static PyObject *stats_page(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (state != NULL && state->entry != NULL) {
        atoll_meter_modules(state->entry->stats); /* who looks knows how many it has */
    }
    size_t size;
    const atoll_stats_header *page = atoll_stats_page(&size);
    return PyMemoryView_FromMemory((char *)(uintptr_t)page, (Py_ssize_t)size, PyBUF_READ);
}

enum { MOST_WORDS = sizeof(atoll_stats_pool) / sizeof(atoll_counter) }; /* that are read of a slot */

/* Such a page, the place of a slot, in words, and how many are wanted: a list, or None when nobody has it. */
static PyObject *stats_slot(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer page;
    Py_ssize_t at;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "y*nn", &page, &at, &count)) {
        return NULL;
    }
    Py_ssize_t room = page.len / (Py_ssize_t)sizeof(atoll_counter);
    bool good = (uintptr_t)page.buf % sizeof(atoll_counter) == 0 && count > 0 && count <= MOST_WORDS &&
                at >= 0 && at <= room - count;
    uint64_t words[MOST_WORDS];
    bool found = good && atoll_stats_read((const atoll_counter *)page.buf + at, (size_t)count, words);
    PyBuffer_Release(&page);
    if (!good) {
        PyErr_Format(PyExc_ValueError,
                     "the page of statistics has no slot at word %zd that is %zd words long", at, count);
        return NULL;
    }
    PyObject *list = found ? PyList_New(count) : Py_NewRef(Py_None);
    for (Py_ssize_t i = 0; found && list != NULL && i < count; i++) {
        PyObject *word = PyLong_FromUnsignedLongLong(words[i]);
        if (word == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, word);
    }
    return list;
}

/* (the processor's ticks, nanoseconds on the monotonic clock), at the same time. */
static PyObject *ticks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    uint64_t ns = atoll_clock_ns();
    return Py_BuildValue("KK", (unsigned long long)atoll_ticks(), (unsigned long long)ns);
}

const char atoll_pystats_doc[] =
    PyDoc_STR("stats($self, /)\n--\n\n"
              "Return what is counted of the interpreter, a dict: see atoll.stats().\n\n"
              "Stops nothing and waits for nothing.\n"
              "Raises InterpreterNotFoundError when the interpreter is closed or Atoll knows nothing of it.");

PyObject *atoll_pystats_of(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *reader = PyImport_ImportModule("atoll._stats.page");
    PyObject *stats = reader != NULL ? PyObject_CallMethod(reader, "stats_of", "O", self) : NULL;
    Py_XDECREF(reader);
    return stats;
}

PyMethodDef atoll_pystats_methods[] = {
    {"_stats_page", stats_page, METH_NOARGS, NULL},
    {"_stats_slot", stats_slot, METH_VARARGS, NULL},
    {"_ticks", ticks, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
