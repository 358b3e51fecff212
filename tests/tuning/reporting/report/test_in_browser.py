"""The report in a real browser: no errors, no network, keyboard, phones, contrast, print."""

import base64
from collections.abc import Iterator

import pytest

from tests.support.browser import Page, find_browser, open_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed"),
]

# Elements that a keyboard must reach, in this order.
FOCUSABLE = """
Array.from(document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]'))
    .filter((e) => e.checkVisibility())
"""
# The lowest contrast of texts with the background behind them, with the text it has.
CONTRAST = """
(() => {
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return n.length > 3 && n[3] === 0 ? null : n.slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parse(getComputedStyle(e).backgroundColor);
      if (found) return found;
    }
    return parse(getComputedStyle(document.body).backgroundColor);
  };
  let lowest = [100, ""];
  for (const e of document.querySelectorAll("body *")) {
    const own = Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || ["SCRIPT", "title"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const color = parse(e instanceof SVGElement ? style.fill : style.color);
    if (!color) continue;
    const [a, b] = [light(color), light(background(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < lowest[0]) lowest = [ratio, e.textContent.slice(0, 80)];
  }
  return lowest;
})()
"""


@pytest.fixture(scope="module")
def browser(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser with the report, all of its parts open."""
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    with open_browser(folder / "profile") as opened:
        opened.set_width(1440)
        opened.open_url(path.as_uri())
        opened.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        yield opened


def test_the_page_loads_without_errors_and_without_a_network(browser: Page) -> None:
    names = [name for name, _ in browser.events]
    assert "Runtime.exceptionThrown" not in names
    assert "Runtime.consoleAPICalled" not in names
    assert [event for name, event in browser.events if name == "Log.entryAdded"] == []
    urls = [e["request"]["url"] for n, e in browser.events if n == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in urls if url.startswith("file:")]) == 1
    assert browser.evaluate("document.scripts.length") == 1


def test_the_keyboard_reaches_everything_visibly(browser: Page) -> None:
    count = browser.evaluate(f"window.wanted = {FOCUSABLE}; wanted.length")
    assert count > 20
    browser.evaluate(
        "window.reached = new Set(); window.unseen = []; document.activeElement.blur()"
    )
    for _ in range(count):
        browser.press_tab()
        browser.evaluate(
            "reached.add(document.activeElement);"
            "getComputedStyle(document.activeElement).outlineStyle === 'none'"
            " && unseen.push(document.activeElement.outerHTML.slice(0, 80))"
        )
    assert browser.evaluate("wanted.filter((e) => !reached.has(e)).map((e) => e.outerHTML)") == []
    assert browser.evaluate("unseen") == []


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_window(width: int, browser: Page) -> None:
    browser.set_width(width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider scrolls in a region that the keyboard reaches.
    assert browser.evaluate(
        "Array.from(document.querySelectorAll('*')).filter((e) => e.scrollWidth > e.clientWidth + 1"
        " && getComputedStyle(e).overflowX === 'auto' && e.tabIndex !== 0)"
        ".map((e) => e.outerHTML.slice(0, 200))"
    ) == []  # fmt: skip
    browser.set_width(1440)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(scheme: str, browser: Page) -> None:
    browser.set_media(scheme)
    ratio, text = browser.evaluate(CONTRAST)
    assert 4.5 <= ratio < 100, text
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert dark == (scheme == "dark")
    browser.set_media()


def test_every_figure_has_a_text_alternative(browser: Page) -> None:
    labels = browser.evaluate(
        "Array.from(document.querySelectorAll('figure'), (f) => Array.from("
        "f.querySelectorAll('svg[role=img]'), (s) => s.getAttribute('aria-label')))"
    )
    assert len(labels) > 20
    for found in labels:
        (label,) = found
        assert len(label) > 40
    assert browser.evaluate("new Set(Array.from(document.querySelectorAll('[id]'), (e) => e.id))"
                            ".size === document.querySelectorAll('[id]').length")  # fmt: skip


def test_tables_sort_and_show_columns_on_demand(browser: Page) -> None:
    column = (
        "(i) => Array.from(document.querySelector('#overview-2').tBodies[0].rows,"
        " (r) => parseFloat(r.cells[i].textContent))"
    )
    head = "document.querySelectorAll('#overview-2 th button')[1]"
    browser.evaluate(f"{head}.click()")
    first = browser.evaluate(f"({column})(1)")
    assert first == sorted(first)
    browser.evaluate(f"{head}.click()")
    assert browser.evaluate(f"({column})(1)") == first[::-1]
    assert browser.evaluate(f"{head}.closest('th').getAttribute('aria-sort')") == "descending"
    hidden = "document.querySelector('#overview-2 .detail').checkVisibility()"
    assert not browser.evaluate(hidden)
    browser.evaluate("document.querySelectorAll('input[type=checkbox]')[1].click()")
    assert browser.evaluate(hidden)


def test_a_print_shows_closed_parts(browser: Page) -> None:
    browser.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = false; })")
    assert base64.b64decode(browser.call("Page.printToPDF")["data"]).startswith(b"%PDF-")
    shown = (
        "getComputedStyle(document.querySelector('details'), '::details-content').contentVisibility"
    )
    assert browser.evaluate(shown) == "hidden"
    browser.set_media(media="print")
    assert browser.evaluate(shown) == "visible"
    browser.set_media()
