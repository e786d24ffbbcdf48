"""The documentation site: it is built without a warning, and its pages are found."""

import importlib.util
import io
import re
import sys
import warnings
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

QUESTIONS = {
    "own material": ("use my own material", "mlepi convert"),
    "SLURM": ("run on a cluster with SLURM", "#SBATCH"),
    "labels": ("which DFT runs to make", "mlepi export poscar"),
    "hyper-parameters": ("choose hyper-parameters", "optimizer.max_epochs"),
    "export": ("into another program", "mlepi export"),
    "fine-tune": ("start from a trained network", "init_from"),
    "GPU": ("use a GPU", "device=cuda"),
    "error bars": ("how wrong a number is", "68 %"),
    "ghost states": ("bands where there should be none", "level shift"),
    "units": ("in which unit", "Å, eV, amu, K, THz"),
}
"""Question of a newcomer → words of its row on the start page, words of the page behind it."""


def build(folder):
    """Build the site as `make docs` does; return what Sphinx warned of."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    told, path = io.StringIO(), list(sys.path)
    with warnings.catch_warnings(), patch_docutils(str(DOCS)), docutils_namespace():
        warnings.simplefilter("ignore")  # of Sphinx's own parts; what it says of pages is in `told`
        places = {"srcdir": ROOT, "confdir": DOCS, "outdir": folder / "html"}
        site = Sphinx(
            **places, doctreedir=folder / "trees", buildername="html", status=None, warning=told
        )
        site.build(force_all=True)
    sys.path[:] = path
    return told.getvalue().splitlines()


def find_dead_links(pages):
    """List links and anchors within the site that lead nowhere."""
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    dead = []
    for page, text in pages.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]*)"', text)):
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = unescape(link).partition("#")
            target = (page.parent / name.partition("?")[0]).resolve() if name else page
            known = places.get(target, {anchor})
            if not target.is_file() or (anchor and anchor not in known):
                dead.append(f"{page.name}: {link}")
    return dead


def find_unanswered(pages, start):
    """List the questions that no page behind their row of the start page answers."""
    rows = re.findall(r"<tr.*?</tr>", pages[start], flags=re.DOTALL)
    unanswered = []
    for question, (wanted, answer) in QUESTIONS.items():
        (row,) = [row for row in rows if wanted in words_of(row)]
        links = re.findall(r'href="([^"#]+)', row)
        found = [words_of(pages[(start.parent / link).resolve()]) for link in links]
        if not any(answer in text for text in found):
            unanswered.append(question)
    return unanswered


def find_unlisted(start_page):
    """List pages and notebooks that are in no contents of the start page."""
    unlisted = []
    for source in [*DOCS.rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        name = source.relative_to(ROOT).with_suffix(".html")
        link = name.relative_to("docs") if name.parts[0] == "docs" else Path("..") / name
        if f'href="{link.as_posix()}"' not in start_page and source.name != "index.md":
            unlisted.append(source.name)
    return unlisted


@pytest.mark.slow
def test_site_is_complete(tmp_path):
    """One test, so that one process builds it once."""
    told = build(tmp_path)
    folder = (tmp_path / "html").resolve()
    pages = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    start = folder / "docs" / "index.html"
    assert told == []
    assert find_dead_links(pages) == []
    assert find_unanswered(pages, start) == []
    assert find_unlisted(pages[start]) == []


def test_what_is_wrong_with_a_site_is_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("")
    text = '<a id="here" href="#here"> <a href="#there"> <a href="none.html"> <a href="page.html">'
    assert sorted(find_dead_links({page: text})) == ["page.html: #there", "page.html: none.html"]
    assert "conf.py" not in find_unlisted("")
    assert "method.md" in find_unlisted("")


def words_of(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_pictures_are_few_small_and_shown():
    specification = importlib.util.spec_from_file_location(
        "make_pictures", DOCS / "make_pictures.py"
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules["make_pictures"] = module  # its dataclasses look themselves up
    specification.loader.exec_module(module)
    files = sorted((DOCS / "pictures").glob("*.svg"))
    assert [path.stem for path in files] == sorted(module.PICTURES)
    assert sum(path.stat().st_size for path in files) <= 600_000
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert [path.name for path in files if f"pictures/{path.name})" not in text] == []
    for name in ("workflow", "zero_point", "hedgenet"):  # those that take no time
        assert module.PICTURES[name]().axes
