"""What CPython's test helpers need in order to run against another implementation.

Two helpers of test.test_interpreters.utils reach behind the public API, and test_queues imports a private module
from beside it.  They are replaced here, so that the tests that use them need not be skipped.  No test and no
assertion is changed.
"""

import contextlib
import sys
import types


def check_installed():
    """Raise RuntimeError unless `concurrent.interpreters` is Atoll's in this process."""
    from concurrent import interpreters

    import atoll

    if interpreters.Interpreter is not atoll.Interpreter:
        raise RuntimeError(f"atoll.install() did not take effect: {interpreters!r}")
    if sys.modules["concurrent.interpreters"] is not interpreters:
        raise RuntimeError("concurrent.interpreters and sys.modules['concurrent.interpreters'] differ")


def adapt_helpers():
    """Replace the two helpers, and add the private module."""
    from test.test_interpreters import utils

    import atoll.interpreters

    # All that test_queues wants to know of it: the number that stands for UNBOUND in the private module for queues.
    private = types.ModuleType("concurrent.interpreters._crossinterp")
    private.UNBOUND = atoll.UNBOUND
    private._UNBOUND_CONSTANT_TO_FLAG = {atoll.UNBOUND: 3}
    atoll.interpreters._crossinterp = private

    utils.clean_up_interpreters = clean_up_interpreters
    utils.TestBase.interpreter_obj_from_capi = interpreter_obj_from_capi


def clean_up_interpreters():
    """Destroy every interpreter but the main one, after each test.

    The original closes all of them through the public API.  Atoll refuses to close interpreters that the private
    module made, so those go through the private module.
    """
    import _interpreters

    import atoll

    for interp in atoll.list_all():
        if interp.id == 0:
            continue
        try:
            interp.close()
        except atoll.InterpreterError:
            with contextlib.suppress(_interpreters.InterpreterError):
                _interpreters.destroy(interp.id)


@contextlib.contextmanager
def interpreter_obj_from_capi(self, config="legacy"):
    """Yield (object, id) of an interpreter made by C code.

    The original passes two private keyword arguments of the standard library's constructor.
    """
    import atoll

    with self.interpreter_from_capi(config) as interpid:
        yield atoll.Interpreter(interpid), interpid
