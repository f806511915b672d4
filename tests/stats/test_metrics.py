"""Statistics in the OpenMetrics format: well-formed, complete, and the same through prometheus_client's registry."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import atoll
from helpers import new


def parse(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families, family, suffix="", **labels):
    found = [
        sample.value
        for sample in families[family].samples
        if sample.name == family + suffix and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (family, suffix, labels)
    return found[0]


class TestText:
    def test_each_metric_is_described_once(self):
        text = atoll.metrics()
        lines = text.splitlines()
        assert lines[-1] == "# EOF"
        types = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
        helps = [line.split()[2] for line in lines if line.startswith("# HELP ")]
        assert types == helps
        assert len(set(types)) == len(types)
        assert set(parse(text)) == set(types)
        for line in lines:
            if line.startswith("# UNIT "):
                _, _, name, unit = line.split()
                assert name.endswith(f"_{unit}")

    def test_values(self):
        queue = atoll.create_queue(3)
        queue.put_many([1, 2])
        queue.get()
        with new() as interp:
            interp.call(abs, -1)
            families = parse(atoll.metrics())
            stats = interp.stats()
            number = str(interp.id)
            assert value(families, "atoll_interpreter_calls", "_total", interpreter=number) == stats["calls"]
            assert value(families, "atoll_interpreter_modules", interpreter=number) == stats["modules"]
            assert (
                value(families, "atoll_interpreter_allocated_bytes", interpreter=number) == stats["allocated"]
            )
            state = {"interpreter": number, "atoll_interpreter_state": "idle"}
            assert value(families, "atoll_interpreter_state", **state) == 1
        assert value(families, "atoll_queue_items", queue=str(queue.id)) == 1
        assert value(families, "atoll_queue_put", "_total", queue=str(queue.id)) == 2

    def test_sums_do_not_fall_when_an_interpreter_is_closed(self):
        with new() as interp:
            interp.call(abs, -1)
            before = value(parse(atoll.metrics()), "atoll_calls", "_total")
        assert value(parse(atoll.metrics()), "atoll_calls", "_total") == before

    def test_pools_and_their_histograms(self):
        with atoll.InterpreterPoolExecutor(1, thread_name_prefix='with "quotes" \\ and\nlines') as pool:
            for _ in range(5):
                pool.submit(abs, -1).result()
            families = parse(atoll.metrics())
        name = {"name": 'with "quotes" \\ and\nlines'}
        assert value(families, "atoll_pool_done", "_total", **name) == 5
        for histogram, count in (("atoll_pool_task_wait_seconds", 1), ("atoll_pool_task_run_seconds", 5)):
            assert value(families, histogram, "_count", **name) == count
            assert value(families, histogram, "_bucket", le="+Inf", **name) == count
            assert value(families, histogram, "_sum", **name) > 0


class TestRegistry:
    def test_it_has_the_same_metrics(self):
        registry = CollectorRegistry()
        atoll.metrics(registry=registry)
        with new() as interp:
            interp.call(abs, -1)
            families = parse(generate_latest(registry).decode())
            assert set(families) == set(parse(atoll.metrics()))
            calls = value(families, "atoll_interpreter_calls", "_total", interpreter=str(interp.id))
            assert calls == interp.stats()["calls"]

    def test_only_once(self):
        registry = CollectorRegistry()
        atoll.metrics(registry=registry)
        with pytest.raises(ValueError, match="Duplicated"):
            atoll.metrics(registry=registry)

    def test_not_of_another_process(self):
        with pytest.raises(TypeError, match="give it no pid"):
            atoll.metrics(1, registry=CollectorRegistry())
