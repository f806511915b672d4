"""Builds scripts that define random classes and compare what is seen of them at home and in an interpreter.

A script is made of units: a class each, with what is observed of it and the units that it needs.  Most kinds are texts
of tests/crossing/random, with gaps; ordinary classes and dataclasses are put together here.  The same seed makes the
same script, and script(names) leaves out all units but some and those that they need.  `without` names kinds, parts,
or "text annotation", that are left out from the start.
"""

from __future__ import annotations

import random
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "crossing" / "random"
VALUES = [
    "0", "-7", "1.5", "'text'", "b'raw'", "None", "True", "(1, 'two')", "[1, 2]", "{'k': [1]}", "{3}",
    "frozenset({4})", "2**80", "...", "int", "len",
]  # fmt: skip
ANNOTATIONS = [
    "int", "str", "list[int]", "dict[str, int]", "int | None", "typing.Any", "typing.Callable[[int], str]",
    "typing.Literal[1, 'a']", "tuple[int, ...]",
]  # fmt: skip
PARAMETERS = ["[T]", "[T: int]", "[T: (int, str), *Ts]", "[T, **P]"]
GENERIC = [
    "typing.Generic[TV]", "typing.Generic[TV, KV]", "typing.Generic[PS]",
    "typing.Generic[TV, typing.Unpack[TS]]",
]  # fmt: skip
BUILTIN = ["dict", "list", "str", "float", "set", "collections.OrderedDict", "types.SimpleNamespace"]
METACLASSES = ["Counting", "Ordered", "Looking", "abc.ABCMeta"]
KINDS = {
    "plain": 4, "abstract": 1, "protocol": 1, "namedtuple": 1, "typeddict": 1, "enumeration": 2, "dataclass": 2,
    "exception": 1,
}  # fmt: skip


@dataclass
class Unit:
    """A class of a script: its source, what is observed of it, how an instance is made and looked at."""

    name: str
    kind: str = ""
    source: str = ""
    observed: list[str] = field(default_factory=list)
    makes: str = ""
    looks: list[str] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)
    metaclass: str = ""
    keyword: str = ""  # what a subclass has to say beside its bases
    slots: bool = False
    frozen: bool = False

    def text(self) -> str:
        """The lines of the script."""
        name = self.name
        observed = "".join(f"    lambda: ({one}),\n" for one in self.observed)
        text = f"{self.source}\nCLASSES[{name!r}] = {name}\nOBSERVED[{name!r}] = [\n{observed}]\n"
        if self.makes:
            looks = "".join(f"    lambda x: ({one}),\n" for one in self.looks)
            text += f"INSTANCES[{name!r}] = (lambda: {self.makes}, [\n{looks}])\n"
        return text

    def take(self, lines: list[str]) -> list[str]:
        """Add what is observed and looked at; return the lines that are source."""
        self.observed += [line[2:] for line in lines if line.startswith("= ")]
        self.looks += [line[2:] for line in lines if line.startswith("> ")]
        self.makes = next((line[2:] for line in lines if line.startswith("+ ")), self.makes)
        return [line for line in lines if not line.startswith(("= ", "> ", "+ "))]


def texts(name: str, mark: str) -> list[tuple[str, str]]:
    """The titles and bodies of a text's sections."""
    parts = re.split(rf"^{mark} ", (FOLDER / name).read_text(), flags=re.M)[1:]
    pairs = [part.split("\n", 1) for part in parts]
    return [(title, re.split(r"^#", body, maxsplit=1, flags=re.M)[0].strip("\n")) for title, body in pairs]


class Generator:
    """Makes the units of a script from a seed."""

    def __init__(self, seed: int, version: tuple[int, int], without: frozenset[str] = frozenset()) -> None:
        self.rng = random.Random(seed)
        self.without = without
        self.version = version
        self.parts = [(title, text) for title, text in texts("parts.txt", "###") if title not in without]
        self.kinds = texts("kinds.txt", "###")
        self.common = dict(texts("kinds.txt", "##"))
        self.weights = {kind: weight for kind, weight in KINDS.items() if kind not in without}
        self.units: list[Unit] = []

    # The gaps of texts

    def chance(self, of: float) -> bool:
        return self.rng.random() < of

    def of_kind(self, kind: str) -> list[Unit]:
        return [unit for unit in self.units if unit.kind == kind]

    def annotation(self) -> str:
        kinds = ("plain", "dataclass", "enumeration", "namedtuple", "abstract")
        named = [unit.name for unit in self.units if unit.kind in kinds]
        if named and self.chance(0.4):
            name = self.rng.choice(named)
            named = [name, f"list[{name}]", f"{name} | None", f"type[{name}]"]
            return self.rng.choice(named if "text annotation" in self.without else [*named, f"'{name}'"])
        return self.rng.choice(ANNOTATIONS)

    def fill(self, text: str, name: str, part: str = "") -> str:
        """The text with its gaps filled."""
        text = re.sub(r"\$\{(.*?)\}\$", lambda found: self.rng.choice(found[1].split("||")), text)
        text = text.replace("$N", name).replace("$m", part)
        text = re.sub(r"\$V", lambda _: self.rng.choice(VALUES), text)
        return re.sub(r"\$A\b", lambda _: self.annotation(), text)

    def members(self, unit: Unit, count: int, dictionary: bool = True) -> list[str]:
        """Lines of parts that are chosen at random."""
        lines = []
        for at in range(count):
            title, text = self.rng.choice(self.parts)
            if dictionary or title not in ("cached property", "descriptor"):
                lines += unit.take(self.fill(text, unit.name, f"m{at}").split("\n"))
        return lines

    def placed(self, name: str, source: str) -> str:
        """The source of a class at the top level, in a function, in a class or in a block."""
        how = self.rng.choice(["top", "top", "top", "local", "nested", "condition"])
        inner = textwrap.indent(source, "    ")
        if how == "local":
            return f"def make_{name}(token):\n{inner}\n    return {name}\n{name} = make_{name}(1)"
        if how == "nested":
            return f"class In_{name}:\n{inner}\n{name} = In_{name}.{name}"
        if how == "condition":
            return f"if True:\n{inner}"
        return source

    # Kinds of classes

    def of_text(self, unit: Unit) -> None:
        """Fill one of the texts of this kind."""
        text = self.rng.choice([body for title, body in self.kinds if title == unit.kind])
        earlier = self.of_kind(unit.kind)

        def base(found: re.Match[str]) -> str:
            fits = [one.name for one in earlier if "[T]" not in one.source and "Generic" not in one.source]
            fits = [one for one in fits if unit.kind != "typeddict" or "TypedDict(" not in one]
            return self.rng.choice(fits) if fits and self.chance(0.4) else found[1]

        text = re.sub(r"\$ANY\((.*?)\)", base, text)
        lines = []
        for line in self.fill(text, unit.name).split("\n"):
            indent = line[: len(line) - len(line.lstrip())]
            if line.strip() == "$MEMBERS":
                lines += [indent + one for one in self.members(unit, self.rng.randrange(1, 3))]
            elif line.strip() == "$EXTRA":
                lines += [indent + one for one in self.common["lines of all enumerations"].split("\n")]
            elif line.strip():
                lines.append(line)
        unit.source = "\n".join(unit.take(lines))
        if len(re.findall(r"^\w", unit.source, flags=re.M)) == 1:  # one statement
            unit.source = self.placed(unit.name, unit.source)
        unit.take(self.fill(self.common.get(unit.kind, ""), unit.name).split("\n"))
        if unit.kind == "enumeration" and self.chance(0.2):
            unit.source += f"\n{unit.name}.A.note = [1]"

    def plain(self, unit: Unit) -> None:
        """An ordinary class: with bases, a metaclass, slots, type parameters, hooks, or none of it."""
        rng, name = self.rng, unit.name
        earlier = self.of_kind("plain")
        base = rng.choice(earlier) if earlier and self.chance(0.6) else None
        bases, parameters, head = [base.name] if base else [], "", []
        unit.slots = self.chance(0.25) and (base is None or base.slots)
        lines: list[str] = ["'about it'"] if self.chance(0.5) else []
        if base:
            unit.metaclass, unit.keyword = base.metaclass, base.keyword
            head += filter(None, [base.keyword])
            if base.keyword.startswith("tag"):
                unit.observed.append(f"{name}.tag")
        elif self.chance(0.35):
            unit.metaclass = rng.choice(METACLASSES)
            head.append(f"metaclass={unit.metaclass}")
            if unit.metaclass == "Ordered":
                unit.keyword = f"limit={rng.randrange(5)}"
                head.append(unit.keyword)
        elif self.chance(0.5):
            newer = ["[T = int]"] if self.version >= (3, 13) else []
            if self.chance(0.5):
                parameters = rng.choice(PARAMETERS + newer)
            else:
                bases = [rng.choice(GENERIC)]
            unit.observed += [f"{name}[int] == {name}[int]", f"[p.__name__ for p in {name}.__parameters__]"]
        elif not unit.slots and self.chance(0.4):
            bases, unit.kind = [rng.choice(BUILTIN)], "built in"
        if not base and not unit.metaclass and self.chance(0.3):
            lines.append("def __init_subclass__(cls, *, tag='none', **rest):")
            lines.append("    super().__init_subclass__(**rest); cls.tag = tag; LOG.append(cls.__name__)")
            unit.keyword = f"tag={rng.choice(VALUES)}"
        if unit.metaclass in ("Counting", "Ordered", "Looking"):
            unit.observed += [f"type({name}).__name__", f"{name}.shown", f"{name}.counted", f"{name}.order"]
        if unit.slots:
            slots = [("s_" + name, "__private"), ["s_" + name], "s_" + name, {"s_" + name: "about"}]
            lines.append(f"__slots__ = {rng.choice(slots)!r}")
            unit.looks += [f"x.s_{name}", f"setattr(x, 'other_{name}', 1)"]
        lines += self.members(unit, rng.randrange(2, 6), dictionary=not unit.slots)
        if unit.kind == "plain":
            lines += [
                f"def __init__(self, a={rng.choice(VALUES)}):",
                *(["    super().__init__(a)"] if base else []),
                f"    self.{'s' if unit.slots else 'i'}_{name} = a",
                f"def who(self): return [{name!r}, *(super().who() if hasattr(super(), 'who') else [])]",
            ]
            unit.looks += ["x.who()"]
            if self.chance(0.4):
                lines.append("def __eq__(self, other): return type(self) is type(other)")
                lines.append("def __hash__(self): return 7")
                unit.looks += ["hash(x)", "len({x, copy.copy(x)})"]
            if self.chance(0.3):
                lines.append("def __repr__(self): return f'<{type(self).__name__} {self.who()}>'")
            if self.chance(0.2) and not unit.slots and not base:
                lines.append("def __getstate__(self): return {'kept': dict(vars(self))}")
                lines.append("def __setstate__(self, state): vars(self).update(state['kept'])")
        inside = ", ".join([*bases, *head])
        body = textwrap.indent("\n".join(lines), "    ")
        source = f"class {name}{parameters}({inside}):\n{body}"
        if self.chance(0.2):
            source = f"@marked({rng.choice(VALUES)})\n{source}"
            unit.observed.append(f"{name}.mark")
        unit.source = self.placed(name, source)
        if self.chance(0.25):
            unit.source += f"\n{name}.later = {rng.choice(VALUES)}"
            unit.source += f"\n{name}.patched = lambda self: (2, self.later)"
            unit.looks.append("x.patched()")
        unit.makes = f"{name}()"

    def dataclass(self, unit: Unit) -> None:
        """A dataclass of any kind."""
        rng, name = self.rng, unit.name
        earlier = self.of_kind("dataclass")
        base = rng.choice(earlier) if earlier and self.chance(0.4) else None
        options = {one for one in ("slots", "kw_only", "frozen", "order", "unsafe_hash") if self.chance(0.25)}
        if base is not None:
            options = options - {"frozen"} | ({"frozen"} if base.frozen else set())
        unit.frozen = "frozen" in options
        if "slots" in options and base is None and self.chance(0.3):
            options.add("weakref_slot")
        fields = [
            f"b_{name}: list = dataclasses.field(default_factory=list)",
            f"c_{name}: int = dataclasses.field(default=3, repr=False, compare=False, metadata={{'u': $V}})",
            f"d_{name}: typing.ClassVar[int] = 4",
            f"f_{name}: int = dataclasses.field(init=False, default_factory=lambda: 6)",
            f"g_{name}: dict = dataclasses.field(default_factory=lambda: {{'k': LIMIT}}, hash=False)",
            f"h_{name}: $A = dataclasses.field(default=None, kw_only=True)",
            f"i_{name}: str = 'i'",
        ]
        lines = [f"a_{name}: $A = 1", *rng.sample(fields, rng.randrange(1, 5))]
        if base is None and self.chance(0.3):
            lines.append(f"e_{name}: dataclasses.InitVar[int] = 5")
            lines.append(f"def __post_init__(self, e_{name}): object.__setattr__(self, 'a_{name}', e_{name})")
        lines = [self.fill(line, name) for line in lines]
        lines += self.members(unit, rng.randrange(3), dictionary="slots" not in options)
        arguments = ", ".join(f"{one}=True" for one in sorted(options))
        parameters = "[T]" if base is None and self.chance(0.2) else ""
        head = f"class {name}{parameters}({base.name if base else ''}):"
        body = textwrap.indent("\n".join(lines), "    ")
        unit.source = self.placed(name, f"@dataclasses.dataclass({arguments})\n{head}\n{body}")
        unit.observed += [
            f"[(f.name, f.type, f.default, f.init, f.repr) for f in dataclasses.fields({name})]",
            f"[(f.kw_only, f.compare, dict(f.metadata)) for f in dataclasses.fields({name})]",
            f"{name}(7)",
            f"{name}() == {name}(), {name}() < {name}()",
            f"dataclasses.asdict({name}())",
            f"dataclasses.replace({name}(), a_{name}=9)",
            f"{name}.__match_args__, {name}.__dataclass_params__, {name}.__hash__ is None",
            f"setattr({name}(), 'a_{name}', 2)",
            f"{name}(nothing=1)",
        ]
        unit.looks += [f"x.a_{name}", f"x.b_{name}", f"x == {name}()", "dataclasses.astuple(x)"]
        unit.looks += ["hasattr(x, '__dict__')", "weakref.ref(x)() is x"]
        unit.makes = f"{name}()"

    def build(self, count: int) -> None:
        """Make so many units."""
        for at in range(count):
            kind = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
            unit = Unit(f"{kind.capitalize()}{at}", kind)
            {"plain": self.plain, "dataclass": self.dataclass}.get(kind, self.of_text)(unit)
            words = set(re.findall(r"\w+", unit.text()))
            unit.needs = {other.name for other in self.units} & words
            self.units.append(unit)

    def script(self, only: set[str] | None = None) -> str:
        """The script of all units, or of some and of those that they need."""
        wanted = {unit.name for unit in self.units} if only is None else set(only)
        for unit in reversed(self.units):
            if unit.name in wanted:
                wanted |= unit.needs
        begin, end = (FOLDER / "begin.txt").read_text(), (FOLDER / "end.txt").read_text()
        return begin + "\n".join(unit.text() for unit in self.units if unit.name in wanted) + end
