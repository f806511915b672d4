"""Rewrite the table of measurements in README.md from the files in bench/results/.

    python bench/readme_table.py [--readme PATH] [--results FOLDER] [--check]

The table goes between the lines `<!-- bench:start -->` and `<!-- bench:end -->`.  With --check
nothing is written, and the exit status is 1 when the table is not what the files give.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness import format_value

START = "<!-- bench:start -->"
END = "<!-- bench:end -->"
ROOT = Path(__file__).resolve().parent.parent

# The rows: a title, and the name of a result, or of a group of results that ends with a dot, of
# which the one with the lowest ratio is shown
ROWS = (
    ("`exec('pass')`, main thread", "exec.pass.main"),
    ("`call(noop)`, main thread", "call.noop.main"),
    ("`call(noop)`, main thread, 3,000 more mappings", "call.noop.mappings"),
    ("`exec('pass')`, other thread", "exec.pass.thread"),
    ("`call(noop)`, other thread", "call.noop.thread"),
    ("`call(f, dict of 10)` -> list of 10, main thread", "call.record.main"),
    ("`call(f, dict of 10)` -> list of 10, other thread", "call.record.thread"),
    ("`create()` + `close()`", "cycle"),
    ("list of int, against pickle", "codec.list-of-int."),
    ("list of float, against pickle", "codec.list-of-float."),
    ("list of str, against pickle", "codec.list-of-str."),
    ("dict of str to int, against pickle", "codec.dict-str-to-int."),
    ("dict of str to str, against pickle", "codec.dict-str-to-str."),
    ("nested records, against pickle", "codec.nested-records."),
    ("queue: round trip between two interpreters", "queue.roundtrip"),
    ("queue: round trip, all cores busy elsewhere", "queue.busy"),
    ("queue: `put` + `get` of an int", "queue.item.int"),
    ("queue: `put` + `get` of a dict of 10", "queue.item.dict"),
    ("queue: `put` + `get` of 1 MiB of bytes", "queue.item.bytes"),
    ("queue: stream of ints, against `queue.SimpleQueue` between threads", "queue.stream"),
    ("queue: the same with `put_many` and `get_many`", "queue.stream.batches"),
    ("queue: 1,000,000 ints in it", "queue.memory"),
    ("pool: tiny tasks, 10,000 outstanding, against the standard library's pool", "pool.outstanding"),
    ("pool: `submit` to `result`, against the same", "pool.latency"),
    ("pool: `map` over a tiny function, against `multiprocessing.Pool`", "pool.map"),
    ("pool: 1 ms tasks, against twice (on 2 cores) the serial rate", "pool.efficiency"),
    ("pool: memory of one more worker, against `ProcessPoolExecutor`", "pool.memory"),
    ("pool: a new one's first result, against processes", "pool.first"),
    ("pool: the same with `atoll.prewarm(2)`", "pool.first.spares"),
    ("pool: an argument, list of 200,000 ints, against processes", "pool.arguments.list"),
    ("pool: an argument, array of 100 MB, against processes", "pool.arguments.array"),
    ("pool: an argument, frame of 50 columns, against processes", "pool.arguments.frame"),
    ("2 ms tasks on all cores, against processes", "throughput"),
    ("`import numpy`, against a fresh process", "extensions.import.numpy"),
    ("`import pandas`, against a fresh process", "extensions.import.pandas"),
    ("`import pandas` while main computes, against main asleep", "extensions.busy.pandas"),
    ("memory of one more worker with numpy, against a process", "extensions.memory.numpy"),
    ("memory of one more worker with pandas, against a process", "extensions.memory.pandas"),
    ("growth per `create`, `import numpy`, use, `close`", "extensions.leak.numpy"),
)


def version_key(path: Path) -> tuple[int, ...]:
    """Return what sorts "3.9" before "3.14"."""
    return tuple(int(part) for part in path.stem.split("."))


def atoll_median(result: dict[str, Any]) -> str:
    """Return what Atoll took, as text."""
    measure = result["sides"]["atoll"]
    return format_value(measure["median"], measure["unit"])


def cell(document: dict[str, Any], name: str) -> str:
    """Return what a version measured for a row: Atoll's median and the ratio, if there is one."""
    found = [
        result
        for result in document["results"]
        if (result["name"].startswith(name) if name.endswith(".") else result["name"] == name)
    ]
    if not found:
        return "-"
    if found[0]["ratio"] is None:
        return atoll_median(found[0])
    worst = min(found, key=lambda result: float(result["ratio"]))
    ratio = worst["ratio"]
    digits = 0 if ratio >= 20 else 1 if ratio >= 2 else 2
    factor = f"**{ratio:,.{digits}f}x**"
    if name.endswith("."):
        return factor
    return f"{atoll_median(worst)}, {factor}"


def make_table(results: Path) -> str:
    """Return the text that belongs between the markers."""
    paths = sorted(results.glob("*.json"), key=version_key)
    if not paths:
        sys.exit(f"no results in {results}: run bench/run.py first")
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    lines = [
        "| | " + " | ".join(document["machine"]["python"] for document in documents) + " |",
        "|---|" + "---|" * len(documents),
    ]
    for title, name in ROWS:
        cells = [cell(document, name) for document in documents]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    if any(document["quick"] for document in documents):
        print("warning: some of these results come from a quick, rough run", file=sys.stderr)
    machine = documents[-1]["machine"]
    lines += [
        "",
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['kernel']}. Each cell:"
        " what Atoll takes, and how many times better that is than the standard library's way"
        " (`concurrent.interpreters`; on 3.13 and 3.12, which have no such module, their private"
        " ones, on which a call with arguments is pickle, a line of source and a channel),"
        " measured by turns in one process, medians. Against pickle (out and in, protocol 5):"
        " the worst of five sizes from 10 to 100,000 items.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Rewrite or check the table; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = arguments.readme.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        sys.exit(f"{arguments.readme} has no lines {START} and {END}")
    new = f"{before}{START}\n{make_table(arguments.results)}\n{END}{after}"
    if arguments.check:
        if new != text:
            print(f"{arguments.readme}: the table is not what {arguments.results} gives")
        return int(new != text)
    arguments.readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
