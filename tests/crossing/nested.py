"""nested.py SEED COUNT: an object that has a name is that object in an interpreter too.

Names are bound to few instances, again and again, which are in lists, dicts and other instances, and are changed in
place.  Each step sends some, alone or in a list, to a function that uses some of the names: what it sees, and which of
that is one object, is as at home; what comes home is the object that was sent.
"""

import random
import sys

import atoll


class Config:
    def __init__(self, number):
        self.number = number
        self.other = None


class Slotted:
    __slots__ = ("number", "other", "__weakref__")

    def __init__(self, number):
        self.number = number
        self.other = None


class Made:
    """What runs code when it is made again."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return make, (self.number,)


def make(number):
    return Made(number)


class Bare:
    pass


class Holder:
    first = None
    second = None
    kept = []


a = b = c = None
NAMES = ["a", "b", "c", "Holder.first", "Holder.second"]
ITEMS = []
TABLE = {}


def seen(value):
    number = getattr(value, "number", None)
    other = getattr(value, "other", None)
    return type(value).__name__, number, type(other).__name__, getattr(other, "number", None)


def look(named, others):
    """What each is, and which of the others are, or have, one that has a name."""
    inner = [getattr(value, "other", None) for value in others]
    return (
        [seen(value) for value in named + others],
        [[one is other for other in named] for one in named],
        [[one is not None and one is other for other in named] for one in others + inner],
    )


def of_all(*values):
    kept = ITEMS + list(TABLE.values()) + Holder.kept
    return look([a, b, c, Holder.first, Holder.second], kept + flat(values))


def of_globals(*values):
    return look([a, b, c], ITEMS + flat(values))


def of_class(*values):
    return look([Holder.first, Holder.second], Holder.kept + flat(values))


def of_some(*values):
    return look([b, Holder.second], list(TABLE.values()) + flat(values))


def flat(values):
    found = []
    for value in values:
        found += value if isinstance(value, list) else [value]
    return found


def give(which):
    return [a, b, c, Holder.first, Holder.second, ITEMS][which]


def bind(name, value):
    if name in globals():
        globals()[name] = value
    else:
        owner, attribute = name.split(".")
        setattr(globals()[owner], attribute, value)


def value_of(name):
    return eval(name, globals())


def new(choose, number):
    return choose.choice([Config, Slotted, Made, lambda _: Bare(), lambda _: object()])(number)


def edit(choose, number):
    """One change at home."""
    value = value_of(choose.choice(NAMES))
    how = choose.randrange(8)
    if how < 2:
        bind(choose.choice(NAMES), new(choose, number))
    elif how == 2:
        bind(choose.choice(NAMES), value)
    elif how == 3 and isinstance(value, (Config, Slotted, Made)):
        value.number = number
    elif how == 4 and isinstance(value, (Config, Slotted)):
        value.other = value_of(choose.choice(NAMES)) if choose.randrange(2) else new(choose, number)
    elif how == 5:
        choose.choice([ITEMS, Holder.kept]).append(value)
    elif how == 6:
        TABLE[choose.randrange(3)] = value
    elif how == 7:
        for items in ITEMS, Holder.kept:
            del items[: choose.randrange(3)]


def main():
    choose = random.Random(int(sys.argv[1]))
    wrong = 0
    with atoll.create() as one, atoll.create() as two:
        for number in range(int(sys.argv[2])):
            for _ in range(choose.randrange(4)):
                edit(choose, number)
            function = choose.choice([of_all, of_globals, of_class, of_some])
            pool = [value_of(name) for name in NAMES] + ITEMS + Holder.kept + list(TABLE.values())
            values = choose.choices(pool, k=choose.randrange(4))
            if choose.randrange(2):
                values = [values]
            interp = choose.choice([one, two])
            there, here = interp.call(function, *values), function(*values)
            if there != here:
                wrong += 1
                print(number, function.__name__, there, here, sep="\n    ")
            which = choose.randrange(5)
            if interp.call(give, which) is not give(which):
                wrong += 1
                print(number, "comes home as another:", which, seen(give(which)))
    print("done", wrong)


main()
