"""The core written out for a C or C++ program: its source, a model as data, an example loop and what it must print."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crosswind.solvers import native
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc.instances import MpcWorld
from crosswind.solvers.mpc.model import Array, MpcModel
from crosswind.solvers.mpc.solver import MpcSolver

__all__ = ["FILES", "export_c"]

FILES = ("mpc.c", "mpc.h", "problem.h", "main.c", "expected.txt", "Makefile", "CMakeLists.txt")
"""What :func:`export_c` writes."""

_KEPT = ("linear", "carry", "spread", "cap", "rate", "gap_cap", "price", "curve")

_MAIN = """/* A closed loop with the exported model: decide, trade, move on. `make check` compares with expected.txt. */
#include "mpc.h"
#include "problem.h"

#include <stdio.h>
#include <stdlib.h>

#define AT_LEAST_1(n) ((n) > 0 ? (n) : 1)

int main(void) {
    const cw_mpc_dims dims = {M_INSTRUMENTS, M_EXPOSURES, M_MODES, M_HORIZON};
    const cw_mpc_model model = {MODEL_UNIT, MODEL_E,     MODEL_LAMBDA, MODEL_L,
                                MODEL_RHO,  MODEL_SIGMA, MODEL_GAMMA,  MODEL_ETA};
    /* The only allocation; a static buffer of that many bytes, aligned for double, does as well. */
    void *memory = malloc(cw_mpc_bytes(&dims));
    cw_mpc *mpc = memory == NULL ? NULL : cw_mpc_init(memory, &dims, &model);
    if (mpc == NULL) return 1;
    double gap[M_EXPOSURES] = {0}, state[AT_LEAST_1(M_MODES) * M_INSTRUMENTS] = {0}, last[M_INSTRUMENTS] = {0};
    static double trades[M_HORIZON * M_INSTRUMENTS];
    cw_mpc_data data = {gap,         state,    last,      DATA_PLAN,    DATA_LINEAR, DATA_CARRY,
                        DATA_SPREAD, DATA_CAP, DATA_RATE, DATA_GAP_CAP, DATA_PRICE,  DATA_CURVE};
    for (int step = 0; step < M_STEPS; step++) {
        data.plan = DATA_PLAN + step * M_EXPOSURES;
        const cw_mpc_result found = cw_mpc_step(mpc, &data, 1, 1e-8, 40, trades);
        printf("%d %d %d %d %.17g %.17g", step, found.status, found.relaxed, found.factorisations, found.objective,
               found.gap);
        for (int i = 0; i < M_INSTRUMENTS; i++) {
            last[i] = trades[i];
            printf(" %.17g", last[i]);
        }
        printf("\\n");
        for (int e = 0; e < M_EXPOSURES; e++) {
            gap[e] += data.plan[e];
            for (int i = 0; i < M_INSTRUMENTS; i++) gap[e] -= MODEL_E[e * M_INSTRUMENTS + i] * last[i];
        }
        for (int row = 0; row < M_MODES * M_INSTRUMENTS; row++) {
            const int mode = row / M_INSTRUMENTS, b = row % M_INSTRUMENTS;
            for (int i = 0; i < M_INSTRUMENTS; i++)
                state[row] += MODEL_L[(mode * M_INSTRUMENTS + i) * M_INSTRUMENTS + b] * last[i];
            state[row] *= MODEL_RHO[mode];
        }
    }
    free(memory);
    return 0;
}
"""

_MAKE = """# Bits are the same as from Python as long as multiplications and additions are not fused: -ffp-contract=off.
CC ?= cc
CFLAGS ?= -std=c11 -O2 -Wall -Wextra -Werror
all: example
example: main.c mpc.c mpc.h problem.h
\t$(CC) $(CFLAGS) -ffp-contract=off main.c mpc.c -lm -o $@
check: example
\t./example | diff - expected.txt
clean:
\trm -f example
.PHONY: all check clean
"""

_CMAKE = """cmake_minimum_required(VERSION 3.10)
project(crosswind_mpc C)
set(CMAKE_C_STANDARD 11)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
add_library(crosswind_mpc STATIC mpc.c)
target_include_directories(crosswind_mpc PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
add_executable(example main.c)
target_link_libraries(example PRIVATE crosswind_mpc)
if(NOT MSVC)
  # Bits are the same as from Python as long as multiplications and additions are not fused.
  target_compile_options(crosswind_mpc PRIVATE -Wall -Wextra -ffp-contract=off)
  target_compile_options(example PRIVATE -Wall -Wextra -ffp-contract=off)
  target_link_libraries(crosswind_mpc PUBLIC m)
endif()
enable_testing()
add_test(NAME same_bits COMMAND sh -c "./example | diff - ${CMAKE_CURRENT_SOURCE_DIR}/expected.txt")
"""


def _number(value: float) -> str:
    """Return a C constant of the same bits."""
    if np.isinf(value):
        return "INFINITY"
    return repr(float(value))


def _table(name: str, array: Array) -> str:
    flat = np.asarray(array, dtype=np.float64).ravel()
    # C has no empty arrays: a model without modes gets one number that nothing reads.
    numbers = [_number(v) for v in flat] or ["0.0"]
    lines = [", ".join(numbers[at : at + 8]) for at in range(0, len(numbers), 8)]
    return f"static const double {name}[] = {{\n    " + ",\n    ".join(lines) + "};\n"


def _problem(model: MpcModel, data: dict[str, Array], steps: int) -> str:
    m, k, M, H = model.sizes
    a = model.arrays()
    sizes = {"INSTRUMENTS": m, "EXPOSURES": k, "MODES": M, "HORIZON": H, "STEPS": steps}
    parts = ["/* Written by crosswind export-c: a model and the data of an example loop, row-major by slices. */\n"]
    parts += ["#ifndef CROSSWIND_PROBLEM_H\n#define CROSSWIND_PROBLEM_H\n\n#include <math.h>\n\n"]
    parts += [f"#define M_{name} {value}\n" for name, value in sizes.items()]
    parts += [f"#define MODEL_UNIT {_number(model.unit)}\n\n"]
    names = {
        "E": "exposure", "LAMBDA": "temporary", "L": "impact_loadings", "RHO": "decays", "SIGMA": "covariance",
        "GAMMA": "risk_weight", "ETA": "terminal_weight",
    }  # fmt: skip
    parts += [_table(f"MODEL_{short}", a[name]) for short, name in names.items()]
    parts += [_table(f"DATA_{name.upper()}", array) for name, array in data.items()]
    return "".join(parts) + "\n#endif\n"


def _loop(model: MpcModel, data: dict[str, Array], steps: int) -> str:
    """Return what main.c prints, by the same operations in the same order."""
    solver = MpcSolver(model, "C")
    m, k, M, H = model.sizes
    E, L, rho = (np.asarray(a).tolist() for a in (model.exposure, model.impact_loadings, model.decays))
    gap, state, last = [0.0] * k, [[0.0] * m for _ in range(M)], [0.0] * m
    kept = {name: data[name] for name in _KEPT}
    codes = {"OPTIMAL": 0, "FEASIBLE": 1, "INVALID": 3}
    lines = []
    for step in range(steps):
        plan = data["plan"][step : step + H]
        at = np.array(state).reshape(M, m)
        found = solver.step(np.array(gap), plan, state=at, last=np.array(last), **kept)  # type: ignore[arg-type]
        last = found.trades[0].tolist()
        head = [step, codes[found.status.name], int(found.relaxed), found.work]
        lines.append(" ".join(map(str, head)) + "".join(f" {v:.17g}" for v in (found.objective, found.gap, *last)))
        for e in range(k):
            gap[e] += float(plan[0, e])
            for i in range(m):
                gap[e] -= E[e][i] * last[i]
        for j in range(M):
            for b in range(m):
                for i in range(m):
                    state[j][b] += L[j][i][b] * last[i]
                state[j][b] *= rho[j]
    return "\n".join(lines) + "\n"


def _example(model: MpcModel, steps: int, seed: int) -> dict[str, Array]:
    """Return limits and costs of a seeded world, and a plan as long as the loop looks ahead."""
    world = MpcWorld(model, steps, seed)
    first = world.data()
    rng = np.random.default_rng([seed, 1])
    plan = 0.2 * rng.standard_normal((steps + model.horizon, model.exposures))
    plan[rng.random(len(plan)) < 0.1] *= 8.0
    return {"plan": plan * model.unit} | {name: first[name] for name in _KEPT}


def export_c(
    directory: str | Path,
    model: MpcModel,
    data: dict[str, Array] | None = None,
    steps: int = 50,
    seed: int = 0,
) -> tuple[Path, ...]:
    """Write the core with ``model`` as data into ``directory`` and return the files.

    Parameters
    ----------
    directory
        A folder; it is made where it is missing, and files of these names in it are replaced.
    model
        What is compiled in.
    data
        ``plan`` (steps + H, k) and the others of :meth:`MpcSolver.step` but gap, state and last, of their full shapes;
        by default seeded ones, meant for models in units of a usual trade.
    steps
        How many the example loop does, at least 1.
    seed
        Of the example's data.

    Raises
    ------
    InvalidInput
        On steps below 1, a wrong model, or data that lack an array or have a wrong shape.
    MissingDependency
        Without the compiled core: what the program must print comes from it.
    """
    if not isinstance(steps, int) or steps < 1:
        raise InvalidInput("must be a whole number from 1", field="steps", value=steps, remedy="give 50")
    m, k, _, H = model.sizes
    if data is None:
        data = _example(model, steps, seed)
    shapes = dict.fromkeys(("linear", "spread", "cap"), (H, m)) | {"plan": (steps + H, k), "rate": (m,)}
    shapes |= dict.fromkeys(("carry", "gap_cap", "price", "curve"), (H, k))
    for name, shape in shapes.items():
        if name not in data or np.shape(data[name]) != shape:
            value = np.shape(data[name]) if name in data else None
            raise InvalidInput(f"must have the shape {shape}", field=name, value=value, remedy="give all in full")
    whole = {name: np.ascontiguousarray(data[name], dtype=np.float64) for name in ("plan", *_KEPT)}
    source = Path(native.__file__).parent
    texts = {name: (source / name).read_text(encoding="utf-8") for name in ("mpc.c", "mpc.h")}
    texts |= {"expected.txt": _loop(model, whole, steps), "problem.h": _problem(model, whole, steps)}
    texts |= {"main.c": _MAIN, "Makefile": _MAKE, "CMakeLists.txt": _CMAKE}
    home = Path(directory)
    home.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (home / name).write_text(texts[name], encoding="utf-8")
    return tuple(home / name for name in FILES)
