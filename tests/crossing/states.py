"""A script that compares what interpreters see with a model: of what each has assigned itself, and of what is sent.

Run as `states.py SEED COUNT`.  The model: a call brings a name that its code reaches when the sender's value is another
than the last that came, or none has come and the interpreter has none of its own; else the name is what the
interpreter has made of it.
"""

import random
import sys

import atoll

number, word, items, table = 0, "a", [0], {"a": 0}


class Owner:
    attribute = 0


NAMES = ["number", "word", "items", "table", "attribute"]


def get_number():
    return number


def get_word():
    return word


def get_items():
    return items


def get_table():
    return table


def get_attribute():
    return Owner.attribute


def set_number(value):
    global number
    before, number = number, value
    return before


def set_word(value):
    global word
    before, word = word, value
    return before


def set_items(value):
    before = list(items)
    items[:] = value
    return before


def set_table(value):
    before = dict(table)
    table.clear()
    table.update(value)
    return before


def set_attribute(value):
    before, Owner.attribute = Owner.attribute, value
    return before


GETTERS = {
    "number": get_number,
    "word": get_word,
    "items": get_items,
    "table": get_table,
    "attribute": get_attribute,
}
SETTERS = {
    "number": set_number,
    "word": set_word,
    "items": set_items,
    "table": set_table,
    "attribute": set_attribute,
}
NONE = object()


class Model:
    """What one interpreter has: its value of each name, the sender's value that came last, and what main was given."""

    def __init__(self):
        self.here = {}
        self.came = {}
        self.main = {}

    def call(self, name, sent):
        """A call whose code reaches the name, whose value at home is sent."""
        last = self.came.get(name, NONE)
        if last is NONE and name in self.here:
            pass
        elif last is NONE or last != sent:
            self.here[name] = sent
        self.came[name] = sent
        return self.here[name]


def main(seed, count):
    rng = random.Random(seed)
    home = {"number": 0, "word": "a", "items": [0], "table": {"a": 0}, "attribute": 0}
    interps = [atoll.create() for _ in range(2)]
    models = [Model() for _ in interps]
    history = []
    wrong = 0

    def value(name):
        n = rng.randrange(4)
        return {"number": n, "word": "abcd"[n], "items": [n], "table": {"a": n}, "attribute": n}[name]

    for _ in range(count):
        name, at = rng.choice(NAMES), rng.randrange(len(interps))
        interp, model, new = interps[at], models[at], value(name)
        do = rng.choice(["edit", "edit", "read", "read", "read", "set", "exec", "prepare", "reset"])
        if do == "reset" and rng.random() < 0.8:
            do = "read"
        history.append((do, name, at, new))
        if do in ("exec", "prepare"):
            if model.main.get(name) == new:  # that it is set again is not noticed
                continue
            model.main[name] = new
        if do == "edit":
            SETTERS[name](new)
            home[name] = new
            continue
        sent = home[name]
        if do == "read":
            got, right = interp.call(GETTERS[name]), model.call(name, sent)
        elif do == "set":
            got, right = interp.call(SETTERS[name], new), model.call(name, sent)
            model.here[name] = new
        elif do == "exec" and name != "attribute":
            interp.exec(f"{name} = {new!r}")
            model.here[name] = new
            continue
        elif do == "prepare" and name in ("number", "word"):
            interp.prepare_main({name: new})
            model.here[name] = new
            continue
        elif do == "reset":
            interp.close()
            interps[at], models[at] = atoll.create(), Model()
            continue
        else:
            continue
        if got != right:
            wrong += 1
            steps = [one for one in history if one[1] == name and (one[2] == at or one[0] == "edit")]
            print(f"seed {seed}: {do} of {name} in interpreter {at} gives {got!r}, right: {right!r};")
            print(f"  before that {steps[-8:]}")
            if wrong > 10:
                break
            model.here[name] = got if do == "read" else new
    for interp in interps:
        interp.close()
    print("done", wrong)
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))
