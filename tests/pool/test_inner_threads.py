"""How many threads libraries get while workers work; tests/c/test_inner.c has the rest."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess

import pytest

import atoll
from atoll._pool import inner
from helpers import check_ended, run_python

SOURCE = """
static int number = 8;
int openblas_get_num_threads(void) { return number; }
void openblas_set_num_threads(int count) { number = count; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library that looks like OpenBLAS."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "blas.c").write_text(SOURCE)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    path = str(folder / "libopenblas_test.so")
    subprocess.run([*compiler, "-shared", "-fPIC", str(folder / "blas.c"), "-o", path], check=True)
    return path


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in inner._VARIABLES:
        monkeypatch.delenv(name, raising=False)


def number_of(path):
    import ctypes

    return ctypes.CDLL(path).openblas_get_num_threads()


class TestPool:
    @pytest.mark.parametrize("count", [1, 3])
    def test_while_it_works(self, library, count):
        ours = ctypes.CDLL(library)
        assert ours.openblas_get_num_threads() == 8
        with atoll.InterpreterPoolExecutor(2, inner_threads=count) as pool:
            assert set(pool.map(number_of, [library] * 20)) == {count}
        assert ours.openblas_get_num_threads() == 8

    def test_share_of_the_processors(self, library):
        share = max(1, inner.processors() // 2)
        ctypes.CDLL(library)
        with atoll.InterpreterPoolExecutor(2) as pool:
            assert pool.submit(number_of, library).result() == min(8, share)

    def test_the_smallest_of_two_pools(self, library):
        ctypes.CDLL(library)
        with atoll.InterpreterPoolExecutor(1, inner_threads=4) as pool:
            assert pool.submit(number_of, library).result() == 4
            with atoll.InterpreterPoolExecutor(1, inner_threads=2) as other:
                assert other.submit(number_of, library).result() == 2
                assert pool.submit(number_of, library).result() == 2
            assert pool.submit(number_of, library).result() == 4

    def test_loaded_by_a_task(self, library):
        done = run_python(
            f"""
            import atoll
            def number_of(path):
                import ctypes
                return ctypes.CDLL(path).openblas_get_num_threads()
            with atoll.InterpreterPoolExecutor(1, inner_threads=2) as pool:
                print([pool.submit(number_of, {library!r}).result() for _ in range(2)])
            """
        )
        check_ended(done, 0, "[8, 2]\n", clean=True)


class TestCount:
    def test_default(self, monkeypatch):
        monkeypatch.setattr(inner, "processors", lambda: 16)
        assert [inner.inner_count(None, workers) for workers in (1, 2, 5, 16, 100)] == [0, 8, 3, 1, 1]
        assert inner.inner_count(7, 16) == 7

    def test_who_has_set_a_variable_has_decided(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert inner.inner_count(None, 4) == 0
        assert inner.inner_count(2, 4) == 2

    @pytest.mark.parametrize(
        ("value", "error", "text"),
        [
            (0, ValueError, "inner_threads must be greater than 0"),
            (-1, ValueError, "inner_threads must be greater than 0"),
            (1.5, TypeError, "inner_threads must be an integer, not float"),
            ("2", TypeError, "inner_threads must be an integer, not str"),
            (2**40, ValueError, "inner_threads must be at most"),
        ],
    )
    def test_bad(self, value, error, text):
        with pytest.raises(error, match=text):
            atoll.InterpreterPoolExecutor(1, inner_threads=value)
