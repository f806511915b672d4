"""Check the rules of the house that no compiler or linter knows.

* The table of rooms in ARCHITECTURE.md holds: a room includes the faces of those it stands on, which are above it, and
  nothing else of other rooms; where its files are in order, none uses what another one defines that uses it. No header
  includes itself by way of others. Port and core never see Python.h; the shim sees one header of core's.
* A name says whose it is: the first word after atoll_ of a function or variable belongs to one room.
* The table of folders there holds for the modules of python/atoll, whatever they import and when; none imports itself
  by way of others. What only types need is no import.
* Only src/py/compat.h, with src/py/layouts.h, tests PY_VERSION_HEX or names CPython's private symbols.
* Source files have at most MAX_LINES lines, functions MAX_FUNCTION (a docstring not counted), or MAX_SWITCH where they
  are a table, and every C file is in a source list.
* Nothing that only one machine or one person understands: absolute paths, hosts of package
  registries, ticket numbers. The text must explain itself.

Prints one line per violation, ``file:line: what``; the exit status is 1 when there is one.
"""

import ast
import dataclasses
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600
MAX_FUNCTION = 60
MAX_SWITCH = 90  # a function of C that is one switch

PLAN = ROOT / "ARCHITECTURE.md"
SOURCE = Path("src")
PACKAGE = Path("python/atoll")
TOP = "the top"
C_MODULE = "atoll._atoll"
COMMAND_LINE = PACKAGE / "__main__.py"  # which is part of the folder cli
NEEDS_PYTHON = {"py", "module"}
# A library of its own: it is copied, so it must not bring anything along.
SHIM_INCLUDES = {"core/clone/shim.h", "shim/shim_internal.h"}
COMPAT = Path("src/py/compat.h")
# A part of it, in a file of its own.
LAYOUTS = Path("src/py/layouts.h")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Comments and string literals may name what code may not.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
VERSION_TEST = re.compile(r"\bPY_(?:VERSION_HEX|MINOR_VERSION|MAJOR_VERSION)\b")
PRIVATE = re.compile(r"\b_Py\w+")
# Written in two parts, so that this file passes its own check.
FORBIDDEN = {
    "an absolute path of one machine": re.compile(
        r"(?<![\w.$}~*-])/(?:ro" r"ot|wo" r"rk|opt/py|ho" r"me/\w|Use" r"rs/\w)\b"
    ),
    "the host of a package registry": re.compile(
        r"\b(?:deb\.deb" r"ian|pypi\.o" r"rg|files\.pytho" r"nhosted|archive\.ubu" r"ntu)\b"
    ),
    "a path outside the repository": re.compile(r"\.\./sha" r"red"),
    "a ticket number instead of the reason": re.compile(r"\b[Ii]ssue" r" #?\d+\b"),
    "a note to do later": re.compile(r"\b(?:FIX" r"ME|XX" r"X|TO" r"DO)\b"),
}
TEXT_SUFFIXES = {".c", ".h", ".py", ".pyi", ".md", ".toml", ".yaml", ".yml", ".txt", ".build", ".sh", ""}

Violation = tuple[Path, int, str]


def tracked_files() -> list[Path]:
    """What git does not ignore, or every file where there is no git; relative to the root."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        paths = [Path(name) for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skipped = {".venv", ".pythons", "build", ".git", "__pycache__", ".ruff_cache", ".mypy_cache"}
        paths = [
            path.relative_to(ROOT)
            for path in ROOT.rglob("*")
            if not skipped & set(path.relative_to(ROOT).parts)
        ]
    return sorted(path for path in paths if (ROOT / path).is_file())


def blank_out(text: str, pattern: re.Pattern[str]) -> str:
    """The text with every match replaced by its newlines, so that line numbers stay."""
    return pattern.sub(lambda match: "\n" * match[0].count("\n") or " ", text)


@dataclasses.dataclass
class Room:
    """A row of the table."""

    name: str
    stands_on: list[str]
    faces: list[str]
    in_order: bool


def read_plan() -> dict[str, Room]:
    """The rooms, in the table's order."""
    rooms = {}
    for line in PLAN.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and cells[3] in {"in order", "together"}:
            name, stands_on, faces = (re.findall(r"`([^`]+)`", cell) for cell in cells[:3])
            headers = [f"{name[0]}/{face}" for face in faces]
            rooms[name[0]] = Room(name[0], stands_on, headers, cells[3] == "in order")
    return rooms


def check_plan(rooms: dict[str, Room], files: list[Path]) -> Iterator[Violation]:
    """Each row that says what cannot be, and each file that is in no room."""
    above: set[str] = set()
    for room in rooms.values():
        for other in room.stands_on:
            if other not in above:
                yield PLAN.relative_to(ROOT), 1, f"{room.name} stands on {other}, which is not above it"
        for face in room.faces:
            if not (ROOT / SOURCE / face).is_file():
                yield PLAN.relative_to(ROOT), 1, f"{room.name} has no face {face}"
        above.add(room.name)
    for path in files:
        if room_of(path) not in rooms:
            yield path, 1, f"{room_of(path)} is no room of {PLAN.name}"


def room_of(path: Path) -> str:
    """The room of a file of src."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) == 2 or parts[0] == "port" else "/".join(parts[:2])


def check_includes(path: Path, text: str, rooms: dict[str, Room]) -> Iterator[Violation]:
    """Each include of what the room of this file may not have, and of Python.h."""
    room = rooms.get(room_of(path))
    if room is None:
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match is None:
            continue
        style, name = match.groups()
        if style == '"' and name != "atoll/atoll.h":
            other = room_of(SOURCE / name) if (ROOT / SOURCE / name).is_file() else None
            if room.name == "shim":
                if name not in SHIM_INCLUDES:
                    yield (
                        path,
                        number,
                        f"shim must not include {name}: only {', '.join(sorted(SHIM_INCLUDES))}",
                    )
            elif other is None:
                yield path, number, f'include {name} from src, with its room: "core/queue/..."'
            elif other != room.name and other not in room.stands_on:
                yield path, number, f"{room.name} does not stand on {other} ({name}): see {PLAN.name}"
            elif other != room.name and name not in rooms[other].faces:
                yield path, number, f"{name} is private to {other}: include {' or '.join(rooms[other].faces)}"
        elif name == "Python.h" and path != COMPAT:
            yield path, number, f"only {COMPAT} includes Python.h"
        elif name.startswith(("internal/", "cpython/")):
            yield path, number, f"{name} is private to CPython"


def find_circle(graph: dict[Path, set[Path]]) -> list[Path]:
    """Files that lead to each other, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


DEFINITION = re.compile(
    r"^(?!static|typedef|extern|return|else)[A-Za-z_][\w \*]*?\b(atoll_\w+)"
    r"(?:\s*\([^;{}]*\)\s*\{|(?:\[[^\]]*\])?\s*(?:=|;))",
    re.M,
)


def check_circles(texts: dict[Path, str], rooms: dict[str, Room]) -> Iterator[Violation]:
    """A circle of includes, and one of files of a room in order that use each other."""
    includes = {
        path: {
            SOURCE / match[2]
            for line in text.splitlines()
            if (match := INCLUDE.match(line)) and match[1] == '"' and SOURCE / match[2] in texts
        }
        for path, text in texts.items()
    }
    circle = find_circle(includes)
    if circle:
        yield circle[0], 1, f"includes itself: {' <- '.join(map(str, circle))}"
    code = {path: blank_out(text, NOT_CODE) for path, text in texts.items() if path.suffix == ".c"}
    home: dict[str, Path] = {}
    for path, text in code.items():
        for match in DEFINITION.finditer(text):
            home.setdefault(match[1], path)
    for room in rooms.values():
        files = {path for path in code if room_of(path) == room.name}
        if not room.in_order:
            continue
        uses = {
            path: {
                home[name]
                for name in re.findall(r"\batoll_\w+", code[path])
                if name in home and home[name] in files and home[name] != path
            }
            for path in files
        }
        circle = find_circle(uses)
        if circle:
            yield circle[0], 1, f"a circle of files in {room.name}: {' <- '.join(map(str, circle))}"


def read_folders() -> dict[str, list[str]]:
    """The folders of python/atoll in the table's order, and those that each stands on."""
    lines = iter(PLAN.read_text(encoding="utf-8").splitlines())
    folders = {}
    for line in lines:
        if line.startswith("| folder |"):
            next(lines)
            break
    for line in lines:
        if not line.startswith("|"):
            break
        name, stands_on, _ = line.strip("|").split("|", 2)
        folders[name.strip(" `")] = [one.strip(" `") for one in stands_on.split(",") if one.strip()]
    return folders


def folder_of(path: Path) -> str:
    """The folder of a module of python/atoll."""
    inside = path.relative_to(PACKAGE).parts
    return "cli" if path == COMMAND_LINE else inside[0] if len(inside) > 1 else TOP


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All of them, wherever they are, but for those that only type checkers see."""
    for node in body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from statements(node.orelse)
            continue
        yield node
        for _, value in ast.iter_fields(node):
            if isinstance(value, list):
                inner = [one for one in value if isinstance(one, ast.stmt)]
                yield from statements(inner)
                for one in value:
                    if isinstance(one, ast.excepthandler | ast.match_case):
                        yield from statements(one.body)


def imports_of(path: Path, text: str, modules: dict[str, Path]) -> Iterator[tuple[Path, int]]:
    """Each module of the package that one imports, and the line."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in statements(ast.parse(text).body):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                names.append(inner if inner in modules or inner == C_MODULE else ".".join(base))
        for name in names:
            if name in modules:
                yield modules[name], node.lineno


def check_package(texts: dict[Path, str]) -> Iterator[Violation]:
    """The table of folders, and that no module imports itself by way of others."""
    folders = read_folders()
    above: set[str] = set()
    for name, stands_on in folders.items():
        for other in stands_on:
            if other not in above:
                yield PLAN.relative_to(ROOT), 1, f"{name} stands on {other}, which is not above it"
        above.add(name)
    modules = {}
    for path in texts:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[Path, set[Path]] = {}
    for path, text in texts.items():
        own = folder_of(path)
        if own not in folders:
            yield path, 1, f"{own} is no folder of {PLAN.name}"
            continue
        try:
            found = list(imports_of(path, text, modules))
        except SyntaxError:
            continue  # check_functions() has said so
        graph[path] = {other for other, _ in found}
        for other, line in found:
            if folder_of(other) not in {own, *folders[own]}:
                yield path, line, f"{own} does not stand on {folder_of(other)} ({other}): see {PLAN.name}"
    circle = find_circle(graph)
    if circle:
        yield circle[0], 1, f"imports itself: {' <- '.join(map(str, circle))}"


NAME = re.compile(
    r"^(?:static inline )?(?!static|typedef|struct|return|else)[A-Za-z_][\w \*]*?\batoll_([a-z0-9]+)\w*"
    r"(?:\s*\([^;{}]*\)\s*[{;]|(?:\[[^\]]*\])?\s*(?:=|;))",
    re.M,
)


def check_names(texts: dict[Path, str]) -> Iterator[Violation]:
    """Each function or variable whose first word is another room's.  The shim's names are the C library's."""
    owners: dict[str, str] = {}
    for path, text in texts.items():
        room = room_of(path)
        if room == "shim":
            continue
        code = blank_out(text, NOT_CODE)
        for match in NAME.finditer(code):
            owner = owners.setdefault(match[1], room)
            if owner != room:
                line = code.count("\n", 0, match.start()) + 1
                yield path, line, f"atoll_{match[1]}_ is a prefix of {owner}"


def check_symbols(path: Path, text: str) -> Iterator[Violation]:
    """Each use of what only compat.h may name, and of Python in a layer that knows none."""
    layer = room_of(path).split("/")[0]
    for number, line in enumerate(blank_out(text, NOT_CODE).splitlines(), 1):
        if path not in (COMPAT, LAYOUTS):
            for match in VERSION_TEST.finditer(line):
                yield path, number, f"{match[0]} outside {COMPAT}"
            for match in PRIVATE.finditer(line):
                yield path, number, f"private symbol {match[0]} outside {COMPAT}"
        if layer not in NEEDS_PYTHON:
            for match in re.finditer(r"\b(?:Py[A-Z]\w*|Py_\w+)", line):
                yield path, number, f"{layer} knows no Python: {match[0]}"


FUNCTION = re.compile(
    r"^(?!typedef|struct|enum|union|extern)[A-Za-z_][^;{}=]*\)\s*\{.*?^\}", re.MULTILINE | re.DOTALL
)


def check_functions(path: Path, text: str) -> Iterator[Violation]:
    """Each function that is too long, in C or Python."""
    if path.suffix in {".c", ".h"}:
        code = blank_out(text, NOT_CODE)
        for match in FUNCTION.finditer(code):
            count = match[0].count("\n") + 1
            most = MAX_SWITCH if "\n    switch (" in match[0] else MAX_FUNCTION
            if count > most:
                line = code.count("\n", 0, match.start()) + 1
                yield path, line, f"a function of {count} lines, at most {most}: divide it"
        return
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError as error:
        yield path, error.lineno or 1, f"Python {sys.version.split()[0]} cannot read it: {error.msg}"
        return
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[ast.get_docstring(node) is not None and len(node.body) > 1]
            count = (node.end_lineno or 0) - first.lineno + 1
            if count > MAX_FUNCTION:
                yield path, node.lineno, f"a function of {count} lines, at most {MAX_FUNCTION}: divide it"


def check_text(path: Path, text: str) -> Iterator[Violation]:
    """Each forbidden text, and a file that is too long."""
    lines = text.splitlines()
    if path.suffix in {".c", ".h", ".py", ".pyi"} and len(lines) > MAX_LINES:
        yield path, len(lines), f"{len(lines)} lines, at most {MAX_LINES}: split it"
    for number, line in enumerate(lines, 1):
        for what, pattern in FORBIDDEN.items():
            if match := pattern.search(line):
                yield path, number, f"{what}: {match[0]}"


def main() -> int:
    """Check every file; the exit status."""
    violations: list[Violation] = []
    rooms = read_plan()
    sources: dict[Path, str] = {}
    package: dict[Path, str] = {}
    for path in tracked_files():
        if path.suffix not in TEXT_SUFFIXES:
            continue
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            violations.append((path, 1, "not UTF-8"))
            continue
        violations.extend(check_text(path, text))
        if path.suffix in {".c", ".h"} and path.parts[0] == "src":
            sources[path] = text
            violations.extend(check_includes(path, text, rooms))
            violations.extend(check_symbols(path, text))
        if path.suffix == ".py" and path.is_relative_to(PACKAGE):
            package[path] = text
        if path.suffix in {".c", ".h", ".py"} and path.parts[0] in {"src", "python", "tools", "bench"}:
            violations.extend(check_functions(path, text))
    violations.extend(check_plan(rooms, list(sources)))
    violations.extend(check_circles(sources, rooms))
    violations.extend(check_names(sources))
    violations.extend(check_package(package))
    for path, number, what in violations:
        print(f"{path}:{number}: {what}")
    lists = subprocess.run([sys.executable, ROOT / "tools" / "sources.py"], check=False).returncode
    return 1 if violations or lists else 0


if __name__ == "__main__":
    sys.exit(main())
