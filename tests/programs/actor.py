"""A long-lived actor: an interpreter with state, request/reply over queues, methods by call, many clients."""

import itertools
import threading
import time

import atoll


class Account:
    instances: dict[str, "Account"] = {}

    def __init__(self, owner):
        self.owner, self.balance, self.log = owner, 0, []
        Account.instances[owner] = self

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError(f"amount must be positive, not {amount}")
        self.balance += amount
        self.log.append(("deposit", amount))
        return self.balance


def serve(requests):
    accounts: dict[str, Account] = {}
    for reply, name, method, args in requests:
        account = accounts.get(name) or accounts.setdefault(name, Account(name))
        try:
            reply.put((True, getattr(account, method)(*args)))
        except Exception as error:
            reply.put((False, error))
    return {name: a.balance for name, a in accounts.items()}


class Client:
    def __init__(self, requests):
        self.requests, self.replies = requests, atoll.create_queue()

    def ask(self, name, method, *args):
        self.requests.put((self.replies, name, method, args))
        ok, value = self.replies.get(timeout=10)
        if not ok:
            raise value
        return value


requests = atoll.create_queue(100)
with atoll.create() as actor:
    final = actor.submit(serve, requests)

    def client(i):
        c = Client(requests)
        for k in range(200):
            c.ask(f"user{i}", "deposit", 1)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    c = Client(requests)
    try:
        c.ask("user1", "deposit", -5)
    except ValueError as error:
        print("ValueError", error)
    account = Account("z")
    requests.shutdown()
    print(final.result())


# state kept in the interpreter by method calls
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, k):
        self.n += k
        return self.n


counter = Counter()
total = 0
with atoll.create() as i:
    print("bound method keeps state?", [i.call(counter.add, 1) for _ in range(3)], counter.n)
    i.exec("total = 0")

    def bump(k):
        global total
        total += k
        return total

    print([i.call(bump, 2) for _ in range(3)])
    i.exec("print(total)")
