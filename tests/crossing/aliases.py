"""aliases.py SEED COUNT: names of globals and attributes that are one object at home are one object in an interpreter.

Some names are bound to few lists, dicts and instances, again and again, which are changed in place, too.  Each step
calls a function that uses some of the names: it sees what each holds, and which of them are one object, as at home.
"""

import random
import sys

import atoll


class Config:
    def __init__(self, number):
        self.number = number
        self.items = []


class Keyed:
    """What runs code when it is made again."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return Keyed, (self.number,)


class Holder:
    first = None
    second = None


class Other(Holder):
    third = None


a = b = c = None
NAMES = ["a", "b", "c", "Holder.first", "Holder.second", "Other.third"]


def seen(value):
    if isinstance(value, Config):
        return "Config", value.number, list(value.items)
    return ("Keyed", value.number) if isinstance(value, Keyed) else value


def look(values):
    return [seen(value) for value in values], [
        [one is other for other in values] for one in values if one is not None
    ]


def of_all():
    return look([a, b, c, Holder.first, Holder.second, Other.third])


def of_globals():
    return look([a, b, c])


def of_classes():
    return look([Holder.first, Holder.second, Other.third])


def of_some():
    return look([b, Other.third])


def of_others():
    return look([Holder.second, c, a])


def bind(name, value):
    if name in globals():
        globals()[name] = value
    else:
        owner, attribute = name.split(".")
        setattr(globals()[owner], attribute, value)


def value_of(name):
    return eval(name, globals())


def edit(choose, number):
    """One change at home."""
    how = choose.randrange(4)
    name = choose.choice(NAMES)
    value = value_of(name)
    if how == 0:
        made = choose.randrange(5)
        bind(name, [[number], {"n": number}, Config(number), Keyed(number), None][made])
    elif how == 1:
        bind(name, value_of(choose.choice(NAMES)))
    elif isinstance(value, list):
        value.append(number)
    elif isinstance(value, dict):
        value[str(number)] = number
    elif isinstance(value, Config):
        value.items.append(number)
    elif isinstance(value, Keyed):
        value.number = number


def main():
    choose = random.Random(int(sys.argv[1]))
    wrong = 0
    with atoll.create() as one, atoll.create() as two:
        for number in range(int(sys.argv[2])):
            for _ in range(choose.randrange(4)):
                edit(choose, number)
            function = choose.choice([of_all, of_globals, of_classes, of_some, of_others])
            there, here = choose.choice([one, two]).call(function), function()
            if there != here:
                wrong += 1
                print(number, function.__name__, there, here)
    print("done", wrong)


main()
