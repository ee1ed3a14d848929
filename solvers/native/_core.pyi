import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]
Array = npt.NDArray[np.float64]
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

class Mpc:
    def __new__(
        cls,
        sizes: tuple[int, int, int, int],
        unit: float,
        E: Array,
        Lambda: Array,
        L: Array,
        rho: Array,
        sigma: Array,
        gamma: Array,
        eta: Array,
    ) -> Mpc: ...
    def step(
        self,
        gap: Array,
        state: Array,
        last: Array,
        plan: Array,
        linear: Array,
        carry: Array,
        spread: Array,
        cap: Array,
        rate: Array,
        gap_cap: Array,
        price: Array,
        curve: Array,
        trades: Array,
        shift: int,
        tol: float,
        work: int,
        /,
    ) -> tuple[int, int, int, int, float, float]: ...
    def prices(self, trade: Array, gap: Array, rate: Array, /) -> None: ...
    def reset(self) -> None: ...
    def save(self) -> bytes: ...
    def restore(self, saved: bytes, /) -> bool: ...

def gather(source: Vector, index: Index | None, factor: float, out: Vector, /) -> None: ...
def scatter(plus: Vector, minus: Vector | None, start: int, index: Index, factor: float, out: Vector, /) -> None: ...
