"""Operations of the standard library's extension modules: files, processes, sockets, terminals, tools."""

import asyncio
import threading

from cases import same, standard
from ops_network import echo


@standard("_socket, select", "socket", "select", "selectors", "_socket")
def socket():
    import select
    import selectors
    import socket as so

    left, right = so.socketpair()
    with left, right, select.epoll() as poll, selectors.DefaultSelector() as selector:
        same(select.select([right], [], [], 0)[0], [])
        left.sendmsg([b"ab", b"cd"])
        poll.register(right, select.EPOLLIN)
        same(poll.poll(10), [(right.fileno(), select.EPOLLIN)])
        selector.register(right, selectors.EVENT_READ, "mine")
        same([key.data for key, _ in selector.select(10)], ["mine"])
        buffer = bytearray(8)
        same((right.recv_into(buffer), bytes(buffer[:4])), (4, b"abcd"))
    with so.create_server(("127.0.0.1", 0)) as server:
        with so.create_connection(server.getsockname()) as client:
            other, address = server.accept()
            with other:
                same(address, client.getsockname())
                client.settimeout(0.001)
                try:
                    client.recv(1)
                    raise AssertionError("something came")
                except TimeoutError:
                    pass
    same(so.inet_ntop(so.AF_INET6, so.inet_pton(so.AF_INET6, "::1")), "::1")
    same(so.getaddrinfo("127.0.0.1", 80, type=so.SOCK_STREAM)[0][4], ("127.0.0.1", 80))


@standard("_ssl", "ssl", "_ssl")
def ssl():
    """Two ends shake hands in memory with a key that both know, where that is to be had, and fail without."""
    import ssl as tls

    def contexts():
        server, client = (tls.SSLContext(p) for p in (tls.PROTOCOL_TLS_SERVER, tls.PROTOCOL_TLS_CLIENT))
        client.check_hostname = False
        client.verify_mode = tls.CERT_NONE
        for context in (server, client):
            context.maximum_version = tls.TLSVersion.TLSv1_2
            context.set_ciphers("PSK:@SECLEVEL=0" if hasattr(context, "set_psk_client_callback") else "ALL")
        return server, client

    def shake(server, client):
        to_server, to_client = tls.MemoryBIO(), tls.MemoryBIO()
        ends = [
            client.wrap_bio(to_client, to_server),
            server.wrap_bio(to_server, to_client, server_side=True),
        ]
        waiting = list(ends)
        for _ in range(20):
            for end in list(waiting):
                try:
                    end.do_handshake()
                    waiting.remove(end)
                except tls.SSLWantReadError:
                    pass
        same(waiting, [])
        return ends

    server, client = contexts()
    if hasattr(client, "set_psk_client_callback"):
        client.set_psk_client_callback(lambda hint: ("me", b"k" * 16))
        server.set_psk_server_callback(lambda identity: b"k" * 16)
        one, two = shake(server, client)
        one.write(b"hello")
        same((two.read(5), one.cipher()[1]), (b"hello", "TLSv1.2"))
    else:
        try:
            shake(server, client)
            raise AssertionError("a server without a certificate")
        except tls.SSLError as error:
            assert error.reason, error
    assert tls.RAND_bytes(8) != tls.RAND_bytes(8)
    assert tls.create_default_context().get_ciphers()
    try:
        tls.PEM_cert_to_DER_cert("nonsense")
        raise AssertionError("nonsense was a certificate")
    except ValueError:
        pass


@standard("_asyncio", "asyncio", "_asyncio")
def asynchronous():
    asyncio.run(echo())

    async def tree():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.0002 * n, n)) for n in range(4)]
        same([task.result() for task in tasks], [0, 1, 2, 3])
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
            raise AssertionError("no timeout")
        except TimeoutError:
            pass

    asyncio.run(tree())


@standard("_multiprocessing, _posixshmem", "multiprocessing.synchronize", "multiprocessing.shared_memory")
def multiprocessing():
    """What needs no second process: locks, pipes, memory that another process could see."""
    import _multiprocessing
    import _posixshmem
    import mmap
    import os
    import secrets

    name = f"/atoll-{os.getpid()}-{secrets.token_hex(6)}"
    lock = _multiprocessing.SemLock(0, 1, 1, name, True)  # a recursive mutex
    same((lock.acquire(False), lock.acquire(True, 5), lock._count(), lock._is_zero()), (True, True, 2, True))
    lock.release()
    lock.release()
    same((lock._is_mine(), lock._get_value()), (False, 1))
    handle = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)
    try:
        os.ftruncate(handle, 4096)
        with mmap.mmap(handle, 4096) as memory, mmap.mmap(handle, 4096) as view:
            memory[10:15] = b"atoll"
            same(view.find(b"toll"), 11)
    finally:
        os.close(handle)
        _posixshmem.shm_unlink(name)
    from multiprocessing import Pipe

    one, two = Pipe()
    with one, two:
        one.send({"x": [1, 2]})
        same((two.poll(10), two.recv()), (True, {"x": [1, 2]}))


@standard("_posixsubprocess, fcntl", "subprocess", "fcntl")
def subprocess():
    import fcntl
    import os
    import subprocess as sp

    same(sp.run(["/bin/cat"], input=b"text", capture_output=True, check=True).stdout, b"text")
    same(sp.run(["/bin/sh", "-c", "exit 3"], check=False).returncode, 3)
    reader, writer = os.pipe()
    try:
        flags = fcntl.fcntl(reader, fcntl.F_GETFL)
        fcntl.fcntl(reader, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        same(os.get_blocking(reader), False)
        os.write(writer, b"abc")
        same(int.from_bytes(fcntl.ioctl(reader, 0x541B, bytes(4)), "little"), 3)
    finally:
        os.close(reader)
        os.close(writer)


@standard("_io, mmap", "io", "mmap", "tempfile")
def files():
    import io
    import mmap
    import os
    import tempfile

    with tempfile.TemporaryFile("w+", encoding="utf-16", newline="\r\n") as file:
        file.write("één\ntwee\n")
        file.seek(0)
        same(file.readlines(), ["één\r\n", "twee\r\n"])
    with tempfile.TemporaryFile() as file:
        file.write(bytes(8192))
        file.flush()
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[4000:4005] = b"atoll"
            memory.move(0, 4000, 5)
            memory.flush()
            same((memory[:5], memory.rfind(b"toll"), len(memoryview(memory))), (b"atoll", 4001, 8192))
        same(os.pread(file.fileno(), 5, 4000), b"atoll")
    with mmap.mmap(-1, 4096) as memory:
        memory.write(b"line\nnext")
        memory.seek(0)
        same(memory.readline(), b"line\n")
    text = io.TextIOWrapper(io.BufferedRandom(io.BytesIO()), encoding="latin-1")
    text.write("é")
    text.flush()
    same(text.buffer.raw.getvalue(), b"\xe9")


HISTORY = threading.Lock()


@standard("readline", "readline")
def readline():
    with HISTORY:
        use_history()


def use_history() -> None:
    """Use the history, which is the interpreter's: what others do has no effect on it."""
    import readline as rl

    rl.parse_and_bind("tab: complete")
    rl.clear_history()
    for line in ("first", "second"):
        rl.add_history(line)
    same((rl.get_current_history_length(), rl.get_history_item(2)), (2, "second"))
    rl.replace_history_item(0, "zeroth")
    rl.remove_history_item(1)
    same(rl.get_history_item(1), "zeroth")
    rl.set_completer(lambda text, state: None)
    assert rl.get_completer() is not None
    rl.set_completer(None)
    rl.set_completer_delims(" \t")
    same(rl.get_completer_delims(), " \t")


@standard("_curses, _curses_panel", "curses", "curses.panel", "curses.ascii")
def curses():
    """The screen is nobody's: it is written to a pipe that is never read."""
    import curses as cu
    import os

    same(cu.ascii.ctrl("a"), "\x01")
    reader, writer = os.pipe()
    try:
        try:
            cu.setupterm("xterm", writer)
        except cu.error as error:  # no description of that terminal on this machine
            assert "terminal" in str(error), error
        else:
            assert cu.tigetnum("cols") > 0
            same(cu.tigetstr("no such thing"), None)
            assert cu.tparm(cu.tigetstr("cup"), 3, 4).startswith(b"\x1b[4;5H")
        try:
            cu.keyname(1)
            raise AssertionError("a key before initscr()")
        except cu.error:
            pass
        assert issubclass(type(cu.panel.new_panel), type(len))
    finally:
        os.close(reader)
        os.close(writer)


@standard("termios, resource, syslog, grp, pwd", "termios", "tty", "resource", "syslog", "grp", "pwd")
def system():
    import grp
    import os
    import pwd
    import resource
    import syslog
    import termios
    import tty

    main, terminal = os.openpty()
    try:
        before = termios.tcgetattr(terminal)
        tty.setraw(terminal)
        assert termios.tcgetattr(terminal)[3] != before[3]
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        same(termios.tcgetattr(terminal)[3], before[3])
    finally:
        os.close(main)
        os.close(terminal)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime >= 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
    same(syslog.LOG_UPTO(syslog.LOG_ERR), 15)
    user = pwd.getpwuid(0)
    same((user.pw_name, pwd.getpwnam("root")), ("root", user))
    same(grp.getgrgid(0).gr_gid, 0)


@standard("faulthandler, _tracemalloc", "faulthandler", "tracemalloc")
def debugging():
    import faulthandler
    import tempfile
    import tracemalloc

    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=False)
        file.seek(0)
        assert b"in debugging" in file.read()
    tracemalloc.is_tracing()
    same(len(tracemalloc.Traceback([("f", 1), ("g", 2)])), 2)
    same(tracemalloc.get_object_traceback(object()), None)


@standard("_lsprof, _queue, _uuid, _opcode", "cProfile", "pstats", "queue", "uuid")
def tools():
    import cProfile
    import queue
    import threading
    import uuid

    profile = cProfile.Profile()
    try:
        profile.runcall(sorted, range(100))
        assert any("sorted" in str(entry.code) for entry in profile.getstats())
    except ValueError as error:  # one profiler at a time, and another thread is faster in the baseline
        assert "profil" in str(error).lower(), error
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: [items.put(n) for n in range(50)])
    thread.start()
    same([items.get(timeout=30) for _ in range(50)], list(range(50)))
    thread.join()
    assert uuid.uuid1() != uuid.uuid1()
    same(uuid.uuid5(uuid.NAMESPACE_DNS, "atoll").version, 5)


@standard("_thread, _signal, time, _locale", "threading", "signal", "time", "locale", "atexit")
def process():
    import atexit
    import locale
    import signal
    import threading
    import time

    event, result = threading.Event(), []
    local = threading.local()

    def work(lock):
        local.value = threading.get_ident()
        with lock:
            result.append(local.value)
        event.set()

    lock = threading.RLock()
    threads = [threading.Thread(target=work, args=(lock,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert event.wait(30)
    for thread in threads:
        thread.join()
    same((len(result), hasattr(local, "value")), (3, False))
    same(signal.strsignal(signal.SIGTERM), "Terminated")
    assert signal.SIGINT in signal.valid_signals()
    same(time.strftime("%Y-%m-%d", time.gmtime(0)), "1970-01-01")
    assert time.thread_time_ns() >= 0
    assert locale.localeconv()["decimal_point"]
    called: list[int] = []
    atexit.register(called.append, 1)
    atexit.unregister(called.append)
