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

    @pytest.mark.parametrize("before", ["", "import concurrent.futures"])
    def test_however_concurrent_futures_comes_to_be_imported(self, before):
        check(f"""
            import importlib, importlib.util, sys
            {before}
            import atoll
            atoll.install()
            sys.meta_path.insert(1, object())
            importlib.util.find_spec("concurrent.futures")  # which imports nothing
            import concurrent.futures
            assert concurrent.futures.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor
            importlib.reload(concurrent.futures)
            assert concurrent.futures.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor
            atoll.install()
            del sys.modules["concurrent.futures"]
            import concurrent.futures
            assert concurrent.futures.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor
            assert concurrent.futures.ThreadPoolExecutor(1).submit(len, "four").result() == 4
            """)

    @pytest.mark.parametrize("attributes", ["", "__slots__ = ()"], ids=["shared", "fixed"])
    def test_a_loader_of_others(self, attributes):
        """Those who freeze programs have one loader for all modules, which may take no attributes."""
        check(f"""
            import importlib.machinery, sys

            class Loader:
                {attributes}
                def create_module(self, spec):
                    return None
                def exec_module(self, module):
                    module.__spec__.loader_state.exec_module(module)
                def get_source(self, name):
                    return name.upper()

            class Finder:
                def find_spec(self, name, path=None, target=None):
                    spec = importlib.machinery.PathFinder.find_spec(name, path)
                    if spec is not None and spec.origin.endswith(".py"):
                        spec.loader_state, spec.loader = spec.loader, loader
                        return spec

            loader = Loader()
            sys.meta_path.insert(0, Finder())
            import atoll
            atoll.install()
            import importlib.util
            spec = importlib.util.find_spec("concurrent.futures")
            assert spec.loader.get_source(spec.name) == "CONCURRENT.FUTURES"
            import concurrent.futures, fractions
            assert concurrent.futures.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor
            assert concurrent.futures.__loader__ is concurrent.futures.__spec__.loader is loader
            assert type(fractions.__loader__) is Loader
            assert not hasattr(fractions, "interpreter") and not hasattr(fractions, "__getattr__")
            """)

    @pytest.mark.parametrize("before", ["", "import concurrent.futures"])
    def test_the_executors_module(self, before):
        check(f"""
            {before}
            import atoll
            atoll.install()
            import concurrent.futures
            assert concurrent.futures.interpreter.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor
            from concurrent.futures import interpreter
            assert interpreter.BrokenInterpreterPool is atoll.futures.BrokenInterpreterPool
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


class TestExecutor:
    """What install() means for those who have subclasses of the standard library's executors."""

    def test_subclasses_made_before(self):
        if VERSION < (3, 14):
            pytest.skip("the standard library has no such executor before 3.14")
        check("""
            import atoll, concurrent.futures as cf
            from concurrent.futures import InterpreterPoolExecutor as Before
            class Old(Before):
                @classmethod
                def prepare_context(cls, initializer, initargs):
                    return super().prepare_context(initializer, initargs)
            atoll.install()
            assert cf.InterpreterPoolExecutor is atoll.InterpreterPoolExecutor is not Before
            assert issubclass(Old, cf.InterpreterPoolExecutor) and issubclass(Before, cf.InterpreterPoolExecutor)
            assert not issubclass(cf.ThreadPoolExecutor, cf.InterpreterPoolExecutor)
            with Old(1) as pool:
                assert isinstance(pool, cf.InterpreterPoolExecutor) and isinstance(pool, cf.ThreadPoolExecutor)
                assert pool.submit(pow, 2, 3).result() == 8
            with cf.ThreadPoolExecutor(1) as pool: assert not isinstance(pool, cf.InterpreterPoolExecutor)
            class Mine(atoll.InterpreterPoolExecutor): pass
            assert not issubclass(Old, Mine) and issubclass(Mine, cf.InterpreterPoolExecutor)
            """)

    @pytest.mark.parametrize("install", ["atoll.install()", ""], ids=["installed", "alone"])
    def test_contexts(self, install):
        """prepare_context(): a subclass that makes the contexts of its workers gets them."""
        if VERSION < (3, 14):
            pytest.skip("ThreadPoolExecutor has no such hook before 3.14")
        check(f"""
            import atoll
            {install}
            import concurrent.futures as cf, threading
            from concurrent.futures.thread import ThreadPoolExecutor, WorkerContext
            from concurrent.futures.interpreter import WorkerContext as InInterpreter

            class Mixin:
                log = []
                def initialize(self): super().initialize(); self.log.append("initialize")
                def run(self, task): self.log.append("run"); return super().run(task)
                def finalize(self): self.log.append("finalize"); super().finalize()
            class Plain(Mixin, WorkerContext): pass
            class Isolated(Mixin, InInterpreter): pass

            class Threads(ThreadPoolExecutor):
                @classmethod
                def prepare_context(cls, initializer, initargs): return Plain.prepare(initializer, initargs)
            class Interpreters(atoll.InterpreterPoolExecutor):
                @classmethod
                def prepare_context(cls, initializer, initargs): return Isolated.prepare(initializer, initargs)
            class Both(atoll.InterpreterPoolExecutor):
                @classmethod
                def prepare_context(cls, initializer, initargs):
                    context, task = super().prepare_context(initializer, initargs)
                    def logged(): Mixin.log.append("context"); return context()
                    return logged, task

            def where(_=None):
                import atoll
                return atoll.get_current().id
            for kind in (Threads, Both, *([Interpreters] if {bool(install)} else [])):
                del Mixin.log[:]
                with kind(1, "prefix") as pool:
                    assert isinstance(pool, cf.Executor)
                    assert (pool.submit(where).result() == 0) == (kind is Threads), kind
                    assert len(list(pool.map(where, range(3)))) == 3
                    failed = pool.submit(int, "x").exception()
                    assert isinstance(failed, ValueError), failed
                try: pool.submit(where)
                except RuntimeError: pass
                else: raise AssertionError
                expected = ["context"] if kind is Both else ["initialize", *["run"] * 5, "finalize"]
                assert Mixin.log == expected, (kind, Mixin.log)
            assert len(atoll.list_all()) == 1
            """)

    def test_subclasses_of_the_thread_pool(self):
        check("""
            import atoll
            from concurrent.futures import ThreadPoolExecutor
            class Before(ThreadPoolExecutor):
                started = 0
                def _adjust_thread_count(self):
                    Before.started += 1
                    super()._adjust_thread_count()
                def submit(self, fn, /, *args, **kwargs): return super().submit(fn, *args, **kwargs)
            atoll.install()
            import threading
            class After(Before): pass
            for kind in (Before, After):
                with kind(1, thread_name_prefix="mine", initializer=threading.current_thread) as pool:
                    assert pool.submit(lambda: threading.current_thread().name).result() == "mine_0"
                    assert list(pool.map(abs, [-1, -2])) == [1, 2]
            assert Before.started == 6
            """)

    def test_other_names_of_the_module(self):
        check("""
            import atoll
            atoll.install()
            import concurrent.futures.interpreter as module
            assert module.BrokenInterpreterPool is atoll.futures.BrokenInterpreterPool
            try: module.nothing
            except AttributeError as error: assert "concurrent.futures.interpreter" in str(error)
            else: raise AssertionError
            """)
