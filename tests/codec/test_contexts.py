"""contextvars: what crosses of a context, and asyncio.to_thread with a pool as the default executor."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import subprocess
import sys
import textwrap
import threading

import pytest

import atoll
import helpers_context
from helpers import TESTS

variable = contextvars.ContextVar("variable")


def read_there():
    import helpers_context

    return helpers_context.number.get(), helpers_context.text.get("none")


def keep(context):
    return context


def values(context):
    return {variable.name: value for variable, value in context.items()}


@pytest.fixture
def pool():
    with atoll.InterpreterPoolExecutor(1) as pool:
        yield pool


def test_variables_of_modules(pool):
    def fill():
        helpers_context.number.set(3)
        helpers_context.text.set("text")
        return contextvars.copy_context()

    context = contextvars.Context().run(fill)
    assert pool.submit(context.run, read_there).result() == (3, "text")
    assert pool.submit(contextvars.Context().run, read_there).result() == (0, "none")


def test_values_that_cannot_cross_are_left_out(pool):
    def fill():
        helpers_context.number.set(threading.Lock())
        helpers_context.text.set("there")
        return contextvars.copy_context()

    context = contextvars.Context().run(fill)
    assert pool.submit(context.run, read_there).result() == (0, "there")


def test_shared_objects_and_large_values(pool):
    queue = atoll.create_queue()

    def fill():
        helpers_context.number.set(queue)
        helpers_context.text.set(b"x" * 100_000)
        return contextvars.copy_context()

    context = contextvars.Context().run(fill)
    number, text = pool.submit(context.run, read_there).result()
    assert number is queue
    assert text == b"x" * 100_000


def test_a_context_comes_back(pool):
    helpers_context.number.set(8)
    returned = pool.submit(keep, contextvars.copy_context()).result()
    assert returned[helpers_context.number] == 8


def test_a_variable_is_itself(interp):
    assert interp.call(keep, helpers_context.number) is helpers_context.number
    local = contextvars.ContextVar("local", default=5)
    assert interp.call(keep, local) is local

    def get(variable):
        return variable.get()

    assert interp.call(get, local) == 5


def test_tokens_do_not_cross(interp):
    token = variable.set(1)
    with pytest.raises(atoll.NotShareableError, match="Token"):
        interp.call(keep, token)


def test_to_thread():
    async def main():
        executor = atoll.InterpreterPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(executor)
        helpers_context.number.set(42)
        decimal.getcontext().prec = 11
        return await asyncio.to_thread(read_there), await asyncio.to_thread(pow, 2, 5)

    assert contextvars.Context().run(asyncio.run, main()) == ((42, "none"), 32)


def test_variables_of_main():
    """A function of the script sees its own variables, call after call."""
    source = f"""
        import asyncio, contextvars, sys
        sys.path.insert(0, {str(TESTS)!r})
        import atoll
        user = contextvars.ContextVar("user", default="nobody")
        def who():
            return user.get()
        async def main():
            asyncio.get_running_loop().set_default_executor(atoll.InterpreterPoolExecutor(1))
            answers = [await asyncio.to_thread(who)]
            for name in "ab":
                user.set(name)
                answers.append(await asyncio.to_thread(who))
            return answers
        answers = asyncio.run(main())
        assert answers == ["nobody", "a", "b"], answers
        print("right")
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")
