"""A pipeline with bounded queues and back-pressure: reader -> 2 workers -> writer, sentinel by shutdown."""

import hashlib
import json
import threading
import time

import atoll


def reader(out, n):
    for i in range(n):
        out.put({"id": i, "text": "x" * (i % 100)})
    out.shutdown()


def worker(name, inp, out):
    count = 0
    for item in inp:
        item["sha"] = hashlib.sha256(item["text"].encode()).hexdigest()[:8]
        item["by"] = name
        out.put(item)
        count += 1
    return count


def writer(inp, done):
    seen: dict[str, list[int]] = {}
    for item in inp:
        seen.setdefault(item["by"], []).append(item["id"])
    done.put({k: len(v) for k, v in seen.items()})


raw, cooked, done = atoll.create_queue(8), atoll.create_queue(8), atoll.create_queue()
with atoll.create() as r, atoll.create() as w1, atoll.create() as w2, atoll.create() as w:
    fs = [w1.submit(worker, "one", raw, cooked), w2.submit(worker, "two", raw, cooked)]
    tw = w.call_in_thread(writer, cooked, done)
    tr = r.call_in_thread(reader, raw, 5000)
    print([f.result(30) for f in fs])
    cooked.shutdown()
    print(done.get(timeout=10))
    for t in (tr, tw):
        t.join()
    try:
        raw.put(1)
    except atoll.QueueShutDown as error:
        print("ShutDown:", repr(error), str(error))
    try:
        atoll.create_queue().get(timeout=0.01)
    except atoll.QueueEmpty as error:
        print("Empty:", repr(error))
    q = atoll.create_queue(1)
    q.put(1)
    try:
        q.put(2, timeout=0.01)
    except atoll.QueueFull as error:
        print("Full:", repr(error))
    try:
        q.put(2, False, 3)
    except Exception as error:
        print(repr(error))
    try:
        q.get(timeout=-1)
    except Exception as error:
        print(repr(error))
    print(q, repr(r), w1)
