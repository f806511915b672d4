"""Class statements in source: where one is, which names it uses, and its code alone.

For ``atoll._crossing.statements``.
"""

from __future__ import annotations

import ast
import functools
import linecache
import symtable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Iterator

LOCALS = "<locals>"


def find_statement(
    qualname: str, first: int | None, functions: list[types.FunctionType], home: dict[str, Any]
) -> tuple[ast.ClassDef, list[Any], str, ast.Module]:
    """The statement, the functions and classes that it is in, its file, and the tree of that.

    first: its first line, where that is known; functions: those that it has made; home: the globals that it ran in.

    Raises:
        LookupError: There is none.
    """
    name = qualname.rpartition(".")[2]
    files = dict.fromkeys(function.__code__.co_filename for function in functions)
    if not files:
        if isinstance(home.get("__file__"), str):
            files[home["__file__"]] = None
        cells = [file for file in reversed(list(linecache.cache)) if not file.endswith(".py")]
        files.update(dict.fromkeys(cells))
    for file in files:
        lines = linecache.getlines(file, home)
        if not any(name in line for line in lines):
            continue
        try:
            tree = _parsed("".join(lines))
        except (SyntaxError, ValueError):
            continue
        found = [
            (node, enclosing)
            for node, enclosing in _statements(tree, [])
            if _path_of(node, enclosing) == qualname and _is_at(node, first, functions)
        ]
        if found:
            return *found[-1], file, tree
    raise LookupError("but its source cannot be found")


@functools.lru_cache(2)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _statements(node: Any, enclosing: list[Any]) -> Iterator[tuple[ast.ClassDef, list[Any]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child, enclosing
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _statements(child, [*enclosing, child])
        elif isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield from _statements(child, enclosing)


def undecorated(node: ast.ClassDef) -> ast.ClassDef:
    """The same statement without its decorators."""
    copy = ast.ClassDef(**{**dict(ast.iter_fields(node)), "decorator_list": []})
    return ast.copy_location(copy, node)


def is_function(node: Any) -> bool:
    """Whether one of those that a statement is in is a function."""
    return not isinstance(node, ast.ClassDef)


def _path_of(node: ast.ClassDef, enclosing: list[Any]) -> str:
    outer = [f"{one.name}.{LOCALS}" if is_function(one) else one.name for one in enclosing]
    return ".".join((*outer, node.name))


def _is_at(node: ast.ClassDef, first: int | None, functions: list[types.FunctionType]) -> bool:
    begin = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    if first is not None:
        return first == begin
    end = node.end_lineno or 0
    return not functions or any(begin <= one.__code__.co_firstlineno <= end for one in functions)


def flags_of(tree: ast.Module, functions: list[types.FunctionType]) -> int:
    """What ``from __future__`` has switched on."""
    import __future__

    flag: int = __future__.annotations.compiler_flag
    node: Any
    for node in tree.body:
        of_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if of_future and any(one.name == "annotations" for one in node.names):
            return flag
    return flag if any(one.__code__.co_flags & flag for one in functions) else 0


class Names:
    """The names in a statement: those that making the class uses, in annotations, in functions, those that it binds."""

    def __init__(self, node: ast.ClassDef) -> None:
        self.direct: set[str] = set()
        self.annotated: set[str] = set()
        self.nested: set[str] = set()
        self.bound: set[str] = set()
        for statement in node.body:
            self.bound.update(_bound_by(statement))
        for name in ("bases", "keywords", "decorator_list", "body", "type_params"):
            for part in getattr(node, name, ()):
                self._visit(part, self.direct)
        table = symtable.symtable(ast.unparse(node), "<class>", "exec")
        for one in table.get_children():
            self.nested.update(_globals_of_functions(one))

    def _visit(self, node: Any, into: set[str]) -> None:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):  # what is bound there is the class's own
                into.add(node.id)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            into.add(node.target.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for name, value in ast.iter_fields(node):
                parts = value if isinstance(value, list) else [value]
                for part in parts:
                    if name == "returns":
                        self._annotation(part)
                    elif isinstance(part, ast.AST) and name != "body":
                        self._visit(part, into)
            return
        elif isinstance(node, (ast.AnnAssign, ast.arg)):
            self._annotation(node.annotation)
        for part in ast.iter_child_nodes(node):
            if part is not getattr(node, "annotation", None):
                self._visit(part, into)

    def _annotation(self, node: Any) -> None:
        """With what is named in text."""
        if node is None:
            return
        into = self.annotated
        self._visit(node, into)
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                try:
                    self._visit(ast.parse(part.value.strip(), mode="eval").body, into)
                except (SyntaxError, ValueError):
                    continue


def _globals_of_functions(table: symtable.SymbolTable) -> Iterator[str]:
    """The globals that functions in a scope name, and no variables or parameters of theirs."""
    if isinstance(table, symtable.Function):
        yield from (one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced())
    for one in table.get_children():
        yield from _globals_of_functions(one)


def _bound_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def stored_names(body: list[Any]) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        yield from stored_names(list(ast.iter_child_nodes(node)))


def compile_alone(
    node: ast.ClassDef, enclosing: list[Any], names: list[str], module: Any, flags: int, file: str
) -> types.CodeType:
    """The statement alone, in empty functions and classes of those names that it was in."""
    inner: Any = node
    if isinstance(module, str):
        says = ast.parse(f"__module__ = {module!r}").body[0]
        at = 1 if ast.get_docstring(node, clean=False) is not None else 0
        inner = ast.ClassDef(
            **{
                **dict(ast.iter_fields(node)),
                "body": [*node.body[:at], _placed(says, node), *node.body[at:]],
            }
        )
        ast.copy_location(inner, node)
    arguments = names  # only the innermost function has them
    for outer in reversed(enclosing):
        if is_function(outer):
            wrapper: Any = ast.parse(f"def f({', '.join(arguments)}):\n return {inner.name}").body[0]
            wrapper.name = outer.name
            wrapper = _placed(wrapper, outer)
            wrapper.body.insert(0, inner)
            arguments = []
        else:
            wrapper = _placed(ast.parse("class C: pass").body[0], outer)
            wrapper.name = outer.name
            wrapper.body = [inner]
        inner = wrapper
    tree = ast.Module(body=[inner], type_ignores=[])
    code: types.CodeType = compile(tree, file, "exec", flags=flags, dont_inherit=True)
    return code


def _placed(node: Any, at: ast.AST) -> Any:
    for part in ast.walk(node):
        ast.copy_location(part, at)
    return node
