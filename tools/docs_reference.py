"""Write the reference pages of the documentation: every public name, with its types and its docstring.

    docs_reference.py DIRECTORY

Docstrings are those of the installed package, types those of the sources: ``_atoll.pyi`` for what is written in C, else
the module that defines the name. Docstrings are plain text for ``help()``; here their names of functions become links
and their lists of parameters lists. A public name that is on no page, one that is on a page and not public, and
one without a docstring is an error. The pages are in the form that Sphinx reads (reStructuredText).
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atoll
import atoll.futures

SOURCE = Path(__file__).resolve().parent.parent / "python" / "atoll"

# The pages in their order: file, title, what it is about, names.
PAGES = [
    (
        "interpreters",
        "Interpreters",
        "Making, calling and closing them. :doc:`../control` says how to stop and limit what they do.",
        "create Interpreter list_all get_current get_main prewarm timeout install get_include",
    ),
    (
        "pools",
        "Pools and futures",
        "The interface of :mod:`concurrent.futures`, over interpreters.",
        "InterpreterPoolExecutor futures.Future futures.BrokenInterpreterPool",
    ),
    (
        "queues",
        "Queues",
        "Between threads of all interpreters.",
        "create_queue Queue select UNBOUND UNBOUND_ERROR UNBOUND_REMOVE",
    ),
    (
        "data",
        "Data that crosses and data that is shared",
        ":doc:`../crossing` says what may be sent at all, :doc:`../sharing` which of these is for what.",
        "is_shareable register_shareable unregister_shareable freeze is_frozen frozen_memory freezing Area share "
        "SharedArray SharedBuffer SharedArrow SharedArrowStream SharedTensor SharedDict",
    ),
    (
        "locks",
        "Locks and the like",
        "As those of :mod:`threading`, for threads of all interpreters.",
        "Lock RLock Condition Event Semaphore BoundedSemaphore Barrier AtomicInt",
    ),
    (
        "watching",
        "Watching",
        ":doc:`../watching` describes what they show.",
        "stats metrics trace loaded_extensions kept_extensions Extension KeptExtension",
    ),
    (
        "supervising",
        "Supervising",
        ":doc:`../supervising` has an example.",
        "Supervisor SupervisorEvent ChildState heartbeat",
    ),
    (
        "exceptions",
        "Exceptions",
        "What Atoll raises. ``atoll.interpreters`` has those of PEP 734 as well.",
        "InterpreterError InterpreterNotFoundError ExecutionFailed NotShareableError ResourceLimitExceeded "
        "InterpreterStuckError QueueError QueueEmpty QueueFull QueueShutDown QueueNotFoundError "
        "ItemInterpreterDestroyed LockOwnerLost SupervisorError",
    ),
]
LISTED = {name for page in PAGES for name in page[3].split()}

# Special methods that say how a type is used; the others say nothing that its text does not.
SHOWN = {
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__contains__",
    "__len__",
    "__iter__",
    "__iadd__",
    "__isub__",
}

# Names for which a reader wants a link, and what else reads as code: calls, dunders, words with underscores.
CODE = re.compile(
    r"(?<![\w.'])((?:\w+\.)*\w+)\(\)|\b(?:__\w+__|\w+_\w+)\b(?!\()|(?<![\w'])'[^'\s]{1,30}'|`(\w+)`"
    r"|\b([A-Z][a-z]+[A-Z]\w+)\b|\bdocs/([\w-]+)\.md\b"
)
PARAMETER = re.compile(r"(\*{0,2}\w+(?:, \w+)*(?: and \w+)?): (?=\S)")


def find(name: str) -> Any:
    """The object of a public name."""
    found = atoll
    for part in name.split("."):
        found = getattr(found, part)
    return found


def linked(match: re.Match[str]) -> str:
    """A name of the text as code, or as a link where it is a public one."""
    if match[4]:
        return f":doc:`../{match[4]}`"
    name = match[1] or match[2] or match[3]
    if name is None:
        return f"``{match[0]}``"
    plain = name.removeprefix("atoll.")
    call = "()" if match[1] else ""
    if f"futures.{plain}" in LISTED:
        plain = f"futures.{plain}"
    owner, _, method = plain.rpartition(".")
    if plain in LISTED or (owner in LISTED and method[:1].islower()):
        return f":py:obj:`{name}{call} <atoll.{plain}>`"
    if match[3] and not hasattr(builtins, name):
        return escaped(name)
    return f"``{name}{call}``"


def marked_up(text: str) -> str:
    """A line or paragraph of plain text in reStructuredText; what is between double backticks is left."""
    pieces = []
    for at, part in enumerate(re.split(r"(``[^`]+``|:\w+:`[^`]+`)", text)):
        if at % 2:
            name = part.strip("`").removesuffix("()")
            pieces.append(linked(CODE.match(f"{name}()")) if name in LISTED and part[2:-2] != name else part)
            continue
        last = 0
        for match in CODE.finditer(part):
            pieces += [escaped(part[last : match.start()]), linked(match)]
            last = match.end()
        pieces.append(escaped(part[last:]))
    result = ""
    for piece in filter(None, pieces):
        # Markup neither begins nor ends at a letter: an escaped blank, which nobody sees, goes between.
        begins = piece[0] in ":`" and result and result[-1] not in " \n'\"([{<-/:"
        ends = result.endswith("`") and piece[0] not in " \n'\")]}>-/:.,;!?\\"
        result += ("\\ " if begins or ends else "") + piece
    return result


def escaped(text: str) -> str:
    """Plain text without anything that means markup."""
    return re.sub(r"([\\*|]|_(?!\w)|`)", r"\\\1", text)


def parameter(line: str, section: str) -> re.Match[str] | None:
    """The parameter that a line begins with: in small letters, but for what is in a section (of exceptions)."""
    match = PARAMETER.match(line)
    return match if match and (section or match[1].strip("*")[0].islower()) else None


def paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """The paragraphs of a docstring, each with the section that it is in ("Args", "Raises") or an empty string.

    A line that begins with a parameter, an asterisk or "Raises" begins one. A section is a line with its name alone,
    and what is indented below.
    """
    for block in re.split(r"\n\s*\n", text):
        section = ""
        if match := re.match(r"(Args|Attributes|Raises|Returns):\n", block):
            section, block = match[1], textwrap.dedent(block[match.end() :])
        lines: list[str] = []
        for line in block.splitlines():
            begins = line.startswith("* ") or (parameter(line, section) and (section or line[0] != " "))
            if lines and ">>>" not in block and (begins or line.startswith(("Raises ", "Returns "))):
                yield section, "\n".join(lines)
                lines = []
            lines.append(line)
        if lines:
            yield section, "\n".join(lines)


def as_markup(doc: str) -> str:
    """A docstring in reStructuredText."""
    result = []
    last = ""
    for section, paragraph in paragraphs(inspect.cleandoc(doc)):
        if section == "Raises" != last:
            result.append("Raises:")
        last = section
        match = parameter(paragraph, section)
        if paragraph.startswith("* "):
            result.append("* " + marked_up(re.sub(r"\n\s+", "\n", paragraph[2:])).replace("\n", "\n  "))
        elif ">>>" in paragraph:
            result.append(textwrap.dedent(paragraph))
        elif match:
            rest = marked_up(re.sub(r"\n\s+", "\n", paragraph[match.end() :])).replace("\n", "\n  ")
            names = re.sub(r"\*{0,2}\b(?!and\b)\w+", lambda name: f"**{escaped(name[0])}**", match[1])
            result.append(f"* {names}: {rest}")
        else:
            result.append(marked_up(textwrap.dedent(paragraph)))
    return "\n\n".join(result)


class Sources:
    """What the sources say of names: their types."""

    def __init__(self) -> None:
        self.found: dict[str, list[ast.AST]] = {}
        for path in [SOURCE / "_atoll.pyi", *sorted(SOURCE.rglob("*.py"))]:
            names: dict[str, list[ast.AST]] = {}
            for node in self.definitions(path):
                names.setdefault(node.name, []).append(node)
            for name, nodes in names.items():
                self.found.setdefault(name, nodes)

    def definitions(self, path: Path) -> Iterator[Any]:
        """All that is defined at the top of a file, or in a condition there."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for body in [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]:
            for node in body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    yield node

    def node(self, name: str) -> ast.AST | list[ast.FunctionDef] | None:
        """The definition of a public name, or those of its overloads."""
        found = self.found.get(name.rpartition(".")[2], [])
        functions = [node for node in found if isinstance(node, ast.FunctionDef)]
        return functions or (found[0] if found else None)


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, *, drop: bool, returns: bool = True) -> str:
    """The parameters and the result of a function; drop: not its first parameter."""
    arguments = node.args
    if drop:
        first = arguments.posonlyargs or arguments.args
        first = first[1:]
        alone = bool(arguments.posonlyargs)
        arguments = ast.arguments(
            posonlyargs=first if alone else [],
            args=arguments.args if alone else first,
            vararg=arguments.vararg,
            kwonlyargs=arguments.kwonlyargs,
            kw_defaults=arguments.kw_defaults,
            kwarg=arguments.kwarg,
            defaults=arguments.defaults,
        )
    text = f"({typed(ast.unparse(arguments))})"
    if returns and node.returns is not None:
        text += f" -> {typed(ast.unparse(node.returns))}"
    return text


def typed(text: str) -> str:
    """Types as a reader knows them: no names that only the stub has."""
    for private, known in {
        "_Dtype": "str | type",
        "_Index": "SupportsIndex | slice | EllipsisType | None",
        "_P.args": "P.args",
        "_P.kwargs": "P.kwargs",
        "_P": "P",
        "_T": "T",
        "_OffersArray": "SupportsArrowArray",
        "_OffersStream": "SupportsArrowStream",
        "_OffersTensor": "SupportsDLPack",
        "_atoll.": "",
        "types.": "",
    }.items():
        text = re.sub(
            rf"(?<![\w.]){re.escape(private)}" + (r"\b" if private[-1].isalnum() else ""), known, text
        )
    return text.replace("'", '"') if text.count("'") == 2 and text.startswith("'") else text


def directive(kind: str, signatures: list[str], body: str, *options: str) -> str:
    """A directive of Sphinx's domain of Python."""
    head = f".. py:{kind}:: "
    lines = [head + f"\n{' ' * len(head)}".join(signatures), *(f"   {option}" for option in options), ""]
    return "\n".join(lines) + "\n" + textwrap.indent(body, "   ") + "\n"


def member(cls: type, name: str, nodes: list[Any]) -> str:
    """A method or property."""
    thing = inspect.getattr_static(cls, name)
    doc = as_markup(getattr(thing, "__doc__", None) or "")
    if not doc:
        raise SystemExit(f"{cls.__name__}.{name} has no docstring")
    node = nodes[-1]
    decorators = {ast.unparse(one) for one in node.decorator_list}
    if "property" in decorators:
        return directive(
            "property", [name], doc, f":type: {typed(ast.unparse(node.returns))}" if node.returns else ""
        )
    options = [":async:"] if isinstance(node, ast.AsyncFunctionDef) else []
    if "classmethod" in decorators:
        options.append(":classmethod:")
    return directive("method", [name + signature(one, drop=True) for one in nodes], doc, *options)


def bodies(node: ast.ClassDef, sources: Sources) -> list[ast.stmt]:
    """What is in a class, and in its half that is written in C, where it has one."""
    halves = [
        ast.unparse(base).removeprefix("_atoll.")
        for base in node.bases
        if ast.unparse(base).startswith("_atoll._")
    ]
    own = {getattr(one, "name", None) for one in node.body}
    theirs = (one for half in halves for found in sources.found[half] for one in getattr(found, "body", []))
    return [*node.body, *(one for one in theirs if getattr(one, "name", None) not in own)]


def class_page(name: str, cls: type, node: ast.ClassDef | None, sources: Sources) -> str:
    """A class with its methods."""
    members: dict[str, list[Any]] = {}
    fields = []
    for one in bodies(node, sources) if node is not None else []:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(ast.unparse(decorator).endswith(".setter") for decorator in one.decorator_list):
                members.setdefault(one.name, []).append(one)
        elif isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id[0] != "_":
            fields.append(
                f".. py:attribute:: {one.target.id}\n   :no-index:\n   :type: {typed(ast.unparse(one.annotation))}\n"
            )
    made_by = [one for one in ("__new__", "__init__") if one in members]
    heads = (
        [name + signature(one, drop=True, returns=False) for one in members[made_by[0]]]
        if made_by
        else [name]
    )
    if issubclass(cls, BaseException):
        heads = [name]
    body = as_markup(cls.__doc__ or "") + "\n"
    if made_by == ["__init__"] and not issubclass(cls, BaseException):
        body += "\n" + as_markup(cls.__init__.__doc__ or "") + "\n"
    if issubclass(cls, BaseException):
        bases = ", ".join(f":py:exc:`{base_name(base)}`" for base in cls.__bases__)
        body += f"\nA subclass of {bases}.\n"
    shown = [one for one in members if (one[0] != "_" or one in SHOWN) and documented(cls, one)]
    parts = [body, *fields, *(member(cls, one, members[one]) for one in shown)]
    return directive("exception" if issubclass(cls, BaseException) else "class", heads, "\n".join(parts))


def base_name(base: type) -> str:
    """How a base class is called where it is documented."""
    module = base.__module__
    if module == "builtins":
        return base.__name__
    known = {"_queue": "queue", "concurrent.futures._base": "concurrent.futures"}
    return f"{known.get(module, module)}.{base.__qualname__}"


def ours(cls: type) -> bool:
    """Whether a class is Atoll's."""
    return cls.__module__.split(".")[0] == "atoll"


def documented(cls: type, name: str) -> bool:
    """Whether a class itself has this, with something to say; of special methods only those that say more than any."""
    thing = next((one.__dict__[name] for one in cls.__mro__ if name in one.__dict__ and ours(one)), None)
    if thing is None or name[0] != "_":
        return thing is not None
    return not re.match(
        r"(Return |Implement |Set |Delete )?(self|key|iter|len|bool)", getattr(thing, "__doc__", "") or ""
    )


def entry(name: str, sources: Sources) -> str:
    """What stands on a page for a name."""
    thing = find(name)
    node = sources.node(name)
    name = f"atoll.{name}" if "." in name else name
    if name.startswith("UNBOUND"):
        return directive("data", [name], as_markup(type(thing).__doc__ or "") + CONSTANTS[name])
    if not (thing.__doc__ or "").strip():
        raise SystemExit(f"{name} has no docstring")
    if isinstance(thing, type):
        return class_page(name, thing, node if isinstance(node, ast.ClassDef) else None, sources)
    nodes = node if isinstance(node, list) else []
    heads = [name + signature(one, drop=False) for one in nodes] or [name + str(inspect.signature(thing))]
    return directive("function", heads, as_markup(thing.__doc__))


CONSTANTS = {
    "UNBOUND": "\n\nFor ``unbounditems``: such an item is received as this object.",
    "UNBOUND_ERROR": "\n\nFor ``unbounditems``: receiving such an item raises :py:exc:`ItemInterpreterDestroyed`.",
    "UNBOUND_REMOVE": "\n\nFor ``unbounditems``: such an item is removed from the queue.",
}


def check_names() -> None:
    """Every public name is on a page, and nothing else is."""
    public = {*atoll.__all__} | {
        f"futures.{name}" for name in atoll.futures.__all__ if not hasattr(atoll, name)
    }
    if public != LISTED:
        raise SystemExit(
            f"not in the reference: {sorted(public - LISTED)}; not public: {sorted(LISTED - public)}"
        )


def main() -> None:
    """Write the pages."""
    check_names()
    directory, sources = Path(sys.argv[1]), Sources()
    directory.mkdir(parents=True, exist_ok=True)
    for file, title, about, names in PAGES:
        text = f"{title}\n{'=' * len(title)}\n\n{about}\n\n"
        for name in names.split():
            # What is not in atoll itself is shown with its module.
            module = f".. py:currentmodule:: {'None' if '.' in name else 'atoll'}\n\n"
            text += module + entry(name, sources) + "\n"
        (directory / f"{file}.rst").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
