"""install() and importing, each in a process of its own."""

from __future__ import annotations

import pytest

from helpers import VERSION, check_ended, run_python


def check(source, *options):
    """Run source, which asserts things and prints nothing."""
    check_ended(run_python(source, *options), 0, "", clean=True)


class TestInstall:
    def test_import_forms(self):
        check("""
            import atoll
            atoll.install()
            import concurrent.interpreters
            from concurrent import interpreters
            from concurrent.interpreters import Interpreter, create
            assert concurrent.interpreters is interpreters
            assert create is atoll.create and Interpreter is atoll.Interpreter
            assert interpreters.ExecutionFailed is atoll.ExecutionFailed
            """)

    def test_in_interpreters_created_afterwards(self):
        check("""
            import atoll
            atoll.install()
            interp = atoll.create()
            interp.exec('''
                from concurrent import interpreters
                import concurrent.interpreters, atoll
                assert interpreters.create is concurrent.interpreters.create is atoll.create
                nested = interpreters.create()
                nested.exec("import atoll, concurrent.interpreters as ci; assert ci.create is atoll.create")
                nested.close()
                ''')
            interp.close()
            """)

    def test_works(self):
        check("""
            import atoll
            atoll.install()
            from concurrent import interpreters
            interp = interpreters.create()
            assert interp.call(len, "four") == 4
            assert interp.whence == "atoll"
            try:
                interp.exec("1 / 0")
            except interpreters.ExecutionFailed:
                pass
            interp.close()
            """)

    def test_twice(self):
        check("""
            import atoll
            atoll.install()
            atoll.install()
            from concurrent import interpreters
            assert interpreters.create is atoll.create
            """)

    def test_from_an_interpreter(self):
        """install() inside an interpreter holds there."""
        check("""
            import atoll
            interp = atoll.create()
            interp.exec('''
                import atoll
                atoll.install()
                from concurrent import interpreters
                assert interpreters.create is atoll.create
                ''')
            interp.close()
            """)

    def test_futures_still_work(self):
        check("""
            import atoll
            atoll.install()
            import concurrent.futures
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                assert pool.submit(len, "four").result() == 4
            """)

    @pytest.mark.skipif(VERSION < (3, 14), reason="concurrent.interpreters came with 3.14")
    def test_after_the_standard_librarys_import(self):
        check("""
            import concurrent.interpreters as before
            from concurrent import interpreters as also_before
            import atoll
            assert before.create is not atoll.create
            atoll.install()
            import concurrent.interpreters
            from concurrent import interpreters
            assert interpreters.create is concurrent.interpreters.create is atoll.create
            """)

    @pytest.mark.skipif(VERSION >= (3, 14), reason="only older versions lack concurrent.interpreters")
    def test_not_installed(self):
        check("""
            import atoll
            try:
                import concurrent.interpreters
            except ModuleNotFoundError:
                pass
            else:
                raise AssertionError
            """)


class TestImport:
    @pytest.mark.parametrize(
        "options", [(), ("-X", "dev"), ("-I",), ("-OO",), ("-b", "-W", "error")], ids=" ".join
    )
    def test_plain(self, options):
        source = """
            import sys
            import atoll
            i = atoll.create()
            assert i.call(eval, "6 * 7") == 42
            i.close()
            """
        if "-I" in options:
            # -I ignores PYTHONPATH: hand the path over in the source.
            import sys

            source = f"import sys; sys.path[:] = {sys.path!r}\nimport atoll\ni = atoll.create()\ni.close()"
        check(source, *options)

    def test_cheap(self):
        """import atoll brings in nothing that a small script would notice."""
        check("""
            import sys
            before = set(sys.modules)
            import atoll
            new = set(sys.modules) - before
            heavy = {"asyncio", "concurrent.futures", "multiprocessing", "inspect", "dataclasses", "typing", "logging"}
            assert not new & heavy, new & heavy
            """)

    def test_first_in_a_thread(self):
        check("""
            import threading
            def work():
                import atoll
                i = atoll.create()
                assert i.call(eval, "6 * 7") == 42
                i.close()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            import atoll
            assert atoll.get_main() is atoll.get_current()
            """)

    def test_reimported(self):
        """The extension removed from sys.modules and imported again, as some test runners do."""
        check("""
            import sys
            import atoll
            i = atoll.create()
            for name in [name for name in sys.modules if name.split(".")[0] == "atoll"]:
                del sys.modules[name]
            import atoll as again
            j = again.create()
            assert j.call(eval, "6 * 7") == 42
            assert i.call(eval, "6 * 7") == 42
            assert [k.id for k in again.list_all()] == [0, i.id, j.id]
            i.close()
            j.close()
            """)
