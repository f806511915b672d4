/* Greenlets (the package greenlet, and gevent on it) copy a part of the C stack away and go on with another one, on the same OS
 * thread and thread state.
 *
 * A call into another interpreter that is put aside whole is in nobody's way: main's greenlet calls X, X's code does not come
 * back to main, nobody can switch.  Only where X calls main, or anything leads back into an interpreter that is suspended on this
 * thread, can code there switch to another greenlet while X's frames lie on the stack that is copied away.  X's thread state
 * still leads to them, so nobody may run anything in X, or in an interpreter in between, before they are back.  Which
 * session came last then says nothing about where the stack is.
 *
 * So a session that comes back into an interpreter notes the greenlet that runs there, and the next one is opened in no
 * other (session.c): a RuntimeError says so.  Sessions are not on the C stack, where they could be overwritten meanwhile.
 *
 * Asked is what is imported; it is never imported here.
 */
#include "py/interp/greenlets.h"

const void *atoll_greenlet_current(void) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module =
        modules != NULL ? PyDict_GetItemString(modules, "greenlet._greenlet") : NULL; /* borrowed */
    PyObject *current = module != NULL ? PyObject_CallMethod(module, "getcurrent", NULL) : NULL;
    PyObject *parent = current != NULL ? PyObject_GetAttrString(current, "parent") : NULL;
    const void *answer = parent != NULL && parent != Py_None ? current : NULL;
    Py_XDECREF(parent);
    Py_XDECREF(current); /* who runs has another reference */
    PyErr_SetRaisedException(exc);
    return answer;
}

int atoll_greenlet_check(const atoll_session *top, const atoll_entry *entry) {
    if (!top->comes_back || atoll_greenlet_current() == top->greenlet) {
        return 0;
    }
    atoll_label to, back_to;
    PyErr_Format(
        PyExc_RuntimeError,
        "cannot enter interpreter %s from this greenlet: another greenlet of this thread was switched "
        "out inside a call that came back to interpreter %s from others, and has to end it first",
        atoll_entry_label(entry, &to), atoll_entry_label(top->entry, &back_to));
    return -1;
}
