"""The report in a real browser: filters, search, keys, hostile text, no request outside, accessible, quick."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from support.project import ROOT
from test_report import ATTACK, CLASSES, NAMES, made, row, run_folder, save, two_sets  # noqa: F401

from pipeline.core import tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Where CI is set, as .ci/run does, a page that nobody has looked at is a failure.
pytestmark = pytest.mark.skipif(not (CHROMIUM or os.environ.get("CI")), reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "no Chromium on this machine, and CI is set: apt-get install -y chromium"
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
        self.page.set_default_timeout(8000)
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

    def open_page(width: int = 1240, place: str = "", changes: dict[int, dict] | None = None) -> Opened:
        base, trained = (
            [row(m, n, right(n), **({"choice_text": ATTACK} if n % 3 == 0 else {})) for n in range(120)]
            for m, right in (("base", lambda n: n < 36), ("trained", lambda n: 12 <= n < 84))
        )
        trained[100] = row("trained", 100, False, letter=None, two_step=None, status="truncated")
        for number, changed in (changes or {}).items():
            base[number] |= changed
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
    one.shows("0 images")
    assert one.cards == 0
    assert one.page.text_content("#images p") == "No test image is all of this: class “[(”."
    one.page.click("#images button")
    one.shows("120 images, page 1 of 3")


AT_THE_IMAGES = "Math.abs(document.getElementById('gallery').getBoundingClientRect().top) < 5"


def test_a_link_of_a_class_brings_its_images_and_no_others(opened, monkeypatch):
    """Search finds "rose" in longer names too; the link means the one class."""
    names = ["rose", "primrose", "blue rose", "rose hip"]
    classes = CLASSES.with_columns(name=pl.Series(names))
    monkeypatch.setattr("test_report.CLASSES", classes)
    tables.write(tables.CLASSES, classes, Path("data/classes.parquet"))
    one = opened()
    one.page.locator("#class-table").evaluate("part => { part.open = true; }")
    follow = "[...document.querySelectorAll('#class-table a')].find(a => a.textContent === 'rose').click()"
    one.page.evaluate(follow)
    one.shows("30 images of this very class, page 1 of 1")
    assert set(one.page.locator("article h3").all_text_contents()) == {"rose"}
    one.page.wait_for_function(AT_THE_IMAGES)
    assert one.page.input_value("input[name=class]") == "rose"
    one.page.evaluate("window.scrollTo(0, 0)")
    one.page.evaluate(follow)
    one.page.wait_for_function(AT_THE_IMAGES)
    one.page.select_option("select[name=outcome]", "right")
    one.shows("18 images of this very class, page 1 of 1")
    again = opened(place=one.page.url.split("#")[1])
    again.shows("18 images of this very class, page 1 of 1")
    one.page.select_option("select[name=outcome]", "")
    one.page.fill("input[name=class]", "ros")
    one.shows("120 images, page 1 of 3")


def test_links_to_sections_leave_the_images_as_they_are(opened):
    one = opened()
    one.page.select_option("select[name=half]", "novel")
    one.page.click(".jumps >> text=Accuracy")
    one.page.wait_for_function("document.getElementById('arms').getBoundingClientRect().top < 5")
    one.shows("60 images, page 1 of 2")
    one.page.click(".jumps >> text=Test images")
    one.page.wait_for_function(AT_THE_IMAGES)
    one.shows("60 images, page 1 of 2")
    one.page.select_option("select[name=outcome]", "right")
    assert "half=novel" in one.page.url and "outcome=right" in one.page.url


def test_an_image_that_is_not_there_is_said_to_be_missing(opened):
    one = opened(place="image=0123abcd")
    one.shows("0 images")
    assert one.page.text_content("#images p").startswith("There is no image 0123abcd in this report")
    one.page.click("#images button")
    one.shows("120 images, page 1 of 3")


def test_why_nothing_was_asked_is_what_happened(opened):
    one_option = row("base", 0, True)["options"][:1]
    silent = {"choice_text": None, "letter": "A", "options": one_option}
    one = opened(changes={0: silent, 4: silent | {"draws": [0] * 5}, 8: silent | {"options": [], "draws": [None] * 5}})
    said = [one.page.locator("article").nth(n).locator("section").first.text_content() for n in (0, 4, 8)]
    assert "one class alone holds the share of the votes that options must hold." in said[0]
    assert "the draws named one class only." in said[1]
    assert "the draws named no class." in said[2]


def test_no_probability_is_one(opened):
    sure = {number: {"choice_probability": p} for number, p in ((1, 0.99996), (2, 0.4321), (4, 0.00001))}
    one = opened(changes=sure)
    said = [one.page.locator("article").nth(n).locator("section").first.text_content() for n in (1, 2, 4)]
    for text, wanted in zip(said, (">0.999", "0.432", "<0.001"), strict=True):
        assert f"with probability {wanted}" in text


def test_the_filter_of_data_sets(browser, run_folder):  # noqa: F811
    two_sets(run_folder)
    made()
    one = Opened(browser, Path("reports/index.html"))
    one.shows("80 images, page 1 of 2")
    of = one.page.locator("article > div:first-child > h3 + p")
    one.page.select_option("select[name=dataset]", "other")
    one.shows("40 images, page 1 of 1")
    assert set(of.all_text_contents()) == {"other, base class", "other, novel class"}
    one.page.fill("input[name=class]", "blue")
    one.shows("10 images, page 1 of 1")
    one.page.evaluate("location.hash = 'exact=blue finch&dataset=tiny'")
    one.shows("10 images of this very class, page 1 of 1")
    assert one.page.input_value("select[name=dataset]") == "tiny"
    assert set(of.all_text_contents()) == {"tiny, base class"}
    assert one.complaints == []
    one.page.close()


@pytest.mark.parametrize(("width", "chart"), [(1240, True), (390, False)])
def test_classes_are_a_chart_where_it_can_be_read_and_else_a_table(opened, width, chart):
    one = opened(width=width)
    assert one.page.locator(".broad").is_visible() is chart
    assert one.page.locator("#class-table table").is_visible() is not chart


def test_names_of_rows_stay_in_sight_on_a_small_screen(opened):
    one = opened(width=360)
    box = one.page.locator(".side .scroll", has_text="Training, two-step").first
    box.evaluate("box => { box.scrollLeft = 40; }")
    assert box.evaluate("box => box.scrollLeft") > 0
    left = "box => box.querySelector('tbody th').getBoundingClientRect().left - box.getBoundingClientRect().left"
    assert box.evaluate(left) >= 0


def test_a_single_image_has_an_address(opened):
    one = opened()
    one.page.locator("article a").nth(7).click()
    one.shows("1 image Show all images")
    assert one.cards == 1
    assert one.page.url.endswith(f"#image={7:016x}")
    again = opened(place=f"image={7:016x}")
    again.shows("1 image Show all images")
    assert again.page.locator("article h3").text_content() == NAMES[3]
    again.page.click("#found button")
    again.shows("120 images, page 1 of 3")


def test_keys(opened):
    one = opened()
    one.page.keyboard.press("ArrowRight")
    one.shows("120 images, page 1 of 3")  # the images are not in view, where arrows may mean something else
    one.page.evaluate("document.getElementById('gallery').scrollIntoView()")
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
    above, below = one.page.locator(".pager").all()
    assert above.locator("button").first.is_disabled() and below.locator("button").first.is_disabled()
    above.locator("text=Next page").click()
    below.locator("text=Next page").click()
    assert one.found.endswith("page 3 of 3") and above.locator("button").last.is_disabled()
    one.page.select_option("select[name=mistake]", "unreadable")
    one.shows("1 image, page 1 of 1")
    assert above.is_hidden() and below.is_hidden()
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
        one.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
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


@pytest.mark.parametrize(("ci", "code", "said"), [("", 0, "1 skipped"), ("1", 1, "apt-get install -y chromium")])
def test_without_chromium_the_page_is_skipped_but_not_in_ci(ci, code, said):
    one = f"{__file__}::test_it_opens_with_the_first_fifty"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", one],
        cwd=ROOT,
        env={"PATH": "/nowhere", "CI": ci},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code and said in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("present", "user", "wanted"),
    [
        (False, 0, ["apt-get update", "apt-get install -y chromium", "make test, CI is 1"]),
        (False, 1000, ["make test, CI is 1"]),
        (True, 0, ["make test, CI is 1"]),
    ],
)
def test_ci_brings_chromium_where_it_is_missing(tmp_path, present, user, wanted):
    """With stand-ins for all that .ci/run calls."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    scripts = {"apt-get": 'echo "apt-get $*"', "make": 'echo "make $*, CI is $CI"', "id": f"echo {user}"}
    for name, script in (scripts | ({"chromium": ":"} if present else {})).items():
        (tmp_path / name).write_text(f"#!{tmp_path}/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "bash", ROOT / ".ci/run"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines() == wanted, done.stderr
