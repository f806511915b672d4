"""Run one of CPython's own test files, in main or in an interpreter of Atoll's, and write down what its tests do.

Started by tools/check_stdlib.py as ``python worker.py REQUEST OUTPUT``. REQUEST is a JSON object: `name` of the
file without `test.`, `where` it runs ("main", "interpreter", or "fork" for one that may fork), `only` the tests to
run (None: all) and `without` patterns of those to leave out.

OUTPUT gets one JSON object a line: {"tests": [...]}, then {"start": name} for each test that is run and {"test":
name, "outcome": text} for each that does not pass, {"end": true} last. Names are those of unittest without
`test.`; an outcome begins with `fails: ` or `skipped: `. What happens to the file as a whole, an import that fails
say, has the file's name.
"""

import fnmatch
import json
import os
import re
import signal
import sys
import unittest
import warnings

LONGEST = 160  # characters of an outcome


class Reporter(unittest.TestResult):
    """Writes what happens as it happens, so that a crash leaves what was before it."""

    def __init__(self, name, descriptor):
        super().__init__()
        self._name, self._descriptor = name, descriptor

    def send(self, **event):
        os.write(self._descriptor, json.dumps(event).encode() + b"\n")

    def note(self, test, kind, text):
        self.send(test=test, outcome=f"{kind}: {' '.join(text.split())}"[:LONGEST])

    def startTest(self, test):
        super().startTest(test)
        self.send(start=name_test(test, self._name))

    def addError(self, test, err):
        self.note(name_test(test, self._name), "fails", explain(err[1]))

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test, reason):
        self.note(name_test(test, self._name), "skipped", reason)

    def addUnexpectedSuccess(self, test):
        self.note(name_test(test, self._name), "fails", "a failure was expected")


def explain(error):
    """Return an exception's type and the line of its message that says most: the first."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def name_test(test, name):
    """Return FILE.Class.method, or FILE.Class.setUpClass; what a file has taken from elsewhere counts as its own."""
    found = re.fullmatch(r"(\w+) \((.+)\)", test.id())
    text = (
        f"{found[2]}.{found[1]}" if found else test.id().partition(" ")[0]
    )  # what follows says which subtest
    text = text.removeprefix("test.")
    return text if text.startswith(f"{name}.") else f"{name}.{'.'.join(text.split('.')[-2:])}"


def flatten(suite):
    """Yield the single tests of a suite, in order."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def is_wanted(name, only):
    """Tell whether a test is among those asked for, by its name or its class's fixture."""
    return only is None or name in only or f"{name.rpartition('.')[0]}.setUpClass" in only


def is_among(name, patterns):
    """Tell whether a test fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def run(request, output):
    """Run the file's tests here."""
    name, only, without = request["name"], request["only"], request["without"]
    reporter = Reporter(name, os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    sys.argv = ["test"]
    warnings.simplefilter("ignore")
    from test import support

    support.verbose = 0
    support.use_resources = {}  # as regrtest's default: nothing that takes a network, much time or much room
    try:
        tests = list(flatten(unittest.defaultTestLoader.loadTestsFromName(f"test.{name}")))
        named = [(name_test(test, name), test) for test in tests]
        reporter.send(tests=[test for test, _ in named])
        wanted = [test for each, test in named if is_wanted(each, only) and not is_among(each, without)]
        unittest.TestSuite(wanted).run(reporter)
    except unittest.SkipTest as skip:
        reporter.note(name, "skipped", str(skip))
    except BaseException as error:  # a KeyboardInterrupt that a test did not expect, say
        reporter.note(name, "fails", explain(error))
    reporter.send(end=True)


if __name__ == "__main__":
    request, output = json.loads(sys.argv[1]), sys.argv[2]
    # What a shell has put into the background, and what is started there, ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["where"] == "main":
        run(request, output)
    else:
        import atoll

        with atoll.create(fork=request["where"] == "fork") as interp:
            interp.exec(
                f"""
                import sys
                sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
                import worker
                worker.run({request!r}, {output!r})
                """
            )
