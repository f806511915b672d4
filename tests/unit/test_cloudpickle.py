"""What pickle refuses crosses through cloudpickle where that is installed, and is refused by name where it is not."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import atoll

OPTIONAL = Path(sys.prefix) / "optional"


def test_refused_without(tmp_path: Path) -> None:
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("cloudpickle is installed in this environment")
    with atoll.create() as interp, pytest.raises(atoll.NotShareableError, match="args.*is not shareable"):
        interp.call(list, {1: 2}.keys())


@pytest.mark.skipif(
    not (OPTIONAL / "cloudpickle").is_dir(),
    reason="cloudpickle is not beside this environment: see tools/env",
)
def test_used_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(
        textwrap.dedent(
            """
            def closure_over(value):
                def inner(more):
                    return value + more
                return inner

            def make_class():
                class Inner:
                    def answer(self):
                        return 42
                return Inner
            """
        )
    )
    program = f"""
import sys
sys.path[:0] = [{str(OPTIONAL)!r}, {str(tmp_path)!r}]
import atoll, library
with atoll.create() as interp:
    print(interp.call(library.closure_over(5), 6))
    print(interp.call(library.closure_over, 7)(8))
    print(interp.call(library.make_class().answer, None))
    print(interp.call(list, {{1: 2}}.keys()))
    with open(__import__("os").__file__) as file:
        for held in (file, [file], {{file: 1}}.keys(), {{1: file}}.values(), library.closure_over(file)):
            try:
                print("crossed:", interp.call(repr, held))
            except atoll.NotShareableError:
                pass
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "11\n15\n42\n[1]\n", "")
