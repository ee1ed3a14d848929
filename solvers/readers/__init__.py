"""Programs from files that others wrote: QPS, the layouts of qpbenchmark and of Maros and Mészáros, and our own.

>>> from crosswind.solvers.readers import read_program  # doctest: +SKIP
>>> program = read_program("HS21.QPS")  # doctest: +SKIP
"""

from __future__ import annotations

from crosswind.solvers.readers.dispatch import read_program
from crosswind.solvers.readers.mat import read_mat
from crosswind.solvers.readers.qpbenchmark import read_qpbenchmark
from crosswind.solvers.readers.qps import read_qps

__all__ = ["read_mat", "read_program", "read_qpbenchmark", "read_qps"]
