"""The architecture's rules, as tests: each reads the tree itself, so a new file is held to them at once."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "crosswind": ROOT / "src" / "crosswind",
    "crosswind.solvers": ROOT / "solvers",
    "crosswind.optim": ROOT / "optim",
    "crosswind.problems": ROOT / "problems",
}
HEAVY = {
    *("cvxpy", "jax", "jaxlib", "osqp", "piqp", "clarabel", "plotly", "pyarrow", "rich", "dask", "duckdb"),
    *("lightgbm", "sklearn", "highspy", "scs", "exchange_calendars", "databento_dbn"),
    *("proxsuite", "daqp", "qpalm", "qoco", "quadprog", "ecos", "qpax", "distributed", "gurobipy", "coptpy"),
    *("xpress", "cplex", "mosek", "moreau"),
}
# A layer may import itself and what stands below it.
LAYERS = ["crosswind.solvers", "crosswind.optim", "crosswind.problems", "crosswind"]
# Inside problems/: what each room may import of the others.
ROOMS = {
    "market": set(),
    "replay": set(),
    "impact": {"market"},
    "basket": {"market", "impact"},
    "hedge": {"market", "impact", "replay"},
    "roll": {"market", "replay"},
    "workflow": {"market", "impact", "basket", "hedge", "replay"},
}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield (dotted name, path) of every source module."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            yield ".".join((package, *parts)), path


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield every module that the tree imports, wherever it does so, but for type checking only."""
    skipped = {id(n) for node in ast.walk(tree) if _type_checking(node) for n in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def layer_of(module: str) -> str:
    return next(layer for layer in LAYERS if module == layer or module.startswith(layer + "."))


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "problems" and parts[2] in ROOMS else None


ALL = list(modules())
IDS = [name for name, _ in ALL]


def test_the_walk_finds_every_layer():
    assert {layer_of(name) for name in IDS} == set(LAYERS)
    assert {room_of(name) for name in IDS} - {None} == set(ROOMS)


@pytest.mark.parametrize(("name", "path"), ALL, ids=IDS)
def test_imports_point_down(name: str, path: Path):
    mine = LAYERS.index(layer_of(name))
    room = room_of(name)
    for target, line in imported(tree_of(path)):
        if target.split(".")[0] != "crosswind":
            continue
        assert LAYERS.index(layer_of(target)) <= mine, f"{path.name}:{line} imports upward: {target}"
        other = room_of(target)
        if mine == LAYERS.index("crosswind.problems") and room and other and other != room:
            assert other in ROOMS[room], f"{path.name}:{line}: room {room} may not import room {other}"


def test_rooms_have_no_cycle():
    seen: set[str] = set()
    while len(seen) < len(ROOMS):
        free = [room for room, needs in ROOMS.items() if room not in seen and needs <= seen]
        assert free, f"cycle among {set(ROOMS) - seen}"
        seen.update(free)


@pytest.mark.parametrize(("name", "path"), ALL, ids=IDS)
def test_no_heavy_import_at_the_top(name: str, path: Path):
    top = ast.Module([n for n in tree_of(path).body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    for target, line in imported(top):
        assert target.split(".")[0] not in HEAVY, f"{path.name}:{line} imports {target} before use"


def python_files(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


def test_no_bare_imports():
    for path in python_files("src", "optim", "problems", "solvers", "tests", "examples", "benchmarks", "docs"):
        for target, line in imported(tree_of(path)):
            assert target.split(".")[0] not in {"optim", "problems", "solvers"}, f"{path}:{line} imports {target}"


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                        yield f"{node.name}.{item.name}", item


@pytest.mark.parametrize(("name", "path"), ALL, ids=IDS)
def test_public_names_have_docstrings(name: str, path: Path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{path} has no module docstring"
    for item, node in public_definitions(tree):
        assert ast.get_docstring(node), f"{name}.{item} has no docstring"


def test_package_list_equals_the_tree():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {name for name, path in ALL if path.name == "__init__.py"}
    assert set(config["packages"]) == found
    assert {name: ROOT / folder for name, folder in config["package-dir"].items()} == PACKAGES


def test_module_sizes():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for _, path in ALL}
    assert not {str(p.relative_to(ROOT)): n for p, n in lines.items() if n > 500}
    assert statistics.median(lines.values()) < 200


def child_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("COV")}


def test_import_is_light_and_pulls_in_nothing_heavy():
    code = "import sys, crosswind; print(sorted(m.split('.')[0] for m in sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
        env=child_environment(),
    ).stdout
    assert not (HEAVY | {"numpy", "pandas", "scipy"}) & set(ast.literal_eval(out))


def test_import_costs_less_than_300_ms():
    code = "import time; t = time.perf_counter(); import crosswind; print(time.perf_counter() - t)"
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(times) < 0.3


def test_every_public_name_loads():
    import crosswind

    for name in crosswind.__all__:
        assert getattr(crosswind, name) is not None
    assert set(crosswind.__all__) <= set(dir(crosswind))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = crosswind.no_such_name


def test_the_installed_package_is_this_tree():
    import crosswind.optim

    assert Path(crosswind.optim.__file__).resolve().parent == ROOT / "optim"


def test_no_machine_paths_or_registry_addresses():
    """The project speaks of itself alone: no lock file with addresses, no path of somebody's machine."""
    banned = ("index-" + "url", "/ho" + "me/", "/wo" + "rk/", "files.python" + "hosted")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        text = (ROOT / name).read_bytes().decode("utf-8", "ignore") if (ROOT / name).is_file() else ""
        assert not [word for word in banned if word in text], name
