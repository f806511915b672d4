"""map over an infinite generator, with buffersize, break out, islice; generator that raises; early exit; progress."""

import itertools

import atoll

taken = 0


def numbers():
    global taken
    for i in itertools.count():
        taken += 1
        yield i


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


with atoll.InterpreterPoolExecutor(2) as pool:
    primes = []
    for n, ok in enumerate(pool.map(is_prime, numbers())):
        if ok:
            primes.append(n)
        if len(primes) == 1000:
            break
print("A", primes[-1], "taken", taken, flush=True)

with atoll.InterpreterPoolExecutor(2) as pool:
    taken = 0
    it = pool.map(is_prime, numbers(), buffersize=10)
    print("B", list(itertools.islice(it, 30)).count(True), "taken", taken, flush=True)


def broken():
    yield 1
    yield 2
    raise LookupError("source broke")


with atoll.InterpreterPoolExecutor(2) as pool:
    try:
        for x in pool.map(is_prime, broken()):
            print("C", x)
    except LookupError as e:
        print("C", repr(e), flush=True)

print("D: map() of an infinite generator whose results nobody takes, inside with", flush=True)
taken = 0
with atoll.InterpreterPoolExecutor(2) as pool:
    it = pool.map(is_prime, numbers())
print("D fine", taken)
