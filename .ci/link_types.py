"""Lay links under .typing/ so that a type checker finds optim/, problems/ and solvers/ below crosswind.

An editable install maps the packages with an import hook, which a type checker does not run.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".typing" / "crosswind"


def main() -> None:
    """Make the links anew: the face's own files, and the three packages beside it."""
    HOME.mkdir(parents=True, exist_ok=True)
    for old in HOME.iterdir():
        old.unlink()
    targets = [p for p in (ROOT / "src" / "crosswind").iterdir() if p.name != "__pycache__"]
    targets += [ROOT / name for name in ("optim", "problems", "solvers")]
    for target in targets:
        (HOME / target.name).symlink_to(target, target_is_directory=target.is_dir())


if __name__ == "__main__":
    main()
