"""The main interpreter has imported the same extensions, before the others did or after, in whatever way it can."""

from __future__ import annotations

import pytest

import ext_use
from helpers import check_ended, run_python

pytest_plugins = ["ext_fixtures"]

# A few modules to a process, which would otherwise be most of the time.
GROUPS = [ext_use.ISOLATED[start : start + 6] for start in range(0, len(ext_use.ISOLATED), 6)]

START = """
import atoll, ext_use, sys
from helpers import together
sys.stdout.reconfigure(line_buffering=True)
"""
# Two interpreters at once, next to main, which has its own.
USE = """
def use(module, interps):
    print(module)
    for interp in interps:
        interp.call(ext_use.fresh, module)
    together(3, lambda number: ext_use.use(module) if number == 2 else interps[number].call(ext_use.use, module))
"""


def check_script(source, *options, end="end\n", **details):
    """Run the source in a process, which has to print this last and to end with status 0, without a word else."""
    done = run_python(START + source, *options, **details)
    check_ended(done, 0)
    assert done.stderr == "", done.stderr
    assert done.stdout.endswith(end), done.stdout


@pytest.mark.usefixtures("corpus")
class TestOrder:
    @pytest.mark.parametrize("modules", GROUPS, ids=lambda modules: modules[0])
    def test_main_first(self, modules):
        check_script(f"""{USE}
for module in {modules}:
    ext_use.fresh(module)
interps = [ext_use.create() for _ in range(2)]
for module in {modules}:
    use(module, interps)
for interp in interps:
    interp.close()
for module in {modules}:
    ext_use.use(module)
print("end")
""")

    @pytest.mark.parametrize("modules", GROUPS, ids=lambda modules: modules[0])
    def test_main_later(self, modules):
        check_script(f"""{USE}
interps = [ext_use.create() for _ in range(3)]
for module in {modules}:
    interps[2].call(ext_use.fresh, module)
for module in {modules}:
    ext_use.fresh(module)
    use(module, interps[:2])
for module in {modules}:
    together(2, lambda number: ext_use.use(module) if number else interps[2].call(ext_use.use, module))
for interp in interps:
    interp.close()
later = ext_use.create()
for module in {modules}:
    later.call(ext_use.fresh, module)
    ext_use.use(module)
later.close()
print("end")
""")

    def test_main_first_with_development_mode(self):
        check_script(
            f"""{USE}
modules = {ext_use.ISOLATED}
for module in modules:
    ext_use.fresh(module)
interps = [ext_use.create() for _ in range(2)]
for module in modules:
    use(module, interps)
for interp in interps:
    interp.close()
print("end")
""",
            "-X",
            "dev",
        )

    def test_main_only_one(self):
        """What takes itself for alone, once in main and once in an interpreter."""
        check_script(
            """
interp = ext_use.create()
for module in ["ext_static_id", "ext_main_only", "ext_foreign"]:
    ext_use.call(module, "bump")
    interp.call(ext_use.call, module, "bump")
print(ext_use.call("ext_static_id", "first"), interp.call(ext_use.call, "ext_static_id", "first") == interp.id)
print(ext_use.call("ext_main_only", "state"), interp.call(ext_use.call, "ext_main_only", "state")[0] == interp.id)
pair = together(2, lambda n: interp.call(ext_use.foreign_run, 50, 2) if n else ext_use.foreign_run(50, 2))
print(pair[0][:2], pair[1][:2])
interp.close()
""",
            end="0 True\n(0, True, False) True\n((100, 0), True) ((100, 0), True)\n",
        )


@pytest.mark.usefixtures("corpus")
class TestGlobal:
    """RTLD_GLOBAL makes a library's symbols everybody's: those of the original must not become the copies'."""

    MODULES = ["ext_global", "ext_unique", "ext_single"]

    def test_main_first(self):
        check_script(f"""{USE}
import os
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
for module in {self.MODULES}:
    ext_use.fresh(module)
    ext_use.use(module)
interps = [ext_use.create() for _ in range(2)]
for module in {self.MODULES}:
    use(module, interps)
for interp in interps:
    interp.close()
print("end")
""")

    def test_main_later(self):
        check_script(f"""{USE}
import os
interps = [ext_use.create() for _ in range(2)]
for module in {self.MODULES}:
    interps[0].call(ext_use.fresh, module)
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
for module in {self.MODULES}:
    ext_use.fresh(module)
    ext_use.use(module)
    interps[0].call(ext_use.use, module)
    interps[1].call(ext_use.use_fresh, module)
for interp in interps:
    interp.close()
print("end")
""")

    def test_in_interpreters(self):
        """Interpreters that ask for it themselves."""
        check_script(f"""{USE}
interps = [ext_use.create() for _ in range(3)]
for interp in interps:
    interp.exec("import os, sys; sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)")
for module in {self.MODULES}:
    for interp in interps:
        interp.call(ext_use.use_fresh, module)
    ext_use.fresh(module)
for module in {self.MODULES}:
    for interp in interps:
        interp.call(ext_use.use, module)
for interp in interps:
    interp.close()
print("end")
""")


@pytest.mark.usefixtures("corpus")
class TestByReference:
    def test_functions_of_main(self):
        """Functions and types that main has imported cross by reference, and are the receiver's there."""
        check_script("""
import ext_multi, ext_single, extpkg._runpath
interp = ext_use.create()
for module in [ext_single, ext_multi, extpkg._runpath]:
    module.bump()
    assert interp.call(module.owner) == interp.id
    assert interp.call(module.bump) == 1
    assert module.bump() == 2
assert interp.call(ext_use.same, ext_multi.Point, "ext_multi", "Point")
assert interp.call(callable, ext_single.bump)
interp.close()
print("end")
""")

    def test_module_from_an_interpreter(self):
        check_script("""
import ext_single
interp = ext_use.create()
assert interp.call(ext_use.get, "ext_single", "owner") is ext_single.owner
interp.close()
print("end")
""")


@pytest.mark.usefixtures("corpus")
class TestModes:
    """create(extensions=...) and ATOLL_EXTENSIONS."""

    STRICT = """
interp = {create}
kind, text, *_ = interp.call(ext_use.failure, "ext_single", None)
print(kind, text)
print(interp.call(ext_use.call, "ext_declares", "owner") == interp.id)
print([one.how for one in interp.call(ext_use.extensions)])
interp.close()
"""
    REFUSED = "ImportError module ext_single does not support loading in subinterpreters\nTrue\n['usual']\n"

    def test_strict(self):
        check_script(self.STRICT.format(create="ext_use.create(extensions='strict')"), end=self.REFUSED)

    def test_strict_by_environment(self):
        check_script(
            self.STRICT.format(create="ext_use.create()"),
            end=self.REFUSED,
            environment={"ATOLL_EXTENSIONS": "strict"},
        )

    def test_argument_before_environment(self):
        check_script(
            """
interp = ext_use.create(extensions="isolate")
interp.call(ext_use.use_fresh, "ext_single")
print([one.how for one in interp.call(ext_use.extensions)])
interp.close()
""",
            end="['isolated']\n",
            environment={"ATOLL_EXTENSIONS": "strict"},
        )

    def test_beside_each_other(self):
        check_script("""
isolate, strict, isolate_again = [ext_use.create(extensions=how) for how in ("isolate", "strict", "isolate")]
isolate.call(ext_use.use_fresh, "ext_multi")
assert strict.call(ext_use.failure, "ext_multi", None)[0] == "ImportError"
isolate_again.call(ext_use.use_fresh, "ext_multi")
for interp in (isolate, strict, isolate_again):
    interp.close()
print("end")
""")

    def test_shared(self):
        """Everything as usual, and whoever asks for it knows what that means."""
        check_script(
            """
interps = [ext_use.create(extensions="shared") for _ in range(2)]
addresses = {interp.call(ext_use.call, module, "address")
             for interp in interps for module in ("ext_slotless", "ext_refuses")}
print(len(addresses))
print(sorted((one.module, one.how, one.clone, one.bytes) for one in interps[0].call(ext_use.extensions)))
for interp in interps:
    interp.close()
""",
            end="2\n[('ext_refuses', 'shared', None, 0), ('ext_slotless', 'shared', None, 0)]\n",
        )

    @pytest.mark.parametrize("value", ["'other'", "''", "'ISOLATE'"])
    def test_unknown_word(self, value):
        check_script(
            f"""
try:
    atoll.create(extensions={value})
except ValueError as error:
    print("isolate" in str(error) and "strict" in str(error) and "shared" in str(error))
print(len(atoll.list_all()))
""",
            end="True\n1\n",
        )

    def test_no_word(self):
        check_script(
            """
for value in (1, b"isolate", ["isolate"]):
    try:
        atoll.create(extensions=value)
    except TypeError:
        print("TypeError")
atoll.create(extensions=None).close()
""",
            end="TypeError\nTypeError\nTypeError\n",
        )

    def test_unknown_word_in_environment(self):
        check_script(
            """
try:
    atoll.create()
except ValueError as error:
    print("ATOLL_EXTENSIONS" in str(error))
print(len(atoll.list_all()))
""",
            end="True\n1\n",
            environment={"ATOLL_EXTENSIONS": "other"},
        )

    def test_interpreter_of_an_interpreter(self):
        check_script("""
interp = ext_use.create()
interp.call(ext_use.use_fresh, "ext_single")
interp.exec("import ext_use; inner = ext_use.create(); inner.call(ext_use.use_fresh, 'ext_single'); inner.close()")
interp.call(ext_use.use, "ext_single")
interp.close()
print("end")
""")
