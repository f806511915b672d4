"""Operations of packages for numbers: arrays, tables, statistics, compilers of numeric code, geometry."""

import functools

from cases import near, package, same


@package("numpy", "numpy", "numpy.fft", "numpy.linalg", "numpy.random")
def numpy():
    import numpy as np

    rng = np.random.default_rng(7)
    a = rng.standard_normal((48, 48))
    near(np.abs(np.linalg.solve(a, a @ np.ones(48)) - 1).max(), 0)
    near(np.abs(np.fft.irfft(np.fft.rfft(a[0])) - a[0]).max(), 0)
    values, counts = np.unique(np.sort(rng.integers(0, 9, 500)), return_counts=True)
    same((values.tolist(), int(counts.sum())), (list(range(9)), 500))
    words = np.array(["pear", "fig", "apple"], dtype=object)
    same(words[np.argsort(words)].tolist(), ["apple", "fig", "pear"])
    days = np.arange("2024-02-27", "2024-03-02", dtype="datetime64[D]")
    same(str(days[2]), "2024-02-29")
    records = np.array([(1, 2.5), (3, 4.5)], dtype=[("n", "i4"), ("x", "f8")])
    same(records["x"].sum(), 7.0)
    same(np.einsum("ij,jk->ik", np.eye(3), np.full((3, 3), 2.0)).sum(), 18.0)
    same(np.frompyfunc(lambda x, y: x + y, 2, 1)(np.arange(3), 10).tolist(), [10, 11, 12])
    with np.errstate(divide="ignore"):
        assert np.isinf(np.float64(1) / np.float64(0))


@package("pandas", seconds=180)
def pandas():
    import io

    import numpy as np
    import pandas as pd

    frame = pd.DataFrame(
        {
            "team": pd.Categorical(["red", "blue"] * 40),
            "day": pd.date_range("2024-01-01", periods=80, freq="D"),
            "points": np.arange(80, dtype="int64"),
            "note": [f"n{i % 5}" for i in range(80)],
        }
    )
    same(frame.groupby("team", observed=True)["points"].sum().to_dict(), {"blue": 1600, "red": 1560})
    monthly = frame.set_index("day")["points"].resample("MS").sum()
    same(monthly.iloc[0], sum(range(31)))
    joined = frame.merge(pd.DataFrame({"note": ["n1", "n3"], "w": [0.5, 1.5]}), on="note")
    same((len(joined), joined["w"].sum()), (32, 32.0))
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)), parse_dates=["day"])
    same(again["day"].dt.month.tolist(), frame["day"].dt.month.tolist())
    same(frame["points"].rolling(4).mean().iloc[-1], 77.5)
    same(pd.Timestamp("2024-03-10", tz="Europe/Paris").utcoffset().total_seconds(), 3600.0)
    same(frame["note"].str.upper().value_counts().to_dict()["N4"], 16)
    pivot = frame.pivot_table(index="note", columns="team", values="points", observed=True)
    same(pivot.shape, (5, 2))


@package(
    "scipy",
    *"scipy.cluster.hierarchy scipy.fft scipy.integrate scipy.interpolate scipy.io scipy.linalg".split(),
    *"scipy.ndimage scipy.optimize scipy.signal scipy.sparse.csgraph scipy.sparse.linalg scipy.spatial".split(),
    *"scipy.special scipy.stats".split(),
    seconds=240,
)
def scipy():
    import numpy as np
    from scipy import fft, integrate, interpolate, linalg, ndimage, optimize, signal, sparse, spatial, special
    from scipy.cluster import hierarchy
    from scipy.sparse import csgraph
    from scipy.sparse import linalg as sparse_linalg

    near(integrate.quad(np.exp, 0, 1)[0], np.e - 1)
    near(integrate.solve_ivp(lambda t, y: -y, (0, 1), [1.0], rtol=1e-8).y[0, -1], np.exp(-1), 1e-5)
    near(optimize.brentq(lambda x: x**3 - 8, 0, 5), 2)
    near(optimize.minimize(lambda v: ((v - 3) ** 2).sum(), [0.0, 1.0], method="L-BFGS-B").x[1], 3, 1e-4)
    near(interpolate.CubicSpline([0, 1, 2, 3], [0, 1, 8, 27])(2.5), 2.5**3, 1e-3)
    lower, upper = linalg.lu(np.array([[2.0, 1.0], [4.0, 5.0]]), permute_l=True)
    near((lower @ upper)[1, 1], 5)
    near(np.abs(fft.idct(fft.dct(np.arange(16.0))) - np.arange(16.0)).max(), 0)
    near(ndimage.gaussian_filter(np.eye(9), 1).sum(), 9, 0.5)
    same(ndimage.label(np.array([1, 1, 0, 1]))[1], 2)
    same(signal.find_peaks([0, 2, 0, 3, 0])[0].tolist(), [1, 3])
    band = sparse.diags_array([np.full(20, 4.0), np.ones(19)], offsets=[0, 1], format="csc")
    near(np.abs(band @ sparse_linalg.spsolve(band, np.ones(20)) - 1).max(), 0)
    same(csgraph.connected_components(band)[0], 1)
    points = np.random.default_rng(3).random((40, 2))
    same(int(spatial.KDTree(points).query(points[11])[1]), 11)
    near(spatial.ConvexHull([[0, 0], [2, 0], [2, 2], [0, 2]]).volume, 4)
    same(hierarchy.linkage(points, "ward").shape, (39, 4))
    near(special.gamma(6), 120)
    near(special.ndtr(0.0), 0.5)


@package(
    "scikit-learn", "sklearn.cluster", "sklearn.ensemble", "sklearn.linear_model", "sklearn.svm", seconds=240
)
def scikit_learn():
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    points = np.random.default_rng(5).normal(size=(60, 3))
    points[30:] += 5
    labels = np.repeat([0, 1], 30)
    for model in (
        LogisticRegression(),
        SVC(),
        KNeighborsClassifier(3),
        RandomForestClassifier(4, random_state=0),
    ):
        same(float(model.fit(points, labels).score(points, labels)), 1.0)
    found = KMeans(2, n_init=1, random_state=0).fit_predict(points)
    same(len(set(found[:30].tolist()) | set(found[30:].tolist())), 2)


@package("numexpr")
def numexpr():
    import numexpr as ne
    import numpy as np

    x = np.linspace(0, 1, 120_000)
    near(np.abs(ne.evaluate("sin(x)**2 + cos(x)**2", {"x": x}) - 1).max(), 0)
    same(int(ne.evaluate("sum(where(x > 0.5, 1, 0))", {"x": x})), 60_000)


@package("Bottleneck", "bottleneck")
def bottleneck():
    import bottleneck as bn
    import numpy as np

    a = np.array([[4.0, np.nan, 1.0], [2.0, 8.0, 3.0]])
    same(bn.nanmax(a, axis=1).tolist(), [4.0, 8.0])
    same(bn.nanmedian(a), 3.0)
    same(bn.move_sum(np.arange(6.0), 3)[-1], 12.0)
    same(bn.rankdata(np.array([30.0, 10.0, 20.0])).tolist(), [3.0, 1.0, 2.0])


@functools.cache
def numba_functions():
    import numba

    @numba.njit
    def collatz(n):
        steps = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        return steps

    @numba.vectorize(["float64(float64, float64)"])
    def hypot(x, y):
        return (x * x + y * y) ** 0.5

    return collatz, hypot


@package("numba", seconds=300)
def numba():
    import numba as nb
    import numpy as np

    collatz, hypot = numba_functions()
    same(collatz(27), 111)
    same(hypot(np.array([3.0, 5.0]), np.array([4.0, 12.0])).tolist(), [5.0, 13.0])

    @nb.cfunc("int64(int64)")  # compiled anew each time
    def double(x):
        return x * 2

    same(double.ctypes(21), 42)


@package("h5py", "h5py", "numpy")
def h5py():
    import io

    import h5py as h5
    import numpy as np

    memory = io.BytesIO()
    with h5.File(memory, "w") as file:
        group = file.create_group("readings")
        group.create_dataset("x", data=np.arange(2000.0), chunks=(500,), compression="gzip")
        group.attrs["unit"] = "metre"
    with h5.File(memory, "r") as file:
        same(file["readings"].attrs["unit"], "metre")
        same(float(file["readings/x"][1000:1010].sum()), 10045.0)


@package("shapely", "shapely", "shapely.geometry", "shapely.ops")
def shapely():
    import shapely as sh
    from shapely.geometry import LineString, Polygon
    from shapely.ops import unary_union

    squares = [Polygon([(i, 0), (i + 2, 0), (i + 2, 2), (i, 2)]) for i in range(4)]
    near(unary_union(squares).area, 10)
    same(sh.STRtree(squares).query(LineString([(4.5, -1), (4.5, 3)])).tolist(), [3])
    near(sh.from_wkb(sh.to_wkb(squares[0])).intersection(squares[1]).area, 2)
    same(sh.from_wkt("POINT (1 2)").within(squares[0].buffer(0.5)), True)


@package("contourpy", "contourpy", "numpy")
def contourpy():
    """Built with pybind11."""
    import contourpy as cp
    import numpy as np

    y, x = np.mgrid[-1:1:30j, -1:1:30j]
    lines = cp.contour_generator(x, y, x**2 + y**2).lines(0.25)
    same(len(lines), 1)
    near(np.hypot(*lines[0].T).max(), 0.5, 0.01)


@package("kiwisolver")
def kiwisolver():
    import kiwisolver as kiwi

    left, right = kiwi.Variable("left"), kiwi.Variable("right")
    solver = kiwi.Solver()
    for constraint in (left >= 10, right == left + 25, (right <= 40) | "weak"):
        solver.addConstraint(constraint)
    solver.updateVariables()
    same(right.value() - left.value(), 25.0)
    try:
        solver.addConstraint(left <= 5)
        raise AssertionError("a contradiction was accepted")
    except kiwi.UnsatisfiableConstraint:
        pass


@package("boost-histogram", "boost_histogram", "numpy")
def boost_histogram():
    """Built with pybind11."""
    import boost_histogram as bh
    import numpy as np

    histogram = bh.Histogram(bh.axis.Regular(10, 0, 1), storage=bh.storage.Weight())
    histogram.fill(np.linspace(0.05, 0.95, 10), weight=2.0)
    same(histogram.view().value.tolist(), [2.0] * 10)
    same(histogram[:: bh.sum].variance, 40.0)


@package("manifold3d", "manifold3d", "numpy")
def manifold3d():
    """Built with nanobind."""
    import manifold3d as m3
    import numpy as np

    block = m3.Manifold.cube([2, 2, 2], True)
    near(block.volume(), 8)
    near((block - block.translate([1, 0, 0])).volume(), 4)
    near(block.warp(lambda v: [v[0], v[1], v[2] * 2]).volume(), 16)
    same(np.asarray(block.to_mesh().tri_verts).shape, (12, 3))


@package("torch", "torch", "torch.nn", seconds=300)
def torch():
    import io

    import torch as t

    x = t.linspace(-1, 1, 64).reshape(-1, 1)
    layer = t.nn.Sequential(t.nn.Linear(1, 8), t.nn.Tanh(), t.nn.Linear(8, 1))
    optimizer = t.optim.SGD(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = t.nn.functional.mse_loss(layer(x), x * 2)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
    a = t.tensor([2.0, 3.0], requires_grad=True)
    (a**3).sum().backward()
    same(a.grad.tolist(), [12.0, 27.0])
    memory = io.BytesIO()
    t.save(layer.state_dict(), memory)
    memory.seek(0)
    same(set(t.load(memory)), set(layer.state_dict()))
    same(t.from_numpy(t.arange(6).reshape(2, 3).numpy()).T.shape, (3, 2))
    near(t.linalg.inv(t.eye(4) * 4).sum().item(), 1)


@package("optree", "optree", "optree._C")
def optree():
    import collections

    import optree as tree

    data = {"b": [1, (2, None)], "a": collections.OrderedDict(x=3)}
    leaves, spec = tree.tree_flatten(data)
    same(leaves, [3, 1, 2])
    same(tree.tree_unflatten(spec, [30, 10, 20]), {"a": {"x": 30}, "b": [10, (20, None)]})
    point = collections.namedtuple("point", "x y")
    same(tree.tree_map(lambda x: x + 1, point(1, [2])), point(2, [3]))
    same(tree.tree_reduce(lambda x, y: x + y, data), 6)


@package("faiss-cpu", "faiss", "numpy", seconds=180)
def faiss():
    import faiss as fs
    import numpy as np

    index = fs.IndexFlatL2(4)
    index.add(np.eye(4, dtype="float32"))
    distances, numbers = index.search(np.eye(4, dtype="float32"), 2)
    same(numbers[:, 0].tolist(), [0, 1, 2, 3])
    near(float(distances[0, 1]), 2)
    trained = fs.index_factory(4, "IVF2,Flat")
    points = np.random.default_rng(0).random((200, 4), dtype="float32")
    trained.train(points)
    trained.add(points)
    same(trained.search(points[:3], 1)[1].ravel().tolist(), [0, 1, 2])
    same(fs.deserialize_index(fs.serialize_index(index)).ntotal, 4)
