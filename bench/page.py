"""The page of 5,000 test images in a real browser: its size, and the seconds to write, open and filter it.

    python bench/page.py            writes bench/results/page.md; needs Chromium

Pictures of 224 × 168 pixels and reasoning of 600 characters. Times are medians, with the least and the most.
"""

import io
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.report_runs import image_rows, report_page, row, save, write_run

from pipeline.core import tables

IMAGES, ROUNDS = 5000, 3
RESULTS = Path(__file__).resolve().parent / "results" / "page.md"


def write_inputs() -> None:
    """What the stage report reads, in the current folder."""
    rng, pictures = random.Random(0), []
    for _ in range(40):
        file = io.BytesIO()
        Image.effect_noise((224, 168), 40).convert("RGB").save(file, "JPEG", quality=90)
        pictures.append(file.getvalue())
    text = "<think>" + " ".join(rng.choice(("crest", "bill", "wing")) for _ in range(110)) + "</think>"
    write_run()
    save(*([row(m, n, n % 5 < k, choice_text=text) for n in range(IMAGES)] for m, k in (("base", 2), ("trained", 4))))
    tables.write(tables.IMAGES, image_rows(IMAGES, pictures), Path("data/images.parquet"))


def open_and_filter(browser, path: Path) -> tuple[float, float]:
    """Seconds until the first 50 images are shown, and seconds that a filter takes."""
    page = browser.new_page(viewport={"width": 1240, "height": 900})
    start = time.perf_counter()
    page.goto(path.absolute().as_uri())
    page.wait_for_function("document.querySelectorAll('#images article').length === 50")
    until_shown = time.perf_counter() - start
    start = time.perf_counter()
    page.select_option("select[name=outcome]", "wrong")
    page.wait_for_function("document.getElementById('count').textContent === '1,000 images, page 1 of 20'")
    until_filtered = time.perf_counter() - start
    page.close()
    return until_shown, until_filtered


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("no Chromium on this machine; apt-get install -y chromium")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        os.chdir(scratch)
        write_inputs()
        start = time.perf_counter()
        report_page()
        seconds = time.perf_counter() - start
        browser, path = (
            driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]),
            Path("reports/index.html"),
        )
        times = [open_and_filter(browser, path) for _ in range(ROUNDS)]
        version, size = browser.version, path.stat().st_size
        browser.close()
        os.chdir(ROOT)
    opening, filtering = ([pair[place] for pair in times] for place in (0, 1))
    lines = [
        f"`python bench/page.py` on {os.cpu_count()} CPU cores, {platform.machine()}, Chromium {version}; "
        f"{IMAGES:,} test images, two models:",
        "",
        "| what | measured |",
        "|---|---|",
        f"| size, MB | {size / 1e6:.0f} |",
        f"| seconds to write | {seconds:.1f} |",
        f"| seconds to open (goal: less than 3) | {spread(opening)} |",
        f"| seconds to filter (goal: less than 1) | {spread(filtering)} |",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
