"""Run CPython's tests of interpreters in this process and report each over a pipe.

Started by tools/conformance.py as ``python worker.py FD REQUEST``.  FD is the pipe's writing end, REQUEST a JSON
object: `module` to load, `tests` to run (None: all), `pattern` that their names must contain (or None), and
`adapt` (whether Atoll has been installed, so that the suite's helpers need adapting).

Each line written to the pipe is one JSON object: {"tests": [...]} first, then for each test {"start": name}, any
number of {"failure": text, "subtest": name or null}, {"passed_subtest": name}, {"skip": reason}, then
{"stop": name}; {"end": true} last.
"""

import faulthandler
import json
import os
import sys
import traceback
import unittest

import adapt


class Reporter(unittest.TestResult):
    """Sends what happens to the other end of the pipe."""

    def __init__(self, descriptor):
        super().__init__()
        self._descriptor = descriptor

    def send(self, **event):
        """Write one event."""
        data = json.dumps(event).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]

    def startTest(self, test):
        super().startTest(test)
        self.send(start=short_name(test))

    def stopTest(self, test):
        super().stopTest(test)
        sys.stdout.flush()
        sys.stderr.flush()
        self.send(stop=short_name(test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.send(skip=reason)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is None:
            self.send(passed_subtest=describe(subtest))
        else:
            self._send_failure(err, describe(subtest))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._send_failure(err, None)

    def addError(self, test, err):
        super().addError(test, err)
        self._send_failure(err, None)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.send(failure="a failure was expected", subtest=None)

    def _send_failure(self, err, subtest):
        self.send(failure="".join(traceback.format_exception(*err)), subtest=subtest)


def describe(subtest):
    """Return the subtest's message, followed by its parameters where it has any."""
    parts = []
    if subtest._message is not unittest.case._subtest_msg_sentinel:
        parts.append(str(subtest._message))
    parts.extend(f"{name}={value!r}" for name, value in subtest.params.items())
    return ", ".join(parts)


def short_name(test):
    """Return 'test_api.CreateTests.test_in_main' for test.test_interpreters.test_api.CreateTests.test_in_main."""
    return test.id().split(".", 2)[2]


def flatten(suite):
    """Yield the single tests of a suite, in order."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def main():
    """Load, adapt, run, report."""
    descriptor, request = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    reporter = Reporter(descriptor)

    from test import support

    support.verbose = 0
    # The two tests that ask for memory ask for far more than 200 interpreters need.
    support.set_memlimit("8G")
    if request["adapt"]:
        adapt.check_installed()
        adapt.adapt_helpers()
    tests = list(flatten(unittest.defaultTestLoader.loadTestsFromName(request["module"])))
    if request["tests"] is not None:
        tests = [test for test in tests if short_name(test) in request["tests"]]
    if request["pattern"] is not None:
        tests = [test for test in tests if request["pattern"] in short_name(test)]
    reporter.send(tests=[short_name(test) for test in tests])
    unittest.TestSuite(tests).run(reporter)
    reporter.send(end=True)


if __name__ == "__main__":
    main()
