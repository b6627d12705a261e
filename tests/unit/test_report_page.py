"""The HTML page, opened in a real headless browser; what it says, without one."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import bench_report as bench
import chromium
from egeunet.benchmarks.report import html

pytestmark = pytest.mark.xdist_group("browser")  # one browser, not one a worker


#: Elements that a page of ours has none of, or that would fetch something.
_FORBIDDEN = {"iframe", "object", "embed", "link", "base", "form", "audio", "video", "source"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "bench.html"
    path.write_text(html(bench.report()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program = chromium.find()
    if program is None:
        pytest.skip("SKIPPED LOUDLY: no chromium, so the page is looked at in no browser")
    with chromium.Chromium(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


class _Elements(HTMLParser):
    """Collects all start tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_names_that_want_to_be_markup_stay_text_and_nothing_is_fetched(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parser = _Elements()
    parser.feed(text)
    tags = [tag for tag, _ in parser.found]
    assert tags.count("script") == 1 and tags.count("style") == 1
    assert not _FORBIDDEN & set(tags)
    for tag, attributes in parser.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert address.startswith(("#", "data:image/png;base64,")) or not address, (
                tag,
                address,
            )
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.tflite" in text
    assert "\u202e" not in text and "\udcff" not in text


def test_the_page_says_what_its_figures_are_worth(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for said in (
        "Synthetic images.",
        "Emulated: instructions, not time.",
        "interpreter, not Core ML",
    ):
        assert said in text
    real = html(bench.report(synthetic=False, quick=True))
    assert "Synthetic" not in real and "Quick mode" in real and 'badge quick"' in real
    assert "49,872" in real and "2 of 13 gated rows miss a gate" in real
    assert "A file that passes all gates is within the target of 51,200 bytes." in real


def test_a_report_with_nothing_but_the_reference_is_a_page() -> None:
    report = bench.report()
    row = report["rows"][0] | {"accuracy": None, "latency": None, "ratio": None}
    report |= {"rows": [row], "pictures": [], "gates_failed": [], "skipped": [], "pre_post": {}}
    text = html(report)
    assert "nothing is proved here" in text and "no row qualifies" in text
    assert 'id="pareto"' not in text and 'id="latency"' not in text


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)])
def test_it_fits_the_window_without_an_error(
    browser: Any, page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    assert browser.evaluate("innerWidth") == width, "the window is not as wide as was asked for"
    assert browser.complaints() == []
    outside = [url for url in browser.requests() if not url.startswith(("data:image/png", "file:"))]
    assert outside == [] and browser.evaluate("[...document.images].every(i => i.naturalWidth)")
    # The widest thing scrolls in its own box, so all of it can be reached.
    overflow = "getComputedStyle(document.querySelector('#results .scroll')).overflowX"
    assert browser.evaluate(overflow) == "auto"
    # What is folded away must fit, too.
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 23, 28)") is dark
    picture = browser.screenshot()
    assert picture.startswith(b"\x89PNG")
    (tmp_path / f"page-{width}.png").write_bytes(picture)


_NUMBERS = (
    "[...document.querySelectorAll('#results tbody tr')].map(r => Number(r.cells[0].innerText))"
)
_HEAD = (
    "[...document.querySelectorAll('#results thead th')].find(h => h.innerText.startsWith('%s'))"
)


def test_columns_sort_by_pointer_and_by_keyboard(browser: Any, page: Path) -> None:
    report = bench.report()
    sizes = {i: row["bytes"] for i, row in enumerate(report["rows"], 1)}
    browser.open(page, width=1280)
    assert browser.evaluate(_NUMBERS) == list(sizes)
    head = _HEAD % "Bytes"
    browser.evaluate(f"{head}.querySelector('button').click()")
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "ascending"
    assert browser.evaluate(_NUMBERS) == sorted(sizes, key=lambda number: sizes[number])
    browser.evaluate(f"{head}.querySelector('button').focus()")
    browser.press("Enter")
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    assert browser.evaluate(_NUMBERS) == sorted(sizes, key=lambda number: -sizes[number])
    # By Tab and Enter to the next column; what was not timed stays last in both directions.
    timed = {i: r["latency"]["median_ms"] for i, r in enumerate(report["rows"], 1) if r["latency"]}
    head = _HEAD % "ms"
    browser.evaluate(f"{head}.previousElementSibling.querySelector('button').focus()")
    browser.press("Tab")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        browser.press("Enter")
        assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == direction
        order = browser.evaluate(_NUMBERS)
        assert order[: len(timed)] == sorted(timed, key=lambda number: sign * timed[number])
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert browser.complaints() == []


def test_printing_unfolds_everything(browser: Any, page: Path) -> None:
    browser.open(page, width=1280)
    folded = "document.querySelectorAll('details:not([open])').length"
    before = browser.evaluate(folded)
    assert before > 0
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate(folded) == 0
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert browser.evaluate(folded) == before


def test_an_error_would_be_seen(browser: Any, page: Path, tmp_path: Path) -> None:
    """The checks above can fail: a script that throws, a blocked script, a foreign picture."""
    text = page.read_text(encoding="utf-8").replace(
        "</main>", '<script>throw 1</script><img src="http://127.0.0.1:9/x.png"></main>'
    )
    broken = tmp_path / "broken.html"
    broken.write_text(text, encoding="utf-8")
    browser.open(broken, width=390)
    browser.evaluate("new Promise(done => setTimeout(done, 100))")
    assert any("Content Security Policy" in said for said in browser.complaints())
    browser.evaluate("document.querySelector('main').innerHTML = '<pre>' + 'x'.repeat(999)")
    assert browser.evaluate("document.scrollingElement.scrollWidth") > 390
