"""A script that edits its globals at random, and after each edit compares what a function sees at home and elsewhere.

Run as `edits.py SEED COUNT`.  Each edit is a line of source; where a result differs, the edits before it are printed.
"""

import asyncio
import collections
import contextlib
import copy  # noqa: F401  (edits use it)
import dataclasses
import enum
import functools
import random
import sys
import types
import typing

import atoll

try:
    import numpy
except ImportError:
    numpy = None

number, text, nothing, truth, real, big = 1, "a", None, True, 1.5, b"b" * 200_000
items, table, members, ring = [1, [2]], {"a": {"b": [1]}}, {1}, collections.deque([1], 5)
raw, tally, nested = bytearray(b"abc"), collections.Counter("ab"), ([1], {"k": (1, [2])})
lazily = collections.defaultdict(list, a=[1])
space = types.SimpleNamespace(a=1, b=[1])
frozen = frozenset({1})
if numpy is not None:
    array = numpy.arange(10)
    matrix = numpy.zeros((300, 300))
else:
    array = matrix = None


class Meta(type):
    kind = "meta"


class Base(metaclass=Meta):
    rate, rows = 1, [1]
    kept: typing.ClassVar[dict] = {}

    def method(self):
        return number, text

    @property
    def prop(self):
        return truth

    class Inner:
        deep: typing.ClassVar = [1]


class Sub(Base):
    @classmethod
    def make(cls):
        return cls.rate, cls.rows, nested

    @staticmethod
    def static():
        return real, helper()


class Slotted:
    __slots__ = ("a", "b")


@dataclasses.dataclass
class Data:
    x: int = 0
    y: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    y: list


class Color(enum.Enum):
    RED = 1
    BLUE = 2


slotted = Slotted()
slotted.a, slotted.b = 1, [1]
data, icy, sub, color = Data(), Frozen([1]), Sub(), Color.RED
shared = [0]
owners = {"one": shared, "two": shared}
partial = functools.partial(max, 0)


def helper():
    return number, items


def deeper():
    def inner():
        return [text for _ in range(1)], (lambda: table)()

    return inner()


def decorate(function):
    @functools.wraps(function)
    def wrapper():
        return function(), truth

    return wrapper


@decorate
def decorated():
    return real


def counter():
    count, seen = 0, []

    def up():
        nonlocal count
        count += 1
        seen.append(count)

    def get():
        return count, seen

    return up, get


up, get = counter()


def default(a=1, *, b=(1,)):
    return a, b


def changing():
    return "first"


handlers = {"plain": changing, "list": [helper, lambda: ring], "method": sub.method}


def tried(function):
    """What a function returns, or the name of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__


def look():
    """All that can be seen, as text: types and values."""
    seen = [
        tried(lambda: number),
        tried(lambda: text),
        tried(lambda: nothing),
        tried(lambda: truth),
        tried(lambda: real),
        tried(lambda: (big[:2], big[-2:], len(big))),
        tried(lambda: extra),  # noqa: F821  (made by edits)
        tried(lambda: items),
        tried(lambda: table),
        tried(lambda: sorted(members)),
        tried(lambda: ring),
        tried(lambda: raw),
        tried(lambda: sorted(tally.items())),
        tried(lambda: nested),
        tried(lambda: sorted(lazily.items())),
        tried(lambda: space),
        tried(lambda: sorted(frozen)),
        tried(
            lambda: (Base.rate, Base.rows, sorted(Base.kept.items()), Base.Inner.deep, Meta.kind, Sub.kind)
        ),
        tried(lambda: Base.added),
        tried(lambda: Sub.added),
        tried(lambda: Sub.rate),
        tried(lambda: Sub.make()),
        tried(lambda: Sub.static()),
        tried(lambda: sub.method()),
        tried(lambda: sub.prop),
        tried(lambda: sorted(vars(sub).items())),
        tried(lambda: (slotted.a, slotted.b)),
        tried(lambda: data),
        tried(lambda: icy),
        tried(lambda: color.name),
        tried(lambda: (owners["two"] is owners["one"], owners, shared)),
        tried(lambda: partial(1)),
        tried(helper),
        tried(deeper),
        tried(decorated),
        tried(get),
        tried(default),
        tried(changing),
        tried(lambda: handlers["plain"]()),
        tried(lambda: [one() for one in handlers["list"]]),
        tried(lambda: handlers["method"]()),
        tried(lambda: None if array is None else (array.tolist(), float(matrix.sum()), matrix.shape)),
    ]
    return [repr(one) for one in seen]


def task(_):
    """All that can be seen, as a task of map."""
    return look()


def value(rng, depth=2):
    """The source of a random value."""
    kind = rng.choice(
        [
            "int",
            "int",
            "float",
            "str",
            "none",
            "bool",
            "bytes",
            "list",
            "dict",
            "set",
            "tuple",
            "object",
            "raw",
        ]
    )
    if depth == 0 or kind in ("int", "float", "str", "none", "bool", "bytes"):
        return rng.choice(
            [
                str(rng.randrange(-2, 3)),
                repr(rng.choice([0.0, -0.0, 1.0, 2.5, float("1e300")])),
                repr(rng.choice(["", "a", "b" * 50, "\xe9"])),
                "None",
                "True",
                "False",
                repr(rng.choice([b"", b"x" * 9])),
                str(rng.randrange(2**70)),
            ]
        )
    inner = [value(rng, depth - 1) for _ in range(rng.randrange(3))]
    if kind == "list":
        return f"[{', '.join(inner)}]"
    if kind == "dict":
        return "{" + ", ".join(f"{at!r}: {one}" for at, one in enumerate(inner)) + "}"
    if kind == "set":
        return f"{{{rng.randrange(5)}}}"
    if kind == "tuple":
        return "(" + "".join(f"{one}, " for one in inner) + ")"
    if kind == "raw":
        return f"bytearray({rng.randrange(4)})"
    return rng.choice(
        [
            f"Data({rng.randrange(3)}, {value(rng, 0)})",
            f"types.SimpleNamespace(q={value(rng, 0)})",
            "Color.BLUE",
        ]
    )


def edit(rng):
    """The source of a random edit."""
    one, few = value(rng), rng.randrange(3)
    names = ["number", "text", "nothing", "truth", "real", "extra"]
    edits = [
        f"{rng.choice(names)} = {one}",
        f"{rng.choice(names)} = {one}",
        f"globals().pop({rng.choice(names)!r}, None)",
        f"items.append({one})",
        "items[:] = [1, [2]]",
        f"items[0] = {one}",
        "items[1].append(0) if len(items) > 1 and type(items[1]) is list else None",
        f"table['a']['b'].append({one})",
        f"table[{few}] = {one}",
        f"table.pop({few}, None)",
        "table['a']['b'].clear()",
        f"members.add({few})",
        f"members.discard({few})",
        f"ring.append({one})",
        f"raw.append({few})",
        "raw[0] ^= 1",
        "del raw[3:]",
        f"tally[{few}] += 1",
        f"nested[0].append({few})",
        "nested[0].clear()",
        f"nested[1]['k'][1].append({few})",
        "nested = copy.deepcopy(nested)",
        f"lazily[{few}].append(1)",
        f"lazily.pop({few}, None)",
        f"space.a = {one}",
        f"space.b.append({few})",
        f"space.c{few} = {one}",
        f"vars(space).pop('c{few}', None)",
        f"frozen = frozenset({{{few}}})",
        f"Base.rate = {one}",
        "Base.rows.append(1)",
        "Base.rows = [1]",
        f"Base.kept[{few}] = {one}",
        f"Base.kept.pop({few}, None)",
        f"Base.added = {one}",
        "delattr(Base, 'added') if 'added' in vars(Base) else None",
        f"Sub.added = {one}",
        "delattr(Sub, 'added') if 'added' in vars(Sub) else None",
        f"Sub.rate = {one}",
        "delattr(Sub, 'rate') if 'rate' in vars(Sub) else None",
        f"Base.Inner.deep.append({few})",
        "Base.Inner.deep = [1]",
        f"Meta.kind = {one}",
        f"Base.method = lambda self: ({few}, number)",
        f"Sub.make = classmethod(lambda cls: ({few}, cls.rows))",
        f"Base.prop = property(lambda self: ({few}, text))",
        f"sub.x{few} = {one}",
        f"vars(sub).pop('x{few}', None)",
        f"slotted.a = {one}",
        f"slotted.b.append({few})",
        f"data.x = {one}",
        f"data.y.append({few})",
        "data = Data()",
        f"icy.y.append({few})",
        "icy.y.clear()",
        "color = Color.RED if color is Color.BLUE else Color.BLUE",
        f"shared.append({few})",
        "shared.clear()",
        f"shared = [{few}]; owners['one'] = shared",
        "owners['two'] = owners['one']",
        f"partial = functools.partial(max, {few})",
        "up()",
        f"default.__defaults__ = ({one},)",
        f"default.__kwdefaults__['b'] = {one}",
        f"default.__kwdefaults__ = {{'b': {one}}}",
        f"exec('def changing(): return {few}, number', globals())",
        f"handlers['plain'] = lambda: ({few}, text)",
        "handlers['plain'] = changing",
        f"handlers['list'].append(lambda: {few})",
        "del handlers['list'][2:]",
        "handlers['method'] = sub.method",
        f"exec('def helper(): return {few}, items', globals())",
        f"big = bytes([97 + {few}]) + big[1:]",
        "up, get = counter()",
        f"exec('class Base2: v = {few}', globals()); extra = Base2().v",
    ]
    if numpy is not None:
        edits += [
            f"array[{few}] += 1",
            f"matrix[{few}, 200] += 1",
            f"array = numpy.arange({few} + 1)",
            "matrix *= 2",
            "array[::2] = 0",
            "matrix = matrix[::2] if len(matrix) > 4 else numpy.zeros((300, 300))",
        ]
    return rng.choice(edits)


def agreed(looks):
    """What all of them are, or else the one that differs from the first."""
    first, *others = looks
    return next((one for one in others if one != first), first)


def differs(here, there):
    """The places where two looks differ."""
    return [(at, one, other) for at, (one, other) in enumerate(zip(here, there, strict=True)) if one != other]


def main(seed, count):
    rng = random.Random(seed)
    wrong = 0
    with (
        atoll.create() as interp,
        atoll.InterpreterPoolExecutor(2) as pool,
        contextlib.suppress(StopIteration),
    ):
        ways = {
            "call": lambda: interp.call(look),
            "submit": lambda: pool.submit(look).result(),
            "map": lambda: agreed(pool.map(task, range(3))),
            "interp.submit": lambda: interp.submit(look).result(),
            "lambda": lambda: interp.call(lambda: look()),
            "call_async": lambda: asyncio.run(call_async(interp)),
        }
        at = made = 0
        while made < count:
            at += 1
            lines = [edit(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
            for line in lines:
                with contextlib.suppress(
                    AttributeError, IndexError, KeyError, NameError, TypeError, ValueError
                ):
                    exec(line, globals())
            made += len(lines)
            names = ["call", "submit" if at % 3 else "map"]
            if at % 10 == 0:
                names += ["interp.submit", "lambda", "call_async"]
            for name in names:
                here, there = look(), ways[name]()
                for place, one, other in differs(here, there):
                    wrong += 1
                    print(f"seed {seed}, step {at}, after {lines}: {name} gives, at place {place},")
                    print(f"  {other}\n  right: {one}")
                if wrong > 20:
                    raise StopIteration
    print("done", wrong)
    return wrong


async def call_async(interp):
    return await interp.call_async(look)


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))
