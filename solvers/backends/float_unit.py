"""Keep the processor's floating-point control as it was around a library that changes it."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

__all__ = ["kept_float_unit"]

_ROOM = 256  # bytes, more than any platform's fenv_t


@contextmanager
def kept_float_unit() -> Iterator[None]:
    """Restore rounding, precision and traps of this thread after the block; nothing where C's ``fegetenv`` is not.

    A library that sets the x87 unit to double precision for itself leaves every later ``longdouble`` of the process
    with 53 bits, and makes other solvers take other steps than before.
    """
    library = _library()
    if library is None:
        yield
        return
    kept = ctypes.create_string_buffer(_ROOM)
    library.fegetenv(kept)
    try:
        yield
    finally:
        library.fesetenv(kept)


@lru_cache(maxsize=1)
def _library() -> Any:
    name = ctypes.util.find_library("m")
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return None
    return library if hasattr(library, "fegetenv") and hasattr(library, "fesetenv") else None
