"""One Ctrl-C while the main thread waits for the threads of an interpreter that is to end."""

from __future__ import annotations

import signal

from helpers import start_python

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


def interrupted(source):
    with start_python(WAITING + source) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            while (
                open(f"/proc/{process.pid}/task/{process.pid}/stat").read().rsplit(")", 1)[1].split()[0]
                != "S"
            ):
                pass
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
            out, err = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()
    return process, out, err


def test_close():
    source = """
print("ready", flush=True)
try:
    interp.close()
except KeyboardInterrupt:
    print("interrupted", flush=True)
os.write(w, b"!")
"""
    process, out, err = interrupted(source)
    assert (process.returncode, out) == (0, "interrupted\n"), err
    assert "Fatal" not in err


def test_at_exit():
    process, _, err = interrupted("""print("ready", flush=True)""")
    assert process.returncode in (0, 1), err
    assert "Fatal" not in err
