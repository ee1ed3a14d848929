"""What is written out compiles without a warning and decides as Python does, to the last bit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from crosswind.cli import main
from crosswind.solvers import native
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc import export_c, mpc_instance
from crosswind.solvers.mpc.export import FILES

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(not native.COMPILED, reason="the package was built without a compiler")


@pytest.mark.parametrize("sizes", [(1, 1, 1, 20), (1, 1, 0, 5), (2, 1, 2, 12), (3, 3, 1, 10)], ids=str)
def test_the_exported_loop_prints_the_same_bits(sizes, tmp_path):
    files = export_c(tmp_path, mpc_instance(*sizes, seed=2), steps=60, seed=3)
    assert [path.name for path in files] == list(FILES)
    expected = (tmp_path / "expected.txt").read_text()
    assert len(expected.splitlines()) == 60
    assert all(line.split()[1] == "0" for line in expected.splitlines())
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off"]
    for level in ("-O2", "-O3"):
        words = ["cc", *strict, level, "main.c", "mpc.c", "-lm", "-o", "example"]
        subprocess.run(words, cwd=tmp_path, check=True)
        done = subprocess.run([tmp_path / "example"], capture_output=True, text=True, check=True)
        assert done.stdout == expected


@pytest.mark.parametrize("tool", ["make", "cmake"])
def test_the_build_files_build_and_compare(tool, tmp_path):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not here")
    export_c(tmp_path, mpc_instance(seed=4), steps=20)
    steps = {
        "make": [["make", "check"]],
        "cmake": [
            ["cmake", "-B", "build", "."],
            ["cmake", "--build", "build"],
            ["cmake", "--build", "build", "-t", "test"],
        ],
    }[tool]
    for words in steps:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    # A bit that is off is told.
    text = (tmp_path / "expected.txt").read_text()
    (tmp_path / "expected.txt").write_text(text.replace("0 0 0", "0 0 1", 1))
    assert subprocess.run(steps[-1], cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_the_verb_writes_the_folder_whole(tmp_path, capsys):
    model = mpc_instance(2, 2, 1, 6, seed=1)
    path = model.save(tmp_path / "model.json")
    assert main(["export-c", str(tmp_path / "core"), "--model", str(path), "--steps", "5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"] == {"instruments": 2, "exposures": 2, "modes": 1, "horizon": 6}
    assert sorted(answer["files"]) == sorted(p.name for p in (tmp_path / "core").iterdir())
    assert main(["export-c", str(tmp_path / "core"), "--horizon", "4"]) == 0  # an earlier export is replaced
    assert "make -C" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for words in (["mine"], ["new", "--model", "none.json"], ["new", "--steps", "0"], ["new", "--instruments", "0"]):
        assert main(["export-c", str(tmp_path / words[0]), *words[1:]]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_data_of_ones_own_are_checked(tmp_path):
    model = mpc_instance(1, 1, 0, 4)
    data = {n: np.zeros((4, 1)) for n in ("linear", "carry", "spread", "cap", "gap_cap", "price", "curve")}
    data |= {"rate": np.full(1, np.inf), "plan": np.ones((7, 1)), "cap": np.full((4, 1), 0.3)}
    export_c(tmp_path / "a", model, data, steps=3)
    assert "INFINITY" in (tmp_path / "a" / "problem.h").read_text()
    for name, value in (("plan", np.ones((6, 1))), ("rate", np.ones((4, 1)))):
        with pytest.raises(InvalidInput, match=name):
            export_c(tmp_path / "b", model, data | {name: value}, steps=3)
    with pytest.raises(InvalidInput, match="curve"):
        export_c(tmp_path / "b", model, {n: v for n, v in data.items() if n != "curve"}, steps=3)
    assert not (tmp_path / "b").exists()


def test_the_cpp_example_builds_and_trades(tmp_path):
    program = tmp_path / "embed"
    core = Path(native.__file__).parent
    subprocess.run(
        ["cc", "-std=c11", "-O2", "-ffp-contract=off", "-c", core / "mpc.c", "-o", tmp_path / "mpc.o"], check=True
    )
    words = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{core}", ROOT / "examples" / "embed_mpc.cpp"]
    subprocess.run([*words, tmp_path / "mpc.o", "-lm", "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert "optimal" in done.stdout
    assert len((ROOT / "examples" / "embed_mpc.cpp").read_text().splitlines()) < 60
