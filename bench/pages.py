"""Write what bench/results/ has into README.md (a short table), docs/performance.md (long ones, plots), docs/why.md.

    python bench/pages.py [--results FOLDER] [--check]

A table goes between the lines `<!-- bench:start -->` and `<!-- bench:end -->`, a plot into docs/images.  With --check
nothing is written, and the exit status is 1 when something is not what the files give.
"""

import argparse
import html
import json
import math
import sys
from pathlib import Path
from typing import Any

from harness import format_value

START = "<!-- bench:start -->"
END = "<!-- bench:end -->"
ROOT = Path(__file__).resolve().parent.parent

Document = dict[str, Any]
Row = tuple[
    str, str
]  # a title, and the name of a result, or of a group that ends with a dot: the lowest ratio of it

# What decides, for README.
SHORT: tuple[Row, ...] = (
    ("`call(noop)`, main thread", "call.noop.main"),
    ("`call(noop)`, other thread", "call.noop.thread"),
    ("nested records out and in, against pickle", "codec.nested-records."),
    ("queue: round trip between two interpreters", "queue.roundtrip"),
    ("pool: tiny tasks, against the standard library's pool", "pool.outstanding"),
    ("pool: `map` over a tiny function, against `multiprocessing.Pool`", "pool.map"),
    ("pool: an argument, array of 100 MB, against processes", "pool.arguments.array"),
    ("pool: a new one's first result, against processes", "pool.first"),
    ("2 ms tasks on all cores, against processes", "throughput"),
    ("memory of one more worker with pandas, against a process", "extensions.memory.pandas"),
)

LONG: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "Calls",
        (
            ("`exec('pass')`, main thread", "exec.pass.main"),
            ("`call(noop)`, main thread", "call.noop.main"),
            ("`call(noop)`, main thread, 3,000 more mappings", "call.noop.mappings"),
            ("`exec('pass')`, other thread", "exec.pass.thread"),
            ("`call(noop)`, other thread", "call.noop.thread"),
            ("`call(noop)` from main, a thread for each core at once, against one alone", "life.calls"),
            (
                "`call(noop)` in a pair of interpreters for each core at once, against one pair",
                "life.calls.pairs",
            ),
            ("`call(f, dict of 10)` -> list of 10, main thread", "call.record.main"),
            ("`call(f, dict of 10)` -> list of 10, other thread", "call.record.thread"),
        ),
    ),
    (
        "Making and closing",
        (
            ("`create()` + `close()`, other thread", "cycle"),
            ("`create()`, main thread", "life.create"),
            ("`create()` where `prewarm()` has made one", "life.create.spares"),
            (
                "`create()` + `close()` from a thread for each core at once, against one alone",
                "life.create.threads",
            ),
            ("`close()`", "life.close.sys"),
            ("`close()` with numpy", "life.close.numpy"),
            ("`close()` with pandas", "life.close.pandas"),
            ("`close(wait=False)` with pandas", "life.close.later"),
        ),
    ),
    (
        "What crosses: out and in, against pickle",
        (
            ("list of int", "codec.list-of-int."),
            ("list of float", "codec.list-of-float."),
            ("list of str", "codec.list-of-str."),
            ("dict of str to int", "codec.dict-str-to-int."),
            ("dict of str to str", "codec.dict-str-to-str."),
            ("nested records", "codec.nested-records."),
        ),
    ),
    (
        "Queues",
        (
            ("round trip between two interpreters", "queue.roundtrip"),
            ("round trip, all cores busy elsewhere", "queue.busy"),
            ("`put` + `get` of an int", "queue.item.int"),
            ("`put` + `get` of a dict of 10", "queue.item.dict"),
            ("`put` + `get` of 1 MiB of bytes", "queue.item.bytes"),
            ("stream of ints, against `queue.SimpleQueue` between threads", "queue.stream"),
            ("the same with `put_many` and `get_many`", "queue.stream.batches"),
            ("stream, 4 producers and 4 consumers, against one of each", "queue.stream.pairs"),
            ("1,000,000 ints in it", "queue.memory"),
        ),
    ),
    (
        "Pools",
        (
            ("tiny tasks, 10,000 outstanding, against the standard library's pool", "pool.outstanding"),
            ("`submit` to `result`, against the same", "pool.latency"),
            ("`map` over a tiny function, against `multiprocessing.Pool`", "pool.map"),
            ("1 ms tasks on all cores, against as many times the serial rate", "pool.efficiency"),
            ("2 ms tasks on all cores, against processes", "throughput"),
            ("memory of one more worker, against `ProcessPoolExecutor`", "pool.memory"),
            ("a new one's first result, against processes", "pool.first"),
            ("the same with `atoll.prewarm(2)`", "pool.first.spares"),
            ("an argument, list of 200,000 ints, against processes", "pool.arguments.list"),
            ("an argument, array of 100 MB, against processes", "pool.arguments.array"),
            ("an argument, frame of 50 columns, against processes", "pool.arguments.frame"),
        ),
    ),
    (
        "Extension modules",
        (
            ("`import numpy`, against a fresh process", "extensions.import.numpy"),
            ("`import pandas`, against a fresh process", "extensions.import.pandas"),
            ("`import pandas` in a worker for each core at once, against processes", "life.import.together"),
            ("`import pandas` while main computes, against main asleep", "extensions.busy.pandas"),
            ("memory of one more worker with numpy, against a process", "extensions.memory.numpy"),
            ("memory of one more worker with pandas, against a process", "extensions.memory.pandas"),
            ("growth per `create`, `import numpy`, use, `close`", "extensions.leak.numpy"),
        ),
    ),
)

# The plots: a file's name, what it is of, and its bars.
PLOTS: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    (
        "bench-interpreters.svg",
        "how many times faster than the standard library's interpreters",
        (
            ("exec('pass')", "exec.pass.thread"),
            ("call(noop)", "call.noop.thread"),
            ("call(f, dict of 10)", "call.record.thread"),
            ("queue: put and get, int", "queue.item.int"),
            ("queue: put and get, dict of 10", "queue.item.dict"),
            ("queue: round trip", "queue.roundtrip"),
            ("pool: submit to result", "pool.latency"),
            ("pool: tiny tasks", "pool.outstanding"),
        ),
    ),
    (
        "bench-processes.svg",
        "how many times better than processes",
        (
            ("pool: first result", "pool.first"),
            ("pool: map, tiny function", "pool.map"),
            ("pool: list of 200,000 ints", "pool.arguments.list"),
            ("pool: array of 100 MB", "pool.arguments.array"),
            ("pool: frame of 50 columns", "pool.arguments.frame"),
            ("2 ms tasks on all cores", "throughput"),
            ("import pandas", "extensions.import.pandas"),
            ("memory of a worker", "pool.memory"),
            ("memory with pandas", "extensions.memory.pandas"),
        ),
    ),
)
PLOTTED = "3.14"  # the version

WIDTH, LEFT, LANE = 760, 210, 26  # pixels: of the whole, for the names, for a bar
# On white, whatever the page's colours are: a page's switch to dark ones is not known in a picture.
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1b1f23 } .bar { fill: #0b6e6e } line { stroke: #8c959f }
</style>
<rect width="100%" height="100%" fill="#ffffff"/>"""


def version_key(path: Path) -> tuple[int, ...]:
    """Return what sorts "3.9" before "3.14"."""
    return tuple(int(part) for part in path.stem.split("."))


def find(document: Document, name: str) -> Any:
    """Return the result of that name, of a group the one with the lowest ratio; None when there is none."""
    found = [
        result
        for result in document["results"]
        if (result["name"].startswith(name) if name.endswith(".") else result["name"] == name)
    ]
    return min(found, key=lambda result: float(result["ratio"] or 0), default=None)


def cell(document: Document, name: str) -> str:
    """Return what a version measured for a row: Atoll's median and the ratio, if there is one."""
    result = find(document, name)
    if result is None:
        return "-"
    measure, ratio = result["sides"]["atoll"], result["ratio"]
    took = format_value(measure["median"], measure["unit"])
    if ratio is None:
        return took
    factor = f"**{times(ratio)}**"
    return factor if name.endswith(".") else f"{took}, {factor}"


def times(ratio: float) -> str:
    """Return a ratio as text."""
    return f"{ratio:,.{0 if ratio >= 20 else 1 if ratio >= 2 else 2}f}x"


def make_table(documents: list[Document], rows: tuple[Row, ...]) -> list[str]:
    """Return the lines of a table with a column for each version."""
    return [
        "| | " + " | ".join(document["machine"]["python"] for document in documents) + " |",
        "|---|" + "---|" * len(documents),
        *(
            f"| {title} | " + " | ".join(cell(document, name) for document in documents) + " |"
            for title, name in rows
        ),
    ]


def describe(documents: list[Document]) -> list[str]:
    """Return the lines that say where, when and how it was measured."""
    machine = documents[-1]["machine"]
    days = sorted({document["date"] for document in documents})
    return [
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {' and '.join(days)}. Each cell:"
        " what Atoll takes, and how many times better that is than the standard library's way"
        " (`concurrent.interpreters`; on 3.13 and 3.12, which have no such module, their private"
        " ones, on which a call with arguments is pickle, a line of source and a channel),"
        " measured by turns in one process, medians. Against pickle (out and in, protocol 5):"
        " the worst of five sizes from 10 to 100,000 items.",
    ]


def make_page(documents: list[Document]) -> list[str]:
    """Return the lines of docs/performance.md's tables."""
    lines: list[str] = []
    for title, rows in LONG:
        lines += [f"### {title}", "", *make_table(documents, rows), ""]
    return [*lines, *describe(documents)[1:]]


# The sides of subjects_free.py, as columns.
WAYS = (
    ("interpreters (Atoll)", "atoll"),
    ("processes", "processes"),
    ("free-threaded: threads", "free-threaded"),
    ("free-threaded: one thread", "free-threaded serial"),
)


def make_ways(documents: list[Document]) -> list[str]:
    """Return the lines of docs/why.md's table: what each way does in a second, in units of one thread's."""
    lines = ["| | work | " + " | ".join(title for title, _ in WAYS) + " |", "|---|---|" + "---|" * len(WAYS)]
    note = ""
    for document in documents:
        for result in document["results"]:
            if result["name"].startswith("free."):
                sides, note = result["sides"], result["note"]
                rates = [sides[way]["median"] / sides["serial"]["median"] for _, way in WAYS]
                cells = [document["machine"]["python"], result["title"], *(f"{rate:.2f}" for rate in rates)]
                lines.append("| " + " | ".join(cells) + " |")
    machine = documents[-1]["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}"
    return [
        *lines,
        "",
        f"Measured on {where}, against {note}, built with gcc and profile-guided optimisation.",
    ]


def plot(document: Document, title: str, rows: tuple[Row, ...]) -> str:
    """Return a picture of ratios: a bar for each, on a scale of powers of ten that begins at 1."""
    found = [(name, find(document, key)) for name, key in rows]
    bars = [(name, result["ratio"]) for name, result in found if result is not None]
    most = max(ratio for _, ratio in bars)
    scale = (WIDTH - LEFT - 90) / math.log10(most)
    height = LANE * len(bars) + 40
    version = document["machine"]["python"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<title>{html.escape(title)}, CPython {version}</title>",
        STYLE,
        f'<text x="{LEFT}" y="18">{html.escape(title)} (CPython {version})</text>',
    ]
    for at, (name, ratio) in enumerate(bars):
        y = 30 + LANE * at
        long = max(scale * math.log10(max(ratio, 1)), 1)
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect class="bar" x="{LEFT}" y="{y}" width="{long:.1f}" height="{LANE - 6}" rx="2"/>',
            f'<text x="{LEFT + long + 6:.1f}" y="{y + 15}">{times(ratio)}</text>',
        ]
    lines += [f'<line x1="{LEFT}" y1="26" x2="{LEFT}" y2="{height - 6}"/>', "</svg>", ""]
    return "\n".join(lines)


def between(path: Path, lines: list[str]) -> str:
    """Return a document's text with these lines between its marks."""
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        sys.exit(f"{path} has no lines {START} and {END}")
    return "\n".join([before + START, *lines, END + after])


def main() -> int:
    """Write or check everything; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    paths = sorted(arguments.results.glob("*.json"), key=version_key)
    documents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    if PLOTTED not in documents:
        sys.exit(f"no results of {PLOTTED} in {arguments.results}: run bench/run.py first")
    every = list(documents.values())
    if any(document["quick"] for document in every):
        print("warning: some of these results come from a quick, rough run", file=sys.stderr)
    readme, page, why = ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "why.md"
    texts = {
        readme: between(readme, [*make_table(every, SHORT), *describe(every)]),
        page: between(page, make_page(every)),
        why: between(why, make_ways(every)),
    }
    for name, title, rows in PLOTS:
        texts[ROOT / "docs" / "images" / name] = plot(documents[PLOTTED], title, rows)
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if arguments.check:
            print(f"{path.relative_to(ROOT)} is not what {arguments.results} gives: python bench/pages.py")
        else:
            path.write_text(texts[path], encoding="utf-8")
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
