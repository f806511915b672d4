"""Monte Carlo with numpy: SeedSequence.spawn, Generator per worker, result arrays, scaling, structured arrays."""

import concurrent.futures
import functools
import math
import time

import numpy as np

import atoll

N = 200_000


def pi(seed, n=N):
    rng = np.random.default_rng(seed)
    xy = rng.random((n, 2))
    return 4 * np.count_nonzero((xy**2).sum(axis=1) <= 1) / n


def paths(rng, steps):
    return rng.standard_normal(steps).cumsum()


def price(seed, *, s0, k, sigma, n):
    rng = np.random.Generator(np.random.PCG64(seed))
    st = s0 * np.exp(sigma * rng.standard_normal(n) - sigma**2 / 2)
    return np.array([(np.maximum(st - k, 0)).mean(), st.std()])


seeds = np.random.SeedSequence(42).spawn(16)
with atoll.InterpreterPoolExecutor(2) as pool:
    values = list(pool.map(pi, seeds))
    assert values == [pi(s) for s in seeds]
    print(np.mean(values))
    f = functools.partial(price, s0=100, k=105, sigma=0.2, n=N)
    got = np.vstack(list(pool.map(f, seeds)))
    assert np.array_equal(got, np.vstack([f(s) for s in seeds]))
    rng = np.random.default_rng(1)
    walk = pool.submit(paths, rng, 1000).result()
    assert np.array_equal(walk, paths(np.random.default_rng(1), 1000))
    walk[0] = 1  # writable?
    rec = np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")])
    back = pool.submit(lambda r: r["b"] * 2, rec).result()
    assert back.tolist() == [4, 8]
    masked = pool.submit(np.ma.masked_equal, np.arange(4), 2).result()
    print(masked, masked.sum())
    print(pool.submit(np.linalg.norm, np.eye(3)).result(), list(pool.map(np.sin, [0.0, 1.0])))
    try:
        pool.submit(np.linalg.inv, np.zeros((2, 2))).result()
    except np.linalg.LinAlgError as error:
        print("LinAlgError", error)
