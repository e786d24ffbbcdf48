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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the site as `make docs` does; return its folder and what Sphinx warned of."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    folder, told = tmp_path_factory.mktemp("site"), io.StringIO()
    path = list(sys.path)
    with warnings.catch_warnings(), patch_docutils(str(DOCS)), docutils_namespace():
        warnings.simplefilter("ignore")  # of Sphinx's own parts; what it says of pages is in `told`
        places = {"srcdir": ROOT, "confdir": DOCS, "outdir": folder / "html"}
        site = Sphinx(
            **places, doctreedir=folder / "trees", buildername="html", status=None, warning=told
        )
        site.build(force_all=True)
    sys.path[:] = path
    return folder / "html", told.getvalue()


@pytest.fixture(scope="module")
def pages(built):
    """Page → its HTML."""
    return {path: path.read_text(encoding="utf-8") for path in built[0].rglob("*.html")}


@pytest.mark.slow
def test_site_is_built_without_a_warning(built):
    folder, told = built
    assert told == ""
    assert (folder / "docs" / "index.html").is_file()


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere(pages):
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    dead = []
    for page, text in pages.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]*)"', text)):
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = unescape(link).partition("#")
            target = (page.parent / name.partition("?")[0]).resolve() if name else page
            if not target.is_file() or (
                anchor and target in places and anchor not in places[target]
            ):
                dead.append(f"{page.name}: {link}")
    assert dead == []


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_question_of_a_newcomer_is_one_click_from_the_start(built, pages, question):
    wanted, answer = QUESTIONS[question]
    start = built[0] / "docs" / "index.html"
    rows = re.findall(r"<tr.*?</tr>", pages[start], flags=re.DOTALL)
    (row,) = [row for row in rows if wanted in words_of(row)]
    links = re.findall(r'href="([^"#]+)', row)
    found = [words_of(pages[(start.parent / link).resolve()]) for link in links]
    assert any(answer in text for text in found)


@pytest.mark.slow
def test_every_page_and_notebook_is_in_the_contents(built, pages):
    start = pages[built[0] / "docs" / "index.html"]
    for source in [*DOCS.rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        name = source.relative_to(ROOT).with_suffix(".html")
        link = name.relative_to("docs") if name.parts[0] == "docs" else Path("..") / name
        assert f'href="{link.as_posix()}"' in start or source.name == "index.md"


def words_of(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_pictures_are_few_small_and_shown():
    specification = importlib.util.spec_from_file_location(
        "make_pictures", DOCS / "make_pictures.py"
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules["make_pictures"] = module  # its dataclasses look themselves up
    specification.loader.exec_module(module)
    files = sorted((DOCS / "pictures").iterdir())
    assert [path.stem for path in files] == sorted(module.PICTURES)
    assert sum(path.stat().st_size for path in files) <= 600_000
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert [path.name for path in files if f"pictures/{path.name})" not in text] == []
    for name in ("workflow", "zero_point", "hedgenet"):  # those that take no time
        assert module.PICTURES[name]().axes
