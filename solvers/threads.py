"""One BLAS thread inside a block: small factorisations lose more to a second thread than they gain, and other bits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

__all__ = ["one_blas_thread"]


@cache
def _blas() -> Any:
    """Return the controller of the BLAS in this process; finding the libraries takes milliseconds, once."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS and LAPACK run on one thread; what held before holds again after it.

    At a few hundred rows a second thread costs more than it brings: contended, a factorisation took twenty times as
    long, and its spinning starves the caller. The bits of the result depend on the number of threads, too.
    """
    limit: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return limit
