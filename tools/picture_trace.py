"""Draw a trace as an SVG: tools/picture_trace.py TRACE.json PICTURE.svg [--from MS] [--to MS].

The picture has a band for each interpreter and lanes for each of its threads; what is inside of something else is
drawn below it.
The same trace makes the same picture.  docs/images/trace.svg is that of the program that docs/watching.md has for it.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTH = 1000  # pixels, for all of the time
LEFT = 150  # for the names of threads
LANE = 15
GAP = 6
TITLE = 20
LEAST = 0.6  # what is narrower is left out
LETTER = 6.3
COLOURS = {
    "call": "#4e79a7",
    "calling": "#a0cbe8",
    "submit": "#8cd17d",
    "task": "#59a14f",
    "codec": "#f1ce63",
    "wait": "#e3e0dd",
    "gil": "#e15759",
    "import": "#b07aa1",
    "clone": "#9d7660",
    "gc": "#ff9da7",
    "interpreter": "#79b7b2",
}

Event = dict[str, Any]


@dataclass
class Row:
    """A thread in an interpreter."""

    name: str
    events: list[tuple[Event, int]] = field(default_factory=list)  # with their depths
    top: float = 0

    @property
    def lanes(self) -> int:
        """How many of them are inside of each other at most."""
        return max((depth for _, depth in self.events), default=0) + 1


def stack_up(events: list[Event]) -> list[tuple[Event, int]]:
    """Say how deep each event of a row is inside of others; the outer ones come first."""
    placed, ends = [], []
    for event in events:
        while ends and ends[-1] <= event["ts"]:
            ends.pop()
        placed.append((event, len(ends)))
        ends.append(event["ts"] + event["dur"])
    return placed


class Picture:
    """A trace's rows between two times, as text of an SVG."""

    def __init__(self, events: list[Event], begin: float, end: float) -> None:
        """Take the events whose times, in us, are in that stretch."""
        self.begin, self.end = begin, end
        self.parts: list[str] = []
        names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
        self.order = {e["pid"]: e["args"]["sort_index"] for e in events if e["name"] == "process_sort_index"}
        inside = [e for e in events if e["ph"] == "X" and e["ts"] < end and e["ts"] + e["dur"] > begin]
        wide = [e for e in inside if self.width(e) >= LEAST]
        self.rows = {
            key: Row(name, stack_up([e for e in wide if (e["pid"], e["tid"]) == key]))
            for key, name in names.items()
        }
        self.rows = {key: row for key, row in self.rows.items() if row.events}
        self.arrows: dict[int, dict[str, Event]] = {}
        for event in events:
            if event["ph"] in "sf":
                self.arrows.setdefault(event["id"], {})[event["ph"]] = event

    def x(self, time: float) -> float:
        """Return where a time is."""
        return LEFT + (min(max(time, self.begin), self.end) - self.begin) / (self.end - self.begin) * WIDTH

    def width(self, event: Event) -> float:
        """Return how wide an event is."""
        return self.x(event["ts"] + event["dur"]) - self.x(event["ts"])

    def text(self, x: float, y: float, text: str, style: str = "", room: float = 1e9) -> None:
        """Write as much of a text as there is room for."""
        most = int(room / LETTER)
        if most >= 3:
            shown = text if len(text) <= most else text[: most - 1] + "…"
            self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{style}>{html.escape(shown)}</text>')

    def draw_event(self, event: Event, y: float) -> None:
        """Draw one event's box, and its name where that fits in."""
        width = self.width(event)
        x = self.x(event["ts"])
        title = f"{event['name']} ({event['cat']}), {event['dur'] / 1000:.3f} ms"
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.4, 0.3):.1f}" height="{LANE - 1}" '
            f'fill="{COLOURS.get(event["cat"], "#bab0ac")}"><title>{html.escape(title)}</title></rect>'
        )
        self.text(x + 3, y + LANE - 4.5, event["name"], "", width - 6)

    def draw_rows(self) -> float:
        """Draw all interpreters and threads; return where they end."""
        y = 24.0
        for pid in sorted(self.processes, key=lambda pid: self.order[pid]):
            rows = [row for key, row in self.rows.items() if key[0] == pid]
            if not rows:
                continue
            self.text(4, y + 14, self.processes[pid], ' class="title"')
            y += TITLE
            for row in rows:
                row.top = y
                self.text(10, y + LANE - 4.5, row.name, "", LEFT - 12)
                for event, depth in row.events:
                    self.draw_event(event, y + depth * LANE)
                y += row.lanes * LANE + GAP
            self.parts.append(f'<path d="M0 {y:.1f}H{LEFT + WIDTH}" stroke="#ddd"/>')
            y += GAP
        return y

    def draw_arrows(self) -> None:
        """Draw an arrow from where each task was submitted to where it runs."""
        for ends in self.arrows.values():
            rows = [self.rows.get((end["pid"], end["tid"])) for end in ends.values()]
            if (
                len(ends) != 2
                or None in rows
                or not all(self.begin <= e["ts"] < self.end for e in ends.values())
            ):
                continue
            x1, x2 = self.x(ends["s"]["ts"]), self.x(ends["f"]["ts"])
            y1, y2 = (row.top + LANE / 2 for row in rows if row is not None)
            bend = max(12.0, (x2 - x1) / 2)
            self.parts.append(
                f'<path d="M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}" '
                'fill="none" stroke="#333" stroke-width=".6" marker-end="url(#tip)"/>'
            )

    def draw_times(self, bottom: float) -> None:
        """Draw the axis, in ms."""
        span = (self.end - self.begin) / 1000
        step = next(s * 10.0**p for p in range(-4, 6) for s in (1, 2, 5) if span / (s * 10.0**p) <= 12)
        for i in range(int(span / step) + 1):
            x = LEFT + i * step / span * WIDTH
            self.parts.append(f'<path d="M{x:.1f} 18V{bottom:.1f}" stroke="#eee"/>')
            if x < LEFT + WIDTH - 30:
                self.text(x + 2, 14, f"{i * step:g} ms")

    def draw(self) -> str:
        """Return all of it."""
        bottom = self.draw_rows()
        self.draw_arrows()
        boxes, self.parts = self.parts, []
        self.draw_times(bottom)
        x = 10.0
        for category, colour in COLOURS.items():
            self.parts.append(
                f'<rect x="{x:.1f}" y="{bottom + 8:.1f}" width="10" height="10" fill="{colour}"/>'
            )
            self.text(x + 14, bottom + 17, category)
            x += 32 + LETTER * len(category)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 10} {bottom + 28:.0f}" '
                'font-family="sans-serif" font-size="10.5">',
                "<style>.title{font-weight:bold}</style>",
                '<defs><marker id="tip" markerWidth="6" markerHeight="6" refX="5" refY="3" orient="auto">'
                '<path d="M0 0L6 3L0 6z" fill="#333"/></marker></defs>',
                '<rect width="100%" height="100%" fill="#fff"/>',
                *self.parts,
                *boxes,
                "</svg>\n",
            ]
        )


def main() -> int:
    """Read, draw and write; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--from", dest="begin", type=float, help="ms; as the trace", metavar="MS")
    parser.add_argument("--to", dest="end", type=float, help="ms; as the trace", metavar="MS")
    options = parser.parse_args()
    events = json.loads(options.trace.read_text(encoding="utf-8"))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    if not spans:
        print(f"{options.trace} has no events", file=sys.stderr)
        return 1
    begin = min(e["ts"] for e in spans) if options.begin is None else options.begin * 1000
    end = max(e["ts"] + e["dur"] for e in spans) if options.end is None else options.end * 1000
    options.picture.write_text(Picture(events, begin, end).draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
