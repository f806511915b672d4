"""One Ctrl-C while the main thread waits for the threads of an interpreter that is to end."""

from __future__ import annotations

from helpers import check_ended, run_python
from signal_helpers import interrupted

# An ordinary thread, which close() and the end of the process wait for.  It ends when it is told to: by what `w` says.
WAITING = """
import atoll, os
r, w = os.pipe()
interp = atoll.create()
interp.prepare_main(r=r)
interp.exec('''
import os, threading
threading.Thread(target=os.read, args=(r, 1)).start()
''')
"""


def test_close():
    source = """
print("ready", flush=True)
try:
    interp.close()
except KeyboardInterrupt:
    print("interrupted", flush=True)
os.write(w, b"!")
"""
    process, out, err = interrupted(WAITING + source)
    assert (process.returncode, out) == (0, "interrupted\n"), err
    assert "Fatal" not in err


def test_at_exit():
    process, _, err = interrupted(WAITING + """print("ready", flush=True)""")
    assert process.returncode in (0, 1), err
    assert "Fatal" not in err


def test_while_the_end_of_the_process_warns():
    """What comes while the warning is shown is not lost to what is waited for after it."""
    source = """
import signal, warnings
def show(*_):
    signal.raise_signal(signal.SIGINT)
warnings.showwarning = show
"""
    done = run_python(WAITING + source)
    check_ended(done, 0)
    assert "KeyboardInterrupt" in done.stderr, done
