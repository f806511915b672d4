"""Log parsing: generator of lines, Counter per chunk, as_completed, reduce."""

import collections
import concurrent.futures as cf
import dataclasses
import itertools
import re
import sys
import time

import atoll

LINE = re.compile(
    r'(?P<ip>\S+) - - \[(?P<when>[^\]]+)\] "(?P<verb>\w+) (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<size>\d+)'
)


@dataclasses.dataclass(slots=True)
class Hit:
    ip: str
    path: str
    status: int
    size: int


class BadLine(ValueError):
    def __init__(self, number, line):
        super().__init__(f"line {number}: {line!r}")
        self.number, self.line = number, line


def parse(number_line):
    number, line = number_line
    match = LINE.match(line)
    if match is None:
        raise BadLine(number, line)
    return Hit(match["ip"], match["path"], int(match["status"]), int(match["size"]))


def summarise(lines):
    per_status: collections.Counter[int] = collections.Counter()
    volume: dict[str, int] = collections.defaultdict(int)
    for pair in enumerate(lines):
        hit = parse(pair)
        per_status[hit.status] += 1
        volume[hit.path] += hit.size
    return per_status, volume


def lines(n):
    for i in range(n):
        yield f'10.0.0.{i % 255} - - [10/Oct/2000:13:55:36] "GET /p{i % 17} HTTP/1.0" {200 if i % 7 else 404} {i}'


def main():
    total: collections.Counter[int] = collections.Counter()
    volume: collections.Counter[str] = collections.Counter()
    with atoll.InterpreterPoolExecutor() as pool:
        futures = {
            pool.submit(summarise, batch): k
            for k, batch in enumerate(itertools.batched(lines(50_000), 5_000))
        }
        for future in cf.as_completed(futures):
            a, b = future.result()
            total += a
            volume.update(b)
        hits = list(pool.map(parse, enumerate(lines(2000))))
        assert hits[3] == Hit("10.0.0.3", "/p3", 200, 3), hits[3]
        try:
            list(pool.map(parse, [(1, "nonsense")]))
        except BadLine as error:
            print("caught", error, error.number)
    print(total, len(volume), sum(volume.values()))


if __name__ == "__main__":
    main()
