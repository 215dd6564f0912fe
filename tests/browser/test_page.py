"""The page in a real browser: filters, search, keys, hostile text, no request outside, accessible, parsed lazily."""

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from support.report_runs import (
    ATTACK,
    CLASSES,
    NAMES,
    image_rows,
    png,
    report_page,
    row,
    save,
    write_run,
    write_two_sets,
)

from pipeline.core import tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# In CI, where .ci/run sets CI, a missing browser is a failure.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM or os.environ.get("CI")), reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "no Chromium on this machine, and CI is set: apt-get install -y chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


COUNT_PARSES = (
    "JSON.parse = ((parse) => (text) => { window.parses = (window.parses || 0) + 1; return parse(text); })(JSON.parse)"
)


class View:
    """A page in the browser, with its error messages and its requests. window.parses counts calls of JSON.parse."""

    def __init__(self, browser, path: Path, width: int = 1240, fragment: str = ""):
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(8000)
        self.page.add_init_script(COUNT_PARSES)
        self.page.goto(path.absolute().as_uri() + (f"#{fragment}" if fragment else ""))

    @property
    def count(self) -> str:
        """The line above the images."""
        return self.page.text_content("#count")

    def shows(self, text: str) -> None:
        """Waits until the line above the images is this text: a change of the address takes effect a moment later."""
        self.page.wait_for_function("text => document.getElementById('count').textContent === text", arg=text)

    @property
    def cards(self) -> int:
        return self.page.locator("#images article").count()


def write_page(changes: dict[int, dict] | None = None, classes: pl.DataFrame = CLASSES) -> None:
    """The page of 120 images in the current folder; every third answer is hostile."""
    write_run()
    base, trained = (
        [row(m, n, right(n), **({"choice_text": ATTACK} if n % 3 == 0 else {})) for n in range(120)]
        for m, right in (("base", lambda n: n < 36), ("trained", lambda n: 12 <= n < 84))
    )
    trained[100] = row("trained", 100, False, letter=None, two_step=None, status="truncated")
    for number, values in (changes or {}).items():
        base[number] |= values
    save(base, trained, classes)
    tables.write(tables.CLASSES, classes, Path("data/classes.parquet"))
    tables.write(tables.IMAGES, image_rows(120, [png(n) for n in range(40)]), Path("data/images.parquet"))
    report_page()


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory) -> Path:
    """The page without changes, built once."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_page()
    return folder / "reports" / "index.html"


@pytest.fixture
def show(browser):
    """Opens a page, and checks at the end that it made no error and no request outside."""
    views = []

    def open_page(path: Path, width: int = 1240, fragment: str = "") -> View:
        views.append(View(browser, path, width, fragment))
        return views[-1]

    yield open_page
    for view in views:
        assert view.errors == [], "no error, no warning, no dialog"
        assert all(url.startswith(("file:", "data:")) for url in view.requests), "nothing from outside"
        view.page.close()


@pytest.fixture
def open_view(show, plain_page):
    return lambda width=1240, fragment="": show(plain_page, width, fragment)


@pytest.fixture
def show_changed(show, tmp_path, monkeypatch):
    """Opens the page of a run with some predictions of the base model, or the classes, changed."""
    monkeypatch.chdir(tmp_path)

    def open_changed(changes: dict[int, dict] | None = None, classes: pl.DataFrame = CLASSES) -> View:
        write_page(changes, classes)
        return show(Path("reports/index.html"))

    return open_changed


def test_it_opens_with_the_first_fifty(open_view):
    view = open_view()
    view.shows("120 images, page 1 of 3")
    assert view.cards == 50
    assert view.page.locator("article img").first.evaluate("picture => picture.complete && picture.naturalWidth") == 8
    assert view.page.locator("svg[role=img]").count() == 12


@pytest.mark.parametrize(
    ("field", "value", "count"),
    [
        ("subset", "novel", 60),
        ("outcome", "right", 72),
        ("outcome", "wrong", 48),
        ("outcome", "gained", 48),
        ("outcome", "lost", 12),
        ("mistake", "unreadable", 1),
        ("mistake", "wrong letter", 47),
        ("mistake", "not offered", 0),
    ],
)
def test_filters(open_view, field, value, count):
    view = open_view()
    view.page.select_option(f"select[name={field}]", value)
    assert view.count.startswith(f"{count} image")
    assert view.cards == min(count, 50)
    assert f"{field}={value.replace(' ', '+')}" in view.page.url
    view.page.click("button[type=reset]")
    view.shows("120 images, page 1 of 3")


def test_filters_combine_and_the_address_keeps_them(open_view):
    view = open_view()
    view.page.select_option("select[name=subset]", "base")
    view.page.select_option("select[name=outcome]", "gained")
    view.page.fill("input[name=class]", "BLUE")
    view.shows("12 images, page 1 of 1")
    again = open_view(fragment=view.page.url.split("#")[1])
    again.shows("12 images, page 1 of 1")
    assert again.page.input_value("input[name=class]") == "BLUE"
    assert again.page.input_value("select[name=outcome]") == "gained"


def test_search_takes_names_as_they_are(open_view):
    view = open_view()
    view.page.fill("input[name=class]", "<b>finch")
    view.shows("30 images, page 1 of 1")
    assert view.page.locator("article h3").first.text_content() == NAMES[0]
    view.page.fill("input[name=class]", "[(")
    view.shows("0 images")
    assert view.cards == 0
    assert view.page.text_content("#images p") == "No test image matches these filters: class “[(”."
    view.page.click("#images button")
    view.shows("120 images, page 1 of 3")


AT_THE_IMAGES = "Math.abs(document.getElementById('gallery').getBoundingClientRect().top) < 5"


def test_a_link_of_a_class_shows_its_images_and_no_others(show_changed, show):
    """Search matches "rose" in longer names too; the link means the one class."""
    names = ["rose", "primrose", "blue rose", "rose hip"]
    view = show_changed(classes=CLASSES.with_columns(name=pl.Series(names)))
    view.page.locator("#class-table").evaluate("part => { part.open = true; }")
    follow = "[...document.querySelectorAll('#class-table a')].find(a => a.textContent === 'rose').click()"
    view.page.evaluate(follow)
    view.shows("30 images of exactly this class, page 1 of 1")
    assert set(view.page.locator("article h3").all_text_contents()) == {"rose"}
    view.page.wait_for_function(AT_THE_IMAGES)
    assert view.page.input_value("input[name=class]") == "rose"
    view.page.evaluate("window.scrollTo(0, 0)")
    view.page.evaluate(follow)
    view.page.wait_for_function(AT_THE_IMAGES)
    view.page.select_option("select[name=outcome]", "right")
    view.shows("18 images of exactly this class, page 1 of 1")
    again = show(Path("reports/index.html"), fragment=view.page.url.split("#")[1])
    again.shows("18 images of exactly this class, page 1 of 1")
    view.page.select_option("select[name=outcome]", "")
    view.page.fill("input[name=class]", "ros")
    view.shows("120 images, page 1 of 3")


def test_links_to_sections_leave_the_images_as_they_are(open_view):
    view = open_view()
    view.page.select_option("select[name=subset]", "novel")
    view.page.click(".jumps >> text=Accuracy")
    view.page.wait_for_function("document.getElementById('accuracy').getBoundingClientRect().top < 5")
    view.shows("60 images, page 1 of 2")
    view.page.click(".jumps >> text=Test images")
    view.page.wait_for_function(AT_THE_IMAGES)
    view.shows("60 images, page 1 of 2")
    view.page.select_option("select[name=outcome]", "right")
    assert "subset=novel" in view.page.url and "outcome=right" in view.page.url


def test_a_missing_image_is_named(open_view):
    view = open_view(fragment="image=0123abcd")
    view.shows("0 images")
    assert view.page.text_content("#images p").startswith("There is no image 0123abcd in this report")
    view.page.click("#images button")
    view.shows("120 images, page 1 of 3")


def test_the_reason_for_no_second_question(show_changed):
    one_option = row("base", 0, True)["options"][:1]
    silent = {"choice_text": None, "letter": "A", "options": one_option}
    view = show_changed({0: silent, 4: silent | {"draws": [0] * 5}, 8: silent | {"options": [], "draws": [None] * 5}})
    texts = [view.page.locator("article").nth(n).locator("section").first.text_content() for n in (0, 4, 8)]
    assert "No second question: one class alone has the share of the votes that the options must cover." in texts[0]
    assert "No second question: the draws named only one class." in texts[1]
    assert "No second question: the draws named no class." in texts[2]


def test_no_probability_is_rounded_to_0_or_1(show_changed):
    view = show_changed({number: {"choice_probability": p} for number, p in ((1, 0.99996), (2, 0.4321), (4, 0.00001))})
    texts = [view.page.locator("article").nth(n).locator("section").first.text_content() for n in (1, 2, 4)]
    for text, expected in zip(texts, (">0.999", "0.432", "<0.001"), strict=True):
        assert f"with probability {expected}" in text


def test_the_filter_of_data_sets(show, run_folder):
    write_two_sets()
    report_page()
    view = show(Path("reports/index.html"))
    view.shows("80 images, page 1 of 2")
    of = view.page.locator("article > div:first-child > h3 + p")
    view.page.select_option("select[name=dataset]", "other")
    view.shows("40 images, page 1 of 1")
    assert set(of.all_text_contents()) == {"other, base class", "other, novel class"}
    view.page.fill("input[name=class]", "blue")
    view.shows("10 images, page 1 of 1")
    view.page.evaluate("location.hash = 'exact=blue finch&dataset=tiny'")
    view.shows("10 images of exactly this class, page 1 of 1")
    assert view.page.input_value("select[name=dataset]") == "tiny"
    assert set(of.all_text_contents()) == {"tiny, base class"}


@pytest.mark.parametrize(("width", "chart"), [(1240, True), (390, False)])
def test_classes_are_a_chart_where_it_can_be_read_and_else_a_table(open_view, width, chart):
    view = open_view(width=width)
    assert view.page.locator(".class-charts").is_visible() is chart
    assert view.page.locator("#class-table table").is_visible() is not chart


def test_names_of_rows_stay_in_sight_on_a_small_screen(open_view):
    view = open_view(width=360)
    box = view.page.locator(".side .scroll", has_text="Training, two-step").first
    box.evaluate("box => { box.scrollLeft = 40; }")
    assert box.evaluate("box => box.scrollLeft") > 0
    left = "box => box.querySelector('tbody th').getBoundingClientRect().left - box.getBoundingClientRect().left"
    assert box.evaluate(left) >= 0


def test_a_single_image_has_an_address(open_view):
    view = open_view()
    view.page.locator("article a").nth(7).click()
    view.shows("1 image Show all images")
    assert view.cards == 1
    assert view.page.url.endswith(f"#image={7:016x}")
    again = open_view(fragment=f"image={7:016x}")
    again.shows("1 image Show all images")
    assert again.page.locator("article h3").text_content() == NAMES[3]
    again.page.click("#count button")
    again.shows("120 images, page 1 of 3")


def test_keys(open_view):
    view = open_view()
    view.page.keyboard.press("ArrowRight")
    view.shows("120 images, page 1 of 3")  # the images are not in view, where arrows may mean something else
    view.page.evaluate("document.getElementById('gallery').scrollIntoView()")
    view.page.keyboard.press("ArrowRight")
    view.shows("120 images, page 2 of 3")
    view.page.keyboard.press("ArrowRight")
    view.page.keyboard.press("ArrowRight")
    view.shows("120 images, page 3 of 3")
    assert view.cards == 20
    view.page.keyboard.press("ArrowLeft")
    view.shows("120 images, page 2 of 3")
    focused = "[...document.querySelectorAll('article')].indexOf(document.activeElement)"
    for key, place in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        view.page.keyboard.press(key)
        assert view.page.evaluate(focused) == place
    view.page.keyboard.press("/")
    view.page.keyboard.type("grey j")  # in a field keys are letters
    assert view.page.input_value("input[name=class]") == "grey j"
    view.page.keyboard.press("Control+a")
    view.page.keyboard.type("grey")
    view.shows("30 images, page 1 of 1")
    view.page.locator("article").first.focus()
    view.page.keyboard.press("Escape")
    view.shows("120 images, page 1 of 3")


def test_the_pager_by_mouse(open_view):
    view = open_view()
    above, below = view.page.locator(".pager").all()
    assert above.locator("button").first.is_disabled() and below.locator("button").first.is_disabled()
    above.locator("text=Next page").click()
    below.locator("text=Next page").click()
    assert view.count.endswith("page 3 of 3") and above.locator("button").last.is_disabled()
    view.page.select_option("select[name=mistake]", "unreadable")
    view.shows("1 image, page 1 of 1")
    assert above.is_hidden() and below.is_hidden()
    assert "no letter: cut off at the length limit" in view.page.text_content("article")


def test_hostile_text_shows_as_text(open_view):
    view = open_view()
    assert view.page.locator("article pre").first.text_content() == ATTACK
    assert view.page.locator("#images script, #images b >> text=finch").count() == 0
    assert view.page.locator("article h3").first.text_content() == NAMES[0]
    assert view.page.locator("article img[onerror]").count() == 0


def test_a_narrow_screen_scrolls_one_way_only(open_view):
    view = open_view(width=360)
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_no_serious_fault_of_accessibility(open_view):
    from axe_playwright_python.sync_playwright import Axe

    for width in (1240, 360):
        view = open_view(width=width)
        view.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        violations = Axe().run(view.page).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert not serious, json.dumps(serious, indent=1)[:3000]


def test_answers_are_parsed_when_they_are_shown(open_view):
    """However many images there are: opening parses the index and the first of the three chunks."""
    view = open_view()
    view.shows("120 images, page 1 of 3")
    assert view.page.evaluate("window.parses") == 2
    view.page.select_option("select[name=mistake]", "unreadable")  # image 100, in the last chunk
    view.shows("1 image, page 1 of 1")
    assert view.page.evaluate("window.parses") == 3
    view.page.click("button[type=reset]")
    view.shows("120 images, page 1 of 3")
    assert view.page.evaluate("window.parses") == 3
