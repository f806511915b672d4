"""Where the C API's header is."""


def get_include() -> str:
    """Return the directory with atoll.h and atoll.pxd, for compilers of extensions and of programs that embed Python.

    docs/c-api.md describes what they declare.
    """
    return __file__.rpartition("/")[0] + "/include"
