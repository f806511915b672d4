"""Checks whether code can run as a script, for ``Interpreter.exec()``."""

import dis
from functools import lru_cache
from types import CodeType


@lru_cache(maxsize=256)
def returns_value(code: CodeType) -> bool:
    """Return whether *code* can return anything but None: such code is a function, not a script."""
    loads_none = False
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_CONST":
            if instruction.argval is not None:
                return True
        elif instruction.opname == "RETURN_VALUE" and (not loads_none or instruction.is_jump_target):
            return True
        loads_none = (
            instruction.opname in ("LOAD_CONST", "LOAD_COMMON_CONSTANT") and instruction.argval is None
        )
    return False
