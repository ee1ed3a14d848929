"""The pages tell the truth: their code runs, their excerpts are printed, their links resolve, and the site builds."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
API = sorted((DOCS / "api").glob("*.md"))
GUIDE = [ROOT / "README.md", *sorted(set(DOCS.rglob("*.md")) - set(API))]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Return the fenced blocks of a page with the number of the line before each."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.S | re.M)
    return [(text.count("\n", 0, m.start(1)), m[1]) for m in found]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks and inline code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.sub(r"`[^`]*`", "", text)


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "python")], ids=name_of)
def test_python_runs_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    for line, code in blocks(page, "python"):
        # Empty lines in front make a traceback point into the page.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def transcripts(page: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Yield each command of a page's console blocks, its exit code and the lines that it is shown to print."""
    for _, block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            head, *shown = part.rstrip("\n").split("\n")
            command, _, code = head.partition("  # exit ")
            yield command, int(code or 0), [line for line in shown if line.strip() != "…"]


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "console")], ids=name_of)
def test_console_excerpts_are_what_is_printed(page: Path, tmp_path: Path) -> None:
    for command, code, shown in transcripts(page):
        program, *words = shlex.split(command)
        assert program == "crosswind"
        done = subprocess.run(
            [sys.executable, "-m", "crosswind", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        printed = done.stdout + done.stderr
        assert not [line for line in shown if line not in printed], printed


def nav_pages(entries: Any) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from nav_pages(target)


def test_every_page_is_in_the_nav_once() -> None:
    listed = list(nav_pages(CONFIG["nav"]))
    assert len(set(listed)) == len(listed)
    assert set(listed) == {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}


@pytest.mark.parametrize("page", [*GUIDE, *API, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_and_images_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    local = [t.partition("#")[0] for t in targets if not t.startswith(("http://", "https://", "#"))]
    assert not [t for t in local if not (page.parent / t).exists()]


@pytest.mark.parametrize("page", [*GUIDE, *API], ids=name_of)
def test_formulas_need_no_script(page: Path) -> None:
    assert not re.search(r"\\[(\[]|\$\$", prose(page)), "no MathJax is loaded: write formulas as code"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning is an error."""
    if not (ROOT / ".typing" / "crosswind").is_dir():
        subprocess.run([sys.executable, str(ROOT / ".ci" / "link_types.py")], check=True)
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built_without_foreign_scripts(site: Path) -> None:
    for page in nav_pages(CONFIG["nav"]):
        built = site / ("index.html" if page == "index.md" else f"{page.removesuffix('.md')}/index.html")
        html = built.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+\.(?:js|css|png|svg)", html)
    assert not list(site.rglob("hooks.py"))


def headings(html: str) -> set[str]:
    """Return the last parts of the names that have a heading."""
    return {name.rpartition(".")[2] for name in re.findall(r'<h\d id="(crosswind\.[\w.]+)"', html)}


@pytest.mark.parametrize("page", API, ids=name_of)
def test_api_pages_describe_the_public_names(site: Path, page: Path) -> None:
    html = (site / "api" / page.stem / "index.html").read_text(encoding="utf-8")
    short = headings(html)
    shown = re.findall(r"^::: (crosswind[\w.]*)", page.read_text(encoding="utf-8"), re.M)
    # A function that bears its module's name hides it from the package's page and is shown by its full path.
    modules = [name for name in shown if name.split(".")[-1] not in name.split(".")[:-1]]
    assert modules
    for name in modules:
        module = importlib.import_module(name)
        # Aliases of types and tables of constants have no docstring of their own: a page need not list them.
        missing = [n for n in module.__all__ if n not in short and inspect.isroutine(getattr(module, n))]
        classes = [n for n in module.__all__ if n not in short and inspect.isclass(getattr(module, n))]
        missing += [n for n in classes if getattr(module, n).__name__ == n]
        assert not missing, name
    text = unescape(re.sub(r"<[^>]+>", "", html))
    assert not re.findall(r":(?:func|class|meth|mod|data|exc|attr):\S*", text)


def test_every_name_of_the_face_is_on_an_api_page(site: Path) -> None:
    import crosswind as cw

    html = "".join(p.read_text(encoding="utf-8") for p in (site / "api").rglob("index.html"))
    assert not set(cw.__all__) - headings(html) - {"__version__"}
