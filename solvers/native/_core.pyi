import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]
Sparse = tuple[Index, Index, Vector]

class Check:
    def __new__(
        cls,
        P: Sparse,
        A: Sparse,
        row_size: Sparse,
        half_bend: Vector,
        q: Vector,
        l: Vector,
        u: Vector,
        lb: Vector,
        ub: Vector,
        tol: float,
    ) -> Check: ...
    def take(
        self,
        q: Vector | None,
        l: Vector | None,
        u: Vector | None,
        lb: Vector | None,
        ub: Vector | None,
        /,
    ) -> bool: ...
    def passes(self, x: Vector, w: Vector, /) -> bool: ...

def gather(source: Vector, index: Index | None, factor: float, out: Vector, /) -> None: ...
def scatter(plus: Vector, minus: Vector | None, start: int, index: Index, factor: float, out: Vector, /) -> None: ...
