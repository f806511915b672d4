"""Signal handlers that code of an extension installs end with their interpreter, whoever has installed one since."""

from __future__ import annotations

import signal

import pytest

from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]

START = """
import atoll, faulthandler, os, signal, sys
import ext_use
from atoll import _atoll
NUMBER = signal.SIGUSR2
heard = []
signal.signal(NUMBER, lambda *args: heard.append(args[0]))

def install(how):
    import ext_signals
    return ext_signals.install(NUMBER, how), ext_signals.installed(NUMBER)

def send():
    import ext_signals
    return ext_signals.send(NUMBER)

def main_hears():
    heard.clear()
    signal.raise_signal(NUMBER)
    right = heard == [NUMBER]
    heard.clear()
    return right

def new(how="sigaction"):
    interp = ext_use.create()
    return interp, interp.call(install, how)
"""
END = """
assert main_hears()
assert _atoll._kept_extensions() == [], _atoll._kept_extensions()
print("end")
"""
WAYS = ["sigaction", "__sigaction", "signal", "bsd_signal", "ssignal", "sigset", "PyOS_setsig"]
ONCE = ["once", "sysv_signal", "__sysv_signal"]


def check(source, *options):
    done = run_python(START + source + END, *options)
    check_ended(done, 0, "end\n", clean=True)


@pytest.mark.usefixtures("corpus")
class TestEnd:
    def test_nothing_else_is_kept_of_a_handler(self):
        """What lay beside its mask, on the stack of who installed it, may look like a pointer into the interpreter."""
        check("""
interp, found = new()
def rest():
    import ext_signals
    return ext_signals.rest_of_mask(NUMBER)
assert interp.call(rest) == 0
interp.close()
""")

    def test_what_was_before_is_back(self):
        """And is called from the handler meanwhile."""
        check(f"""
for how in {WAYS}:
    interp, found = new(how)
    assert found == ("other", "own"), (how, found)
    assert interp.call(send)[0] == 1 and heard == [NUMBER], how
    interp.close()
    assert main_hears(), how
""")

    def test_once(self):
        """What was there before is back where no signal came; where one came it is the default."""
        check(f"""
def send_and_look():
    import ext_signals
    return ext_signals.send(NUMBER)[0], ext_signals.installed(NUMBER)
for how in {ONCE}:
    interp, found = new(how)
    assert found == ("other", "own"), (how, found)
    interp.close()
    assert main_hears(), how
    interp, found = new(how)
    assert interp.call(send_and_look) == (1, "default") and heard == [NUMBER], how
    assert interp.call(install, how) == ("default", "own"), how
    assert interp.call(send_and_look) == (2, "default"), how
    interp.close()
    heard.clear()
    signal.signal(NUMBER, lambda *args: heard.append(args[0]))
""")

    def test_information_arrives(self):
        check("""
interp, found = new()
assert interp.call(send) == (1, 1)
interp.close()
""")

    @pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 3])
    def test_default_that_ends_the_process(self, number):
        """Then the handler stays, as does the code."""
        script = f"""{START}
NUMBER = {int(number)}
signal.signal(NUMBER, signal.SIG_DFL)
interp, found = new()
assert found == ("default", "own"), found
assert interp.call(send) == (1, 1)
interp.close()
signal.raise_signal(NUMBER)
print({{why for *_, why in _atoll._kept_extensions()}})
"""
        check_ended(run_python(script), 0, "{'one of them has installed a signal handler'}\n", clean=True)

    @pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGWINCH, signal.SIGFPE])
    def test_default_that_does_not(self, number):
        """It ignores the signal, or that is one which only a fault brings."""
        script = f"""{START}
NUMBER = {int(number)}
signal.signal(NUMBER, signal.SIG_DFL)
interp, found = new()
assert found == ("default", "own"), found
assert interp.call(send) == (1, 1)
interp.close()
print(_atoll._kept_extensions(), flush=True)
signal.raise_signal(NUMBER)
"""
        done = run_python(script)
        assert done.stdout == "[]\n", done.stdout + done.stderr
        assert done.returncode == (-number if number == signal.SIGFPE else 0), done.stderr

    def test_several(self):
        """Each passes the signal on to the one before, as long as that is there."""
        check("""
for order in (0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0):
    interps = [new()[0] for _ in range(3)]
    left = [0, 1, 2]
    for number in order:
        counts = [interps[i].call(send)[0] for i in left]
        assert len(heard) == len(left) and all(counts), (order, counts, heard)
        interps[number].close()
        left.remove(number)
        assert main_hears(), order
""")

    def test_another_one_since(self):
        """Somebody who is not in a clone has taken the clone's place and calls what was there, also when it is gone."""
        check("""
interp, found = new()
faulthandler.register(NUMBER, file=open(os.devnull, "w"), chain=True)
assert interp.call(send) == (1, 1) and heard == [NUMBER]
interp.close()
assert main_hears()
other, found = new()
assert found[0] == "other" and other.call(send) == (1, 1)
assert main_hears()
faulthandler.unregister(NUMBER)
other.close()
assert main_hears()
""")

    def test_put_back_by_itself(self):
        check("""
def put_back():
    import ext_signals
    ext_signals.put_back(NUMBER)
    return ext_signals.installed(NUMBER)
interp, found = new()
assert interp.call(put_back) == "other"
assert main_hears()
assert interp.call(install, "signal") == ("other", "own")
interp.close()
""")

    def test_put_back_what_is_gone(self):
        """The handler that it found belongs to an interpreter that has ended: what that one had found is installed."""
        check("""
def put_back():
    import ext_signals
    ext_signals.put_back(NUMBER)
first, second = new()[0], new()[0]
first.close()
second.call(put_back)
assert main_hears()
second.close()
""")

    def test_another_one_of_its_own(self):
        """A handler in place of its own does not lead to a third one."""
        check("""
interp, found = new("signal")
assert interp.call(install, "sigaction") == ("own", "own")
assert interp.call(send) == (1, 1) and heard == [NUMBER]
interp.close()
""")

    def test_many_times(self):
        """More often than there are places for handlers, 256, in interpreters that overlap."""
        check("""
NUMBERS = [NUMBER, *range(signal.SIGRTMIN, signal.SIGRTMIN + 7)]
for number in NUMBERS:
    signal.signal(number, signal.getsignal(NUMBER))

def install_all():
    import ext_signals
    return {(ext_signals.install(one, "sigaction"), ext_signals.installed(one)) for one in NUMBERS}

last = new()[0]
for _ in range(40):
    interp = ext_use.create()
    assert interp.call(install_all) == {("other", "own")}
    last.close()
    last = interp
assert last.call(send) == (1, 1) and heard == [NUMBER]
last.close()
""")

    def test_errors(self):
        check("""
def wrong():
    import errno, ext_signals
    for number in 9, 19, 0, -1, 1000:
        for how in "sigaction", "signal", "sysv_signal", "sigset", "PyOS_setsig":
            try:
                ext_signals.install(number, how)
            except OSError as error:
                assert error.errno == errno.EINVAL, (number, how, error)
            else:
                raise AssertionError((number, how))
interp = ext_use.create()
interp.call(wrong)
interp.close()
""")
