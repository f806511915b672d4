"""pyarrow, polars, duckdb and torch with what is shared: the same memory, where these packages are installed."""

from __future__ import annotations

from typing import Any

import pytest

import atoll


def arrow_addresses(shared: Any) -> tuple[list[Any], list[int]]:
    """The rows of what is shared, as pyarrow reads them, and where the last buffer of each chunk is."""
    import pyarrow

    table = pyarrow.table(shared)
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    return table.to_pylist(), [chunk.buffers()[-1].address for chunk in chunks]


def polars_rows(shared: Any) -> list[Any]:
    """The rows of what is shared, as polars reads them."""
    import polars

    return list(polars.DataFrame(shared).rows())


def torch_adds(shared: Any, more: int) -> tuple[list[Any], int]:
    """What torch sees of a tensor after it has added something to it, and where it is."""
    import torch

    tensor = torch.from_dlpack(shared)
    tensor += more
    return tensor.tolist(), tensor.data_ptr()


class TestLibraries:
    """Real producers and consumers."""

    def test_pyarrow(self, interp: atoll.Interpreter) -> None:
        """Arrays, batches, tables; buffers of shared memory."""
        pyarrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        table = pyarrow.table({"a": [1, 2, None], "b": ["x", "yy", "x"]})
        table = table.append_column("c", table["b"].combine_chunks().dictionary_encode())
        for obj in (table, table.to_batches()[0]):
            assert interp.call(arrow_addresses, atoll.share(obj)) == arrow_addresses(obj)
        assert (
            pyarrow.array(interp.call(lambda x: x, atoll.share(table["b"].combine_chunks()))).to_pylist()[1]
            == "yy"
        )
        shared = atoll.SharedBuffer(16)
        buffer = pyarrow.py_buffer(shared)
        shared[3] = 5
        assert buffer.to_pybytes()[3] == 5

    def test_polars(self, interp: atoll.Interpreter) -> None:
        """Data frames and series, and what pyarrow makes of them."""
        polars: Any = pytest.importorskip("polars", reason="polars is not installed")
        frame = polars.DataFrame({"a": [1, 2, 3], "b": ["x", "a long text that is not short", None]})
        assert interp.call(polars_rows, atoll.share(frame)) == frame.rows()

    def test_duckdb(self, interp: atoll.Interpreter) -> None:
        """Relations: their result is computed once, by who shares it."""
        duckdb: Any = pytest.importorskip("duckdb", reason="duckdb is not installed")
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        shared = atoll.share(duckdb.sql("select i, i * 2 as j from range(5000) t(i)"))
        for _ in range(2):
            rows, _ = interp.call(arrow_addresses, shared)
            assert (len(rows), rows[-1]) == (5000, {"i": 4999, "j": 9998})

    def test_torch(self, interp: atoll.Interpreter) -> None:
        """Tensors of torch, and torch's tensors of shared arrays."""
        torch: Any = pytest.importorskip("torch", reason="torch is not installed")
        tensor = torch.arange(6).reshape(2, 3).T
        values, address = interp.call(torch_adds, atoll.share(tensor), 10)
        assert (values, address) == (tensor.tolist(), tensor.data_ptr())
        array = atoll.SharedArray((2, 2), "f4")
        interp.call(torch_adds, array, 1)
        assert array.tolist() == [[1, 1], [1, 1]]
