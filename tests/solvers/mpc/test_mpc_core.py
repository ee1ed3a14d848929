"""The C source by itself: clean under strict warnings, sound under sanitizers while random bits go through it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from crosswind.solvers import native

NATIVE = Path(native.__file__).parent
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
WATCH = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# One minute where CI is set, an hour by CROSSWIND_FUZZ_SECONDS=3600.
SECONDS = os.environ.get("CROSSWIND_FUZZ_SECONDS", "60" if os.environ.get("CI") else "4")


def compile_with(compiler: str, *words: object) -> None:
    done = subprocess.run([compiler, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_the_source_compiles_without_a_warning(level, tmp_path):
    more = ["-Wconversion", "-Wno-sign-conversion", "-Wshadow", "-Wcast-qual", "-Wmissing-prototypes"]
    compile_with("cc", "-std=c11", level, *STRICT, *more, "-c", NATIVE / "mpc.c", "-o", tmp_path / "mpc.o")


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_the_header_serves_cpp(standard, tmp_path):
    use = tmp_path / "use.cpp"
    use.write_text('#include "mpc.h"\nint main() { cw_mpc_dims d{1, 1, 0, 1}; return cw_mpc_bytes(&d) == 0; }\n')
    compile_with("cc", "-std=c11", "-c", NATIVE / "mpc.c", "-o", tmp_path / "mpc.o")
    flags = [f"-std={standard}", *STRICT, f"-I{NATIVE}"]
    compile_with("c++", *flags, use, tmp_path / "mpc.o", "-lm", "-o", tmp_path / "use")
    assert subprocess.run([tmp_path / "use"], check=False).returncode == 0


def test_random_bits_do_no_harm(tmp_path):
    """Addresses, undefined behaviour, limits to the last bit, work within its bound: see fuzz.c."""
    driver, program = Path(__file__).with_name("fuzz.c"), tmp_path / "fuzz"
    sources = [f"-I{NATIVE}", driver, NATIVE / "mpc.c", "-lm", "-o", program]
    compile_with("cc", "-std=c11", *STRICT, *WATCH, "-ffp-contract=off", *sources)
    done = subprocess.run([program, SECONDS, str(os.getpid())], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (os.getpid(), done.stderr)
    words = done.stdout.replace(",", "").replace(";", "").split()
    models, steps, refused, optimal = int(words[0]), int(words[4]), int(words[6]), int(words[8])
    assert models > 20
    assert 0 < refused < 0.3 * steps
    assert optimal > 0.6 * steps


SIZES = r"""
#include "mpc.h"
#include <math.h>
#include <stdlib.h>
static int refused(int m, int k, int M, int H) {
    cw_mpc_dims d = {m, k, M, H};
    return cw_mpc_bytes(&d) == 0;
}
static int barred(double unit, double E, double lambda, double L, double rho, double sigma, double gamma, double eta) {
    cw_mpc_dims d = {1, 1, 1, 1};
    void *memory = malloc(cw_mpc_bytes(&d));
    cw_mpc_model model = {unit, &E, &lambda, &L, &rho, &sigma, &gamma, &eta};
    int out = cw_mpc_init(memory, &d, &model) == NULL;
    free(memory);
    return out;
}
int main(void) {
    if (!refused(0, 1, 0, 1) || !refused(1, 0, 0, 1) || !refused(1, 1, -1, 1) || !refused(1, 1, 0, 0)) return 1;
    if (!refused(1000, 1000, 100, 100000) || !refused(1 << 30, 1, 0, 1) || refused(1000, 1, 0, 10)) return 2;
    cw_mpc_dims d = {1, 1, 1, 1};
    if (cw_mpc_init(NULL, &d, NULL) != NULL) return 3;
    if (barred(1, 1, 0.1, 0.5, 0.9, 1, 0.1, 1)) return 4;
    const double bad[] = {NAN, INFINITY, -INFINITY, -1.0};
    for (int i = 0; i < 4; i++) {
        const double b = bad[i];
        if (!barred(b, 1, 0.1, 0.5, 0.9, 1, 0.1, 1) || !barred(1, 1, 0.1, 0.5, b, 1, 0.1, 1) ||
            !barred(1, 1, 0.1, 0.5, 0.9, 1, b, 1) || !barred(1, 1, 0.1, 0.5, 0.9, 1, 0.1, b)) return 5;
        if (i < 3 && (!barred(1, b, 0.1, 0.5, 0.9, 1, 0.1, 1) || !barred(1, 1, b, 0.5, 0.9, 1, 0.1, 1) ||
                      !barred(1, 1, 0.1, b, 0.9, 1, 0.1, 1) || !barred(1, 1, 0.1, 0.5, 0.9, b, 0.1, 1))) return 6;
    }
    if (!barred(1, 1, -1.0, 0.5, 0.9, 1, 0.1, 1)) return 7; /* not convex */
    if (!barred(1, 1, 0.1, 0.5, 1.5, 1, 0.1, 1) || !barred(1, 1, 0.1, 0.5, 0.0, 1, 0.1, 1)) return 8;
    return 0;
}
"""


def test_sizes_and_models_that_make_no_sense_are_refused(tmp_path):
    (tmp_path / "sizes.c").write_text(SIZES)
    program = tmp_path / "sizes"
    compile_with(
        "cc", "-std=c11", *STRICT, *WATCH, f"-I{NATIVE}", tmp_path / "sizes.c", NATIVE / "mpc.c", "-lm", "-o", program
    )
    assert subprocess.run([program], check=False).returncode == 0


def test_a_step_calls_no_allocator(tmp_path):
    """Nothing but the square root, copies and the next number come from outside."""
    compile_with("cc", "-std=c11", "-O2", "-c", NATIVE / "mpc.c", "-o", tmp_path / "mpc.o")
    listed = subprocess.run(["nm", "-u", tmp_path / "mpc.o"], capture_output=True, text=True, check=True).stdout
    outside = {line.split()[-1] for line in listed.splitlines() if line.strip()} - {"_GLOBAL_OFFSET_TABLE_"}
    allowed = {"sqrt", "memcpy", "memmove", "memset", "nextafter", "frexp", "ldexp", "__stack_chk_fail"}
    allowed |= {"__cpu_model", "__cpu_indicator_init"}  # which processor it is, asked once by the loader
    assert outside <= allowed
