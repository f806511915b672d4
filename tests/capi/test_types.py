"""Types of C that say, in C, how their instances cross."""

from __future__ import annotations

import pytest

import atoll

pytest_plugins = ["capi_fixtures"]


def test_crosses(capi, there):
    point = capi.Point(1, 2)
    assert there.call(repr, point) == "Point(1, 2)"
    home = there.call(lambda point: point, point)
    assert (type(home), repr(home)) == (capi.Point, "Point(1, 2)")


def test_its_module_is_imported_where_it_arrives(capi, capi_folder):
    with atoll.create() as interp:
        interp.exec(f"import sys; sys.path.insert(0, {str(capi_folder)!r})")
        queue = atoll.create_queue()
        queue.put([capi.Point(1, 2)] * 2)

        def get(queue):
            one, other = queue.get()
            queue.put(one)
            return repr(one), one is other

        assert interp.call(get, queue) == ("Point(1, 2)", True)
        assert repr(queue.get()) == "Point(1, 2)"


def test_encode_refuses(capi, there):
    why = r"args\[0\]: .* encode\(\) that its class is registered with has failed"
    with pytest.raises(atoll.NotShareableError, match=why) as info:
        there.call(repr, capi.Point(-1, 2))
    assert "points with a negative x stay at home" in repr(info.value.__cause__)


def test_another_thing_of_its_name_there(capi, there):
    there.exec("capi.Point = type('Point', (), {})")
    with pytest.raises(atoll.ExecutionFailed, match="is not registered in this interpreter"):
        there.call(repr, capi.Point(1, 2))


def test_not_registered_there(capi, there):
    there.exec("import atoll; atoll.unregister_shareable(capi.Point)")
    with pytest.raises(atoll.ExecutionFailed, match="is not registered in this interpreter"):
        there.call(repr, capi.Point(1, 2))


def test_refused(capi):
    with pytest.raises(TypeError, match="crosses as it is"):
        capi.register(int)
    with pytest.raises(TypeError, match="type must be a class, not 3"):
        capi.register(3)


def test_taken_back(capi, there):
    atoll.unregister_shareable(capi.Point)
    try:
        with pytest.raises(atoll.NotShareableError):
            there.call(repr, capi.Point(1, 2))
    finally:
        capi.register(capi.Point)
