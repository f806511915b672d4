"""The way of an interpreter to its end: what may happen on it, and what a refusal leaves as it was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import atoll
from helpers import EMULATED, check_ended, run_python


class TestViews:
    """Memory that is seen elsewhere keeps an interpreter; what it sees of its own does not."""

    OWN = """
        import atoll, os
        r, w = os.pipe()
        interp = atoll.create()
        interp.prepare_main(w=w)
        interp.exec('''
        import atoll, os
        class Last:
            def __del__(self, write=os.write, w=w):
                write(w, b"!")
        last = Last()
        queue = atoll.create_queue()
        queue.put(memoryview(bytearray(100_000)))
        view = queue.get()
        ''')
        """

    def test_own_view_and_close(self):
        source = """
        interp.close()
        os.set_blocking(r, False)
        assert os.read(r, 1) == b"!"  # it has ended
        print("right")
        """
        check_ended(run_python(self.OWN + source), out="right\n", clean=True)

    def test_own_view_and_exit(self):
        done = run_python(self.OWN + "print('right')")
        check_ended(done, out="right\n")
        assert "remaining interpreters" in done.stderr

    @pytest.mark.parametrize("what", ["memoryview(bytearray(100_000))", "b'r' * 100_000", "b'r'"])
    @pytest.mark.parametrize("where", ["queue", "own"])
    def test_put_by_a_finalizer(self, what, where):
        source = f"""
        import atoll
        queue = atoll.create_queue()
        interp = atoll.create()
        interp.exec("import atoll; own = atoll.create_queue()")
        interp.call(lambda queue: setattr(__import__("__main__"), "queue", queue), queue)
        interp.exec('''
        class Last:
            def __del__(self, queue={where}, memoryview=memoryview, bytearray=bytearray):
                queue.put({what})
        last = Last()
        ''')
        interp.close()
        with atoll.create() as other:  # in what was that one's memory
            other.exec("x = [bytes(99_990) for _ in range(50)]")
        if {where!r} == "queue":
            assert queue.get() is atoll.UNBOUND
        print("right")
        """
        check_ended(run_python(source), out="right\n", clean=True)

    def test_taken_while_its_owner_ends(self):
        source = """
        import atoll, os, threading
        queue = atoll.create_queue()
        r, w = os.pipe()
        interp = atoll.create()
        interp.call(lambda *names: vars(__import__("__main__")).update(queue=names[0], r=names[1]), queue, r)
        interp.exec('''
        import os
        class Last:
            def __del__(self, queue=queue, r=r, memoryview=memoryview, bytearray=bytearray, read=os.read):
                queue.put(memoryview(bytearray(b"r" * 100_000)))
                read(r, 1)
        last = Last()
        ''')
        closer = threading.Thread(target=interp.close)
        closer.start()
        view = queue.get()
        os.write(w, b"!")
        closer.join()
        with atoll.create() as other:
            other.exec("x = [bytearray(100_000) for _ in range(50)]")
            assert bytes(view) == b"r" * 100_000
        del view
        print("right")
        """
        check_ended(run_python(source), out="right\n", clean=True)


class TestWhatIsInMain:
    """What an interpreter's ``__main__`` has is finalized at its end, as main's is at the end of the process."""

    KEPT = [
        "None",
        "atoll.Lock()",
        "atoll.RLock()",
        "atoll.Condition()",
        "atoll.Event()",
        "atoll.Semaphore()",
        "atoll.BoundedSemaphore()",
        "atoll.Barrier(2)",
        "atoll.AtomicInt()",
        "atoll.SharedDict()",
        "atoll.SharedBuffer(1)",
        "atoll.SharedArray(1, 'f8')",
        "atoll.share(b'x')",
        "atoll.create_queue()",
        "atoll.get_current()",
        "atoll.create()",
        "atoll.freezing()",
        "atoll.timeout(atoll.get_main(), 1)",
        "atoll.trace('trace.json')",
        "atoll.InterpreterPoolExecutor(1)",
    ]

    @pytest.mark.parametrize("kept", KEPT)
    def test_whatever_is_beside_it(self, kept, tmp_path):
        ended, written = atoll.AtomicInt(), tmp_path / "written"
        with atoll.create() as interp:
            interp.prepare_main(ended=ended, path=str(written))
            interp.exec(f"""
                import atoll
                kept = {kept}
                class Last:
                    def __del__(self):
                        ended.add()
                last = Last()
                file = open(path, "w")
                file.write("all of it")
                def function(): return file
            """)
        assert ended.load() == 1
        assert written.read_text() == "all of it"

    @pytest.mark.parametrize("kept", ["None", "atoll.Lock()", "iter([])"])
    def test_of_a_worker(self, kept, tmp_path):
        """The globals of a script's functions, which an initializer has bound."""
        source = f"""
        import atoll

        class Last:
            def __del__(self):
                print("finalized", flush=True)

        def begin(path):
            global file, last, kept
            kept, last, file = {kept}, Last(), open(path, "w")

        def write(number):
            file.write(str(number))

        with atoll.InterpreterPoolExecutor(1, initializer=begin, initargs=({str(tmp_path / "written")!r},)) as pool:
            list(pool.map(write, range(3)))
        """
        check_ended(run_python(source), out="finalized\n", clean=True)
        assert (tmp_path / "written").read_text() == "012"

    def test_of_a_script(self, tmp_path):
        (tmp_path / "script.py").write_text("""if True:
            import atoll
            class Last:
                def __del__(self):
                    print("finalized", lock is not None)
            lock, last = atoll.Lock(), Last()
            def function(): return file
            with atoll.InterpreterPoolExecutor(1) as pool:
                pool.submit(abs, -1).result()
            file = open("written", "w")
            file.write("all of it")
        """)
        for command in ([], ["-m", "atoll", "run"]):
            done = subprocess.run(
                [sys.executable, *command, "script.py"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout == "finalized True\n", done
            assert (tmp_path / "written").read_text() == "all of it"
            (tmp_path / "written").unlink()


def test_no_lock_is_held_while_finalizers_run():
    """One waits for what only another create() and close() bring about."""
    source = """
        import atoll, os, threading
        r, w = os.pipe()
        interp = atoll.create()
        interp.prepare_main(r=r)
        interp.exec('''
        import os
        class Last:
            def __del__(self, read=os.read, r=r):
                read(r, 1)
        last = Last()
        ''')
        closer = threading.Thread(target=interp.close)
        closer.start()
        atoll.create().close()
        os.write(w, b"!")
        closer.join()
        print("right")
        """
    check_ended(run_python(source), out="right\n", clean=True)


def test_no_lock_is_held_while_an_interpreter_starts(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('READ'):\n    os.read(int(os.environ['READ']), 1)\n"
    )
    source = """
        import atoll, os, threading
        r, w = os.pipe()
        os.environ["READ"] = str(r)
        makers = [threading.Thread(target=lambda: atoll.create().close()) for _ in range(2)]
        for maker in makers:
            maker.start()
        # Each reads one byte, and gives back the lock before: with it held the second would never begin.
        done = []
        atoll_is_free = threading.Thread(target=lambda: done.append(atoll.list_all()))
        atoll_is_free.start()
        atoll_is_free.join()
        os.write(w, b"!!")
        for maker in makers:
            maker.join()
        print("right")
        """
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    check_ended(run_python(source, environment=environment), out="right\n", clean=True)


def test_a_zombie_is_tried_again_with_a_look():
    """The thread notes each time that it is interrupted: close() does that for a second, a sweep once."""
    source = """
        import atoll, os
        r, w = os.pipe()
        zombie = atoll.create()
        zombie.prepare_main(w=w)
        zombie.exec('''
        import os, threading, time
        def work():
            while True:
                time.sleep(0.001)
        def run():
            while True:
                try:
                    work()
                except SystemExit:
                    os.write(w, b".")
        threading.Thread(target=run, daemon=True).start()
        ''')
        zombie.close()
        first = len(os.read(r, 1000))
        for _ in range(5):
            queue = atoll.create_queue()
            queue.put(atoll.create())
            del queue
            atoll.create().close()
        os.write(w, b"x")
        then = len(os.read(r, 1000)) - 1
        assert first > 3 and then <= 10, (first, then)
        print("right", flush=True)
        os._exit(0)
        """
    check_ended(run_python(source), out="right\n", clean=True)


def test_the_last_reference_waits_for_no_thread():
    source = """
        import atoll, gc, os
        r, w = os.pipe()
        for cycle in False, True:
            interp = atoll.create()
            number = interp.id
            interp.prepare_main(r=r)
            interp.exec("import os, threading; threading.Thread(target=os.read, args=(r, 1)).start()")
            box = [interp]
            if cycle:
                box.append(box)
            del interp, box
            gc.collect()
            assert number in [i.id for i in atoll.list_all()]
            os.write(w, b"!")
            while number in [i.id for i in atoll.list_all()]:
                pass
        print("right")
        """
    check_ended(run_python(source), out="right\n", clean=True)


def test_unused_and_running_at_exit():
    """Its thread is joined, as one of main's would be."""
    source = """
        import atoll, os, threading
        r, w = os.pipe()
        interp = atoll.create()
        interp.prepare_main(r=r)
        interp.exec('''
        import os, threading
        def run():
            os.read(r, 1)
            print("right", flush=True)
        threading.Thread(target=run).start()
        ''')
        del interp
        os.write(w, b"!")
        """
    check_ended(run_python(source), out="right\n", clean=True)


@pytest.mark.skipif(EMULATED, reason="an emulator limits no program's address space: it is its own")
def test_submit_without_a_thread():
    """A pool that never had one gives back its interpreter."""
    source = """
        import atoll, atoll._pool.executor, contextlib, gc, pathlib, resource, threading, time
        def names():
            for one in pathlib.Path("/proc/self/task").iterdir():
                with contextlib.suppress(OSError): # it has just ended
                    yield (one / "comm").read_text().strip()
        interp = atoll.create()
        assert interp.call(len, "abc") == 3
        # The stack of the thread that has made it could be used again: another one has it now.
        while "atoll_create" in names():
            time.sleep(0.001)
        over = threading.Event()
        waiting = threading.Thread(target=over.wait)
        waiting.start()
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() - (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        try:
            interp.submit(len, "abc")
        except RuntimeError as error:
            message = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            over.set()
            waiting.join()
        assert message == "can't start new thread"
        del interp
        gc.collect()
        atoll.create().close()
        assert [i.id for i in atoll.list_all()] == [0], atoll.list_all()
        print("right")
        """
    check_ended(run_python(source), out="right\n", clean=True)


class TestLeftBehind:
    """What cannot be ended at the end of the process does not keep that from ending as ever."""

    SOURCE = """
        import atexit, os, sys
        atexit.register(lambda: print("last", bytes(view)[:3], flush=True))
        import atoll, threading
        owner = atoll.create()
        view = owner.call(lambda: memoryview(bytearray(b"abc" * 50_000)))
        r, w = os.pipe()
        for code in {codes!r}:
            interp = atoll.create()
            interp.prepare_main(r=r, w=w)
            code = f"import os; os.write(w, b'!')\\n{{code}}"
            threading.Thread(target=interp.exec, args=(code,), daemon=True).start()
            assert os.read(r, 1) == b"!"
        """
    STUCK = "os.read(os.pipe()[0], 1)"
    SPINS = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"

    @pytest.mark.parametrize("codes", [[], [STUCK], [SPINS], [STUCK, SPINS, STUCK]], ids=len)
    @pytest.mark.parametrize("end, status", [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)])
    def test_status(self, codes, end, status):
        done = run_python(self.SOURCE.format(codes=codes) + end)
        check_ended(done, status, "last b'abc'\n")

    def test_where_the_list_is_not_known(self):
        """Then it ends at once, and not with success."""
        source = "atoll._atoll._list_hide()"
        check_ended(run_python(self.SOURCE.format(codes=[self.STUCK]) + source), 1, "")

    def test_a_worker(self):
        source = """
        pool = atoll.InterpreterPoolExecutor(1)
        pool.submit(os.read, os.pipe()[0], 1)
        try:
            pool.shutdown(wait=False)
            pool.kill_workers()
        finally:
            sys.exit(3)
        """
        done = run_python(self.SOURCE.format(codes=[]) + source)
        check_ended(done, 3, "last b'abc'\n")
