"""The report as a reader meets it: opened, clicked, dragged, on a phone and in the dark."""

import json
import re
import time

import pytest
from browser import CHROMIUM, Browser
from old_runs import unpack_run

from mlepi.observables import all_stages
from mlepi.report import write_report
from mlepi.report.compare import compare_runs, write_comparison
from mlepi.report.templates import LIBRARY

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

LARGEST = 3_000_000
"""Bytes of a page beside the plot library."""

CONTRAST = """(() => {
  const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const shine = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("main *, header *, nav *, footer")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest("script, style")) continue;
    const style = getComputedStyle(e);
    const text = e.closest(".plotly") && e.namespaceURI.endsWith("svg") ? style.fill : style.color;
    if (!/^rgb/.test(text)) continue;
    const [a, b] = [shine(parse(text)), shine(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push([e.textContent.trim().slice(0, 40), text]);
  }
  return poor;
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return unpack_run("finished", tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def page(folder):
    """A run of the first format, with 15 stages."""
    return write_report(folder, all_stages(), files=False)


@pytest.fixture(scope="module")
def browser():
    found = Browser()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_errors(browser):
    browser.errors.clear()
    yield
    assert browser.errors == []


def count_traces(browser, figure):
    return browser.evaluate(f"document.querySelector('#figure-{figure} .canvas').data.length")


def open_tab(browser, tab):
    browser.click(f"[data-tab={tab}]")
    browser.wait(f"!document.getElementById('part-{tab}').hidden")


def drawn(browser, figure):
    browser.wait(f"document.querySelector('#figure-{figure} .main-svg') !== null")


def test_the_answer_is_on_the_first_screen_within_seconds(browser, page):
    assert page.stat().st_size - 4 * LIBRARY.stat().st_size / 3 < LARGEST
    start = time.monotonic()
    browser.open(page)
    print(f"first plot after {time.monotonic() - start:.1f} s")
    number, plot = (
        browser.evaluate(f"document.querySelector('{name}').getBoundingClientRect().bottom")
        for name in (".number", "#figure-answer_1 .main-svg")
    )
    assert 0 < number < plot <= 720
    assert browser.evaluate("document.querySelectorAll('#part-overview .doubt').length") <= 3
    assert re.match(r"[\d.]+ ± [\d.]+ × 10⁵ m/s, 300 K", browser.evaluate(
        "document.querySelector('.number').textContent.trim()"
    ))  # fmt: skip
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0


def test_all_figures_are_what_plotly_understands(browser, page):
    browser.open(page)
    wrong = browser.evaluate("""Object.entries(DATA).filter(([, f]) => f.kind === "plot").flatMap(
        ([name, f]) => { const state = {hidden: new Set(), chosen: {}};
          const made = prepare(f, state, 800, "light", false);
          const data = JSON.parse(JSON.stringify(made.data),  // it knows no packed arrays
            (key, value) => value && value.bdata !== undefined ? [0] : value);
          return (Plotly.validate(data, made.layout) || [])
            .filter((e) => ["array", "object", "value"].includes(e.code))
            .filter((e) => e.path.at(-1) !== "coloraxis")  // its check knows no default of null
            .map((e) => `${name}: ${e.msg}`); })""")
    assert wrong == []
    assert browser.evaluate("Object.values(DATA).filter((f) => f.kind === 'picture').length") == 0


def test_buttons_change_the_estimates(browser, page):
    browser.open(page)
    open_tab(browser, "estimates")
    drawn(browser, "fermi_velocity")
    plot = "document.querySelector('#figure-fermi_velocity .canvas')"
    before = browser.evaluate(f"JSON.stringify({plot}.data)")
    row = "#figure-fermi_velocity [aria-label=temperature] button:nth-of-type(2)"
    browser.click(row)
    assert browser.evaluate(f"JSON.stringify({plot}.data)") != before
    assert (
        browser.evaluate(f"document.querySelector({row!r}).getAttribute('aria-pressed')") == "true"
    )
    groups = f"JSON.stringify([...new Set({plot}.data.map((t) => t.legendgroup))])"
    shown = browser.evaluate(groups)
    browser.click("#figure-fermi_velocity .series")
    assert len(json.loads(browser.evaluate(groups))) == len(json.loads(shown)) - 1


def test_the_slider_moves_through_temperatures_and_the_cut_follows_the_mouse(browser, page):
    browser.open(page)
    open_tab(browser, "electrons")
    drawn(browser, "spectral_function")
    plot = "document.querySelector('#figure-spectral_function .canvas')"
    before = browser.evaluate(f"{plot}.data[0].z.bdata")
    browser.click("#figure-spectral_function [data-slider=frame]", across=0.02)
    assert browser.evaluate(
        "document.querySelector('#figure-spectral_function output').textContent"
    ) == ("undisplaced")
    assert browser.evaluate(f"{plot}.data[0].z.bdata") != before
    cut = browser.evaluate(f"JSON.stringify({plot}.data[2].x)")
    x, y = browser.evaluate(
        f"(() => {{ {plot}.scrollIntoView({{block: 'center'}});"
        f" const b = {plot}.querySelector('.nsewdrag').getBoundingClientRect();"
        " return [b.left + 0.15 * b.width, b.top + 0.5 * b.height]; })()"
    )
    browser.point(x - 4, y)
    browser.point(x, y)
    browser.wait(f"JSON.stringify({plot}.data[2].x) !== {cut!r}")


def test_a_click_on_a_band_shows_its_motion(browser, page):
    browser.open(page)
    open_tab(browser, "phonons")
    drawn(browser, "phonons")
    told = "document.querySelector('#figure-phonons output').textContent"
    before = browser.evaluate(told)
    x, y = browser.evaluate("""(() => { const c = document.querySelector('#figure-phonons .canvas');
      c.scrollIntoView({block: 'center'});
      const l = c._fullLayout, b = c.getBoundingClientRect();
      const n = 30 % DATA.phonons.distances.length;
      const y = unpack(DATA.phonons.frequencies[0])[n];
      return [b.left + l.xaxis._offset + l.xaxis.d2p(DATA.phonons.distances[n]),
              b.top + l.yaxis._offset + l.yaxis.d2p(y)]; })()""")
    browser.point(x - 3, y)
    browser.wait("document.querySelector('#figure-phonons .hoverlayer').children.length > 0")
    browser.point(x, y, press=True)
    browser.wait(f"{told} !== {before!r}")
    picture = "document.querySelector('#figure-phonons canvas').toDataURL()"
    first = browser.evaluate(picture)
    browser.wait(f"{picture} !== {first!r}")
    assert browser.evaluate(picture) != first, "it moves"
    assert browser.evaluate(told) != before


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_all_text_can_be_read_and_nothing_sticks_out(browser, page, scheme, width):
    browser.open(page, width, 800, scheme)
    for tab in browser.evaluate(
        "[...document.querySelectorAll('[role=tab]')].map(t => t.dataset.tab)"
    ):
        browser.evaluate(f"openTab({tab!r})")
        assert browser.evaluate(CONTRAST) == [], tab
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_a_phone_shows_the_chosen_part_and_wide_enough_plots(browser, page):
    browser.open(page, 390, 800, touch=True)
    left, right = browser.evaluate(
        "(() => { const l = document.querySelector('#figure-answer_1 .canvas')._fullLayout;"
        " return [l.xaxis._length, l.width]; })()"
    )
    assert left > 0.7 * right, "the labels of the panel below take no room of this one"
    for tab in ("trust", "downloads", "overview"):
        browser.evaluate(f"openTab({tab!r})")
        ends = browser.evaluate(
            f"(() => {{ const b = document.querySelector('[data-tab={tab}]')"
            ".getBoundingClientRect(); return [b.left, b.right]; })()"
        )
        assert 0 <= ends[0] < ends[1] <= 390
    open_tab(browser, "phonons")
    drawn(browser, "phonons")
    assert browser.evaluate(
        "(() => { const c = document.querySelector('#figure-phonons .canvas');"
        " const b = c.querySelector('.x2title').getBoundingClientRect();"
        " return b.right <= c.getBoundingClientRect().right; })()"
    )


def test_paper_shows_all_parts_and_all_columns(browser, page):
    browser.open(page, 718, 1000)  # A4 between margins of 1 cm
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    browser.imitate_paper()
    assert browser.evaluate("document.querySelectorAll('[role=tabpanel]').length") == 8
    assert browser.evaluate(
        "[...document.querySelectorAll('[role=tabpanel]')].every((e) => e.getClientRects().length)"
    )
    assert browser.evaluate("document.documentElement.scrollWidth") <= 718
    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].map((e) => e.scrollWidth - e.clientWidth)"
        ".filter((more) => more > 1)"
    ) == []  # fmt: skip


def test_keys_move_between_the_parts_and_pictures_have_words(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('[role=tab]').focus()")
    browser.evaluate(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    assert browser.evaluate("document.activeElement.dataset.tab") == "phonons"
    assert browser.evaluate("location.hash") == "#phonons"
    unnamed = ".canvas:not([aria-label]), img:not([alt]), canvas:not([aria-label])"
    assert browser.evaluate(f"document.querySelectorAll('{unnamed}').length") == 0


def test_numbers_of_figures_and_tables_can_be_taken_along(browser, page):
    browser.open(page)
    rows = browser.evaluate("figureRows('answer_1')")
    assert rows[0] == ["series", "choices", "x", "y", "error below", "error above"]
    assert {row[0] for row in rows[1:]} >= {"undisplaced", "total error", "samples alone"}
    browser.evaluate("window.kept = {}; window.save = (name, text) => { kept[name] = text; }; 0")
    table = browser.evaluate(
        "(() => { const b = document.querySelector('[data-save=table]');"
        " b.click(); return b.dataset.of; })()"
    )
    assert browser.evaluate(f"document.querySelectorAll('#{table} tbody tr').length") > 0
    svg = browser.evaluate("""(() => {
      const made = prepare(DATA.answer_1, STATES.get("answer_1"), 860, "light", true);
      return Plotly.toImage(made, {format: "svg", width: 860, height: made.layout.height}); })()""")
    assert svg.startswith("data:image/svg+xml")


def test_a_run_that_is_going_loads_itself_again(browser, folder, tmp_path):
    page = write_report(folder, all_stages(), "phonons are done.", tmp_path / "report.html")
    browser.open(page)
    assert "phonons are done." in browser.evaluate(
        "document.querySelector('[role=status]').textContent"
    )
    assert browser.evaluate("document.body.dataset.reload") == "20"


def test_runs_side_by_side(browser, folder, tmp_path):
    others = [unpack_run(name, tmp_path) for name in ("half_done", "target")]
    page = write_comparison(compare_runs([folder, *others], all_stages()), tmp_path / "c.html")
    browser.open(page)
    drawn(browser, "runs")
    assert browser.evaluate("document.querySelectorAll('#settings tbody tr').length") > 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= 1280
