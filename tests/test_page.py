"""The report in a real browser: filters, search, keys, hostile text, no request outside, accessible, quick."""

import io
import json
import random
import shutil
import time
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from test_report import ATTACK, NAMES, made, row, run_folder, save  # noqa: F401

from pipeline import tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A page of the browser, with what it complained of and asked for."""

    def __init__(self, browser, path: Path, width: int = 1240):
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.absolute().as_uri())

    @property
    def found(self) -> str:
        return self.page.text_content("#found")

    def shows(self, text: str) -> None:
        """Waits until the line above the images says this: a change of the address is told of a moment later."""
        self.page.wait_for_function("text => document.getElementById('found').textContent === text", arg=text)

    @property
    def cards(self) -> int:
        return self.page.locator("#images article").count()


@pytest.fixture
def opened(browser, run_folder):  # noqa: F811
    """The page of 120 images; every third answer is hostile."""
    pages = []
    pictures = tables.read(tables.IMAGES, Path("data/images.parquet"))

    def open_page(width: int = 1240, place: str = "") -> Opened:
        base, trained = (
            [row(m, n, right(n), **({"choice_text": ATTACK} if n % 3 == 0 else {})) for n in range(120)]
            for m, right in (("base", lambda n: n < 36), ("trained", lambda n: 12 <= n < 84))
        )
        trained[100] = row("trained", 100, False, letter=None, two_step=None, status="truncated")
        save(base, trained)
        more = [
            pictures.row(n % 40, named=True) | {"image_id": f"{n:016x}", "class_id": n % 4, "file": f"{n}.png"}
            for n in range(120)
        ]
        tables.write(tables.IMAGES, pl.DataFrame(more, schema=tables.IMAGES.schema), Path("data/images.parquet"))
        made()
        one = Opened(browser, Path("reports/index.html"), width)
        if place:
            one.page.goto(f"{one.page.url.split('#')[0]}#{place}")
        pages.append(one)
        return one

    yield open_page
    for one in pages:
        assert one.complaints == [], "no error, no warning, no dialog"
        assert all(url.startswith(("file:", "data:")) for url in one.asked), "nothing from outside"
        one.page.close()


def test_it_opens_with_the_first_fifty(opened):
    one = opened()
    one.shows("120 images, page 1 of 3")
    assert one.cards == 50
    assert one.page.locator("article img").first.evaluate("picture => picture.complete && picture.naturalWidth") == 8
    assert one.page.locator("svg[role=img]").count() == 12


@pytest.mark.parametrize(
    ("field", "value", "count"),
    [
        ("half", "novel", 60),
        ("outcome", "right", 72),
        ("outcome", "wrong", 48),
        ("outcome", "gained", 48),
        ("outcome", "lost", 12),
        ("mistake", "unreadable", 1),
        ("mistake", "wrong letter", 47),
        ("mistake", "not offered", 0),
    ],
)
def test_filters(opened, field, value, count):
    one = opened()
    one.page.select_option(f"select[name={field}]", value)
    assert one.found.startswith(f"{count} image")
    assert one.cards == min(count, 50)
    assert f"{field}={value.replace(' ', '+')}" in one.page.url
    one.page.click("button[type=reset]")
    one.shows("120 images, page 1 of 3")


def test_filters_add_up_and_the_address_brings_them_back(opened):
    one = opened()
    one.page.select_option("select[name=half]", "base")
    one.page.select_option("select[name=outcome]", "gained")
    one.page.fill("input[name=class]", "BLUE")
    one.shows("12 images, page 1 of 1")
    again = opened(place=one.page.url.split("#")[1])
    again.shows("12 images, page 1 of 1")
    assert again.page.input_value("input[name=class]") == "BLUE"
    assert again.page.input_value("select[name=outcome]") == "gained"


def test_search_takes_names_as_they_are(opened):
    one = opened()
    one.page.fill("input[name=class]", "<b>finch")
    one.shows("30 images, page 1 of 1")
    assert one.page.locator("article h3").first.text_content() == NAMES[0]
    one.page.fill("input[name=class]", "[(")
    one.shows("0 images, page 1 of 1")
    assert one.cards == 0


def test_a_single_image_has_an_address(opened):
    one = opened()
    one.page.locator("article a").nth(7).click()
    one.shows("1 image; show all")
    assert one.cards == 1
    assert one.page.url.endswith(f"#image={7:016x}")
    again = opened(place=f"image={7:016x}")
    again.shows("1 image; show all")
    assert again.page.locator("article h3").text_content() == NAMES[3]
    again.page.click("#found a")
    again.shows("120 images, page 1 of 3")


def test_keys(opened):
    one = opened()
    one.page.keyboard.press("ArrowRight")
    one.shows("120 images, page 2 of 3")
    one.page.keyboard.press("ArrowRight")
    one.page.keyboard.press("ArrowRight")
    one.shows("120 images, page 3 of 3")
    assert one.cards == 20
    one.page.keyboard.press("ArrowLeft")
    one.shows("120 images, page 2 of 3")
    focused = "[...document.querySelectorAll('article')].indexOf(document.activeElement)"
    for key, place in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        one.page.keyboard.press(key)
        assert one.page.evaluate(focused) == place
    one.page.keyboard.press("/")
    one.page.keyboard.type("grey j")  # in a field keys are letters
    assert one.page.input_value("input[name=class]") == "grey j"
    one.page.keyboard.press("Control+a")
    one.page.keyboard.type("grey")
    one.shows("30 images, page 1 of 1")
    one.page.locator("article").first.focus()
    one.page.keyboard.press("Escape")
    one.shows("120 images, page 1 of 3")


def test_the_pager_by_mouse(opened):
    one = opened()
    assert one.page.locator("#pager button").first.is_disabled()
    one.page.click("text=Next page")
    one.page.click("text=Next page")
    assert one.found.endswith("page 3 of 3") and one.page.locator("#pager button").last.is_disabled()
    one.page.select_option("select[name=mistake]", "unreadable")
    one.shows("1 image, page 1 of 1")
    assert one.page.locator("#pager").is_hidden()
    assert "no letter: cut off at the length limit" in one.page.text_content("article")


def test_hostile_text_shows_as_text(opened):
    one = opened()
    assert one.page.locator("article pre").first.text_content() == ATTACK
    assert one.page.locator("#images script, #images b >> text=finch").count() == 0
    assert one.page.locator("article h3").first.text_content() == NAMES[0]
    assert one.page.locator("article img[onerror]").count() == 0


def test_a_narrow_screen_scrolls_one_way_only(opened):
    one = opened(width=360)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_no_serious_fault_of_accessibility(opened):
    from axe_playwright_python.sync_playwright import Axe

    for width in (1240, 360):
        one = opened(width=width)
        one.page.locator("details").evaluate("part => { part.open = true; }")
        violations = Axe().run(one.page).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert not serious, json.dumps(serious, indent=1)[:3000]


def test_five_thousand_images_open_in_three_seconds(browser, run_folder):  # noqa: F811
    """Pictures of 224 pixels, some 9 kB each, and reasoning of 600 characters."""
    noise = random.Random(0)
    pictures = []
    for _ in range(40):
        picture = Image.effect_noise((224, 168), 40).convert("RGB")
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    text = "<think>" + " ".join(noise.choice(("crest", "bill", "wing")) for _ in range(110)) + "</think>"
    base, trained = (
        [row(m, n, n % 5 < k, choice_text=text) for n in range(5000)] for m, k in (("base", 2), ("trained", 4))
    )
    save(base, trained)
    images = [
        {"image_id": f"{n:016x}", "dataset": "tiny", "class_id": n % 4, "split": "test", "image": pictures[n % 40]}
        | {"width": 224, "height": 168, "file": f"{n}.png", "status": "ok"}
        for n in range(5000)
    ]
    tables.write(tables.IMAGES, pl.DataFrame(images, schema=tables.IMAGES.schema), Path("data/images.parquet"))
    made()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        one = Opened(browser, Path("reports/index.html"))
        one.page.wait_for_function("document.querySelectorAll('#images article').length === 50")
        seconds.append(time.perf_counter() - start)
        begun = time.perf_counter()
        one.page.select_option("select[name=outcome]", "wrong")
        one.shows("1,000 images, page 1 of 20")
        filtered = time.perf_counter() - begun
        assert one.complaints == []
        one.page.close()
    size = Path("reports/index.html").stat().st_size
    print(f"{size:,} bytes, opened in {min(seconds):.2f} s, filtered in {filtered:.2f} s")
    assert size > 40_000_000 and min(seconds) < 3 and filtered < 1
