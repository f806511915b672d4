"""Pure-Python work for comparisons with a free-threaded build: the same functions in each Python.

Nothing here is shared between two calls but what a module always shares: its functions and constants.
"""

import ast
from pathlib import Path

# Files of the standard library whose text is parsed: large, and the same in all versions as far as this matters.
FILES = ("argparse", "ast", "calendar", "dataclasses", "difflib", "doctest", "enum", "inspect")


def parse(folder: str) -> int:
    """Parse some files of a standard library and count what is in their trees."""
    count = 0
    for name in FILES:
        for _node in ast.walk(ast.parse((Path(folder) / f"{name}.py").read_text(encoding="utf-8"))):
            count += 1
    return count


def count_words(folder: str) -> int:
    """Count the words of the same files in a dictionary, and find the longest of those that are there often."""
    words: dict[str, int] = {}
    texts = [(Path(folder) / f"{name}.py").read_text(encoding="utf-8") for name in FILES]
    for text in 5 * texts:
        for line in text.splitlines():
            for word in line.split():
                plain = word.strip("()[]{}.,:;'\"#").lower()
                words[plain] = words.get(plain, 0) + 1
    return max(len(word) for word, times in words.items() if times > 5)


class Body:
    """A mass with a place and a velocity."""

    def __init__(self, mass: float, place: float) -> None:
        """Put it at rest."""
        self.mass, self.x, self.y, self.vx, self.vy = mass, place, 0.5 * place, 0.0, 0.1 * place


def move_bodies(_folder: str) -> float:
    """Move five bodies in 20,000 steps: floats, attributes, no allocation but of floats."""
    bodies = [Body(1.0 + number, float(number * number + 1)) for number in range(5)]
    for _ in range(20_000):
        for body in bodies:
            for other in bodies:
                if other is not body:
                    dx, dy = other.x - body.x, other.y - body.y
                    pull = other.mass * 0.001 / (dx * dx + dy * dy + 0.01)
                    body.vx += dx * pull
                    body.vy += dy * pull
        for body in bodies:
            body.x += body.vx * 0.001
            body.y += body.vy * 0.001
    return bodies[0].x


KINDS = {"parse": parse, "words": count_words, "bodies": move_bodies}
