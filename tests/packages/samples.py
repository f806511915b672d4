"""Cases for the tests of the tool itself: one for each way in which a child can end."""

import os
import tempfile
import time

from cases import CASES, same, standard


@standard("sample: works", "json")
def works():
    import json

    same(json.loads("[1]"), [1])


@standard("sample: does not import", "no_such_module")
def does_not_import():
    pass


@standard("sample: is wrong")
def is_wrong():
    same(1 + 1, 3)


@standard("sample: dies")
def dies():
    os.abort()


@standard("sample: hangs", seconds=6)
def hangs():
    time.sleep(600)


@standard("sample: leaves a file")
def leaves_a_file():
    with tempfile.NamedTemporaryFile(delete=False):
        pass


# None of them is one of the cases that are checked.
SAMPLES = {
    name.removeprefix("sample: "): CASES.pop(name) for name in list(CASES) if name.startswith("sample: ")
}
if os.environ.get("ATOLL_CHECK_SAMPLES"):
    CASES.update((case.name, case) for case in SAMPLES.values())
