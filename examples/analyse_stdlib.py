"""Measure the complexity of Python's whole standard library, four ways.

What happens when you run this (``make run``, or ``python examples/analyse_stdlib.py``):

1. It finds every ``.py`` file of the standard library of the Python that runs it: about 1,800.
2. It parses each file and counts its syntax nodes, its names, and the cyclomatic complexity of
   each function.  This is pure Python work, the kind that one GIL keeps on one core.
3. It does that four times: serially, with a pool of threads, with a pool of processes, and with
   Atoll's interpreters, one per core.  Each way runs in a fresh process of its own, so that its
   time and its peak memory are its own.
4. It checks that the four results are equal (exit status 1 when they are not), prints what each
   way took, and names the ten most complex functions.

How the work is spread is in ``ways.py``; the part to copy into your own program is ``with_atoll()`` there.
"""

import ast
import os
import sysconfig
from collections.abc import Iterable

import ways

# (complexity, qualified name, line), of one function
Function = tuple[int, str, int]
# (path, nodes, distinct names, functions, why it was skipped or None), of one file
File = tuple[str, int, int, list[Function], str | None]


# ------------------------------------------------------------------------------------------------
# The work: what is done to each file.  Nothing here knows that it may run in another interpreter.
# ------------------------------------------------------------------------------------------------

DECISIONS = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.comprehension),
    *(ast.ExceptHandler, ast.match_case, ast.Assert),
)


def measure(tree: ast.AST) -> tuple[int, int, list[Function]]:
    """Return the number of nodes, of distinct names, and every function with its complexity.

    The complexity is one more than the number of decisions in a function.  What a nested function
    decides counts for the nested function only.
    """
    nodes = 0
    names = set()
    functions: list[tuple[str, int]] = []
    complexities: list[int] = [0]  # [0] is the module's own, which nobody asks for
    # (node, the index in complexities of the function it is in, the qualified name it is under)
    todo: list[tuple[ast.AST, int, str]] = [(tree, 0, "")]
    while todo:
        node, owner, prefix = todo.pop()
        nodes += 1
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            owner = len(complexities)
            complexities.append(1)
            functions.append((prefix + node.name, node.lineno))
            prefix += node.name + "."
        elif isinstance(node, ast.ClassDef):
            prefix += node.name + "."
        elif isinstance(node, DECISIONS):
            complexities[owner] += 1
            if isinstance(node, ast.comprehension):
                complexities[owner] += len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            complexities[owner] += len(node.values) - 1
        todo.extend([(child, owner, prefix) for child in ast.iter_child_nodes(node)])
    found = [
        (complexity, name, line) for complexity, (name, line) in zip(complexities[1:], functions, strict=True)
    ]
    return nodes, len(names), found


def analyse(paths: list[str]) -> list[File]:
    """Parse and measure some files; a file that is no valid Python is skipped with the reason.

    The standard library holds such files on purpose: they are the input of its own tests.
    """
    done: list[File] = []
    for path in paths:
        with open(path, "rb") as file:
            source = file.read()
        try:
            tree = ast.parse(source, path)
        except (SyntaxError, ValueError) as error:
            done.append((path, 0, 0, [], type(error).__name__))
        else:
            done.append((path, *measure(tree), None))
    return done


def ready() -> bool:
    """Answer at once: the first answer tells how long a way takes to start."""
    return True


# ------------------------------------------------------------------------------------------------
# The input: all files, cut into tasks of similar size, the largest first.
# ------------------------------------------------------------------------------------------------


def find_files(limit: int | None) -> list[tuple[int, str]]:
    """Return (bytes, path) of every .py file of the standard library, or of `limit` of them.

    A limit takes files spread over the whole library, so that their kinds stay mixed.
    """
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in ("site-packages", "dist-packages")]
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py") and os.path.isfile(path):
                found.append((os.path.getsize(path), path))
    found.sort()
    if limit is not None and limit < len(found):
        step = len(found) / limit
        found = [found[int(i * step)] for i in range(limit)]
    return found


def cut(files: Iterable[tuple[int, str]], task_bytes: int = 64 * 1024) -> list[ways.Task]:
    """Cut the files into tasks of about `task_bytes` of source, the largest files first."""
    tasks: list[ways.Task] = []
    for size, path in sorted(files, reverse=True):
        if not tasks or tasks[-1][1] + size > task_bytes:
            tasks.append(([], 0))
        paths, already = tasks[-1]
        tasks[-1] = ([*paths, path], already + size)
    return tasks


# ------------------------------------------------------------------------------------------------
# The whole
# ------------------------------------------------------------------------------------------------


def print_most_complex(files: list[File], count: int = 10) -> None:
    """Print the most complex functions of all files."""
    root = sysconfig.get_path("stdlib")
    functions = [
        (-complexity, os.path.relpath(file[0], root), line, name)
        for file in files
        for complexity, name, line in file[3]
    ]
    print(f"{'complexity':>10}  function")
    for complexity, path, line, name in sorted(functions)[:count]:
        print(f"{-complexity:>10}  {name}  ({path}:{line})")


def main() -> int:
    """Run the ways, compare, print; return the exit status."""
    options = ways.parse_arguments(__doc__, "only so many files, spread over the library")
    files = find_files(options.files)
    job = ways.Job(cut(files), analyse, ready, "source")
    if options.way:
        return ways.run_child(job, options)
    if ways.is_missing(options):
        return 1

    ways.heading("The input")
    size = sum(size for size, _ in files)
    print(f"{len(files):,} files, {size / 2**20:,.1f} MiB of Python source")
    print(f"of {sysconfig.get_path('stdlib')}")
    if not files:
        print("The standard library of this Python is not on disk as .py files.")
        return 1

    ways.heading("The work: parse each file, count nodes, names, and the complexity of each function")
    comparison = ways.Comparison(options, [])

    found: list[File] = comparison.print_equality()
    skipped = sum(file[4] is not None for file in found)
    print(f"{len(found) - skipped:,} files parsed, {skipped:,} skipped (no valid Python)")
    print(
        f"{sum(file[1] for file in found):,} nodes,"
        f" {sum(file[2] for file in found):,} distinct names in files,"
        f" {sum(len(file[3]) for file in found):,} functions"
    )

    comparison.print_costs()

    ways.heading("The ten most complex functions")
    print_most_complex(found)
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    ways.run(main)
