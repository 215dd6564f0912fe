"""Images per second into the table of images, against a plain Pillow loop; memory; and what a kill leaves.

    python bench/download.py            writes bench/results/download.md

Ours and the two peers take turns on the same archive; a figure is the median over the rounds of the ratio, with least
and most. The pictures are made here: noise with the spectrum of photos, 500 × 375, about as many bytes as CUB's.
"""

import io
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pipeline.datasets import archives, layout, packing
from pipeline.datasets.copies import with_copies
from pipeline.datasets.source import Source

COUNT, ROUNDS = 2000, 3
RESULTS = Path(__file__).parent / "results" / "download.md"


def photo(seed: int, width: int, height: int) -> bytes:
    """A JPEG with amplitudes that fall as 1 / frequency, as those of photos do."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / width)
    grey = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falling, s=(height, width))
    tints = rng.uniform(0.7, 1.3, 3)
    pixels = np.clip(128 + 55 * (grey / grey.std())[..., None] * tints, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def packed(path: Path, count: int, width: int, height: int, different: int) -> None:
    """A .tgz of `count` pictures, `different` of them drawn anew; the others differ in a comment behind the picture."""
    drawn = [photo(seed, width, height) for seed in range(different)]
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(count):
            content = drawn[number % different] + b"%d" % number
            member = tarfile.TarInfo(name(number))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def name(number: int) -> str:
    return f"{number % 100:03}/{number:06}.jpg"


def source(path: Path, count: int, crop: int = 0) -> Source:
    rows = [(name(number), number % 100, ("train", "test")[number % 2]) for number in range(count)]
    names = [f"bird {number}" for number in range(100)]

    def pictures(paths) -> Iterator[tuple[str, bytes]]:
        return archives.members(path, set(paths).__contains__, 2**40)

    return Source("bench", names, layout.table(rows, names), "bird", "none", pictures, crop_bottom=crop)


def ours(path: Path, count: int, folder: Path, max_pixels: int = 401_408, crop: int = 0) -> None:
    """The download stage after its index: pictures checked, hashed and packed into one Parquet file."""
    found = source(path, count, crop)
    with packing.Spool(folder) as spool:
        rows = packing.ingest_pictures(found, found.rows, max_pixels, spool, lambda: None)
        packing.write(with_copies(packing.with_ids(rows), spool.get, 48), spool, folder / "images.parquet")


def plain(path: Path, count: int, folder: Path) -> None:
    """What scripts do: open, convert to RGB, write a JPEG file."""
    with tarfile.open(path) as archive:
        for member in archive:
            with Image.open(archive.extractfile(member)) as picture:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                picture.convert("RGB").save(target, "JPEG", quality=95)


def copying(path: Path, count: int, folder: Path) -> None:
    """The least that checks a picture: decode it, and write its bytes as they are."""
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member).read()
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def seconds(call: Callable[[Path, int, Path], None], path: Path, count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        call(path, count, Path(folder))
        return time.perf_counter() - start


def ratio(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}× ({min(values):.1f}–{max(values):.1f})"


def peak(path: Path, count: int, crop: int) -> tuple[int, float]:
    """MiB at most and seconds of packing in a process of its own."""
    code = (
        f"import resource, sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'bench')!r}]; from download import *\n"
        f"with tempfile.TemporaryDirectory() as folder: ours(Path({str(path)!r}), {count}, Path(folder), crop={crop})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout), time.perf_counter() - start


def killed() -> str:
    """The stage on an archive of 2,000 pictures from a local server, killed 20 times at random."""
    from test_download import killed_and_run_again, serving

    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.chdir(folder)
            with serving() as serve:
                met, same = killed_and_run_again(Path(folder), 2000, 20, serve)
        finally:
            os.chdir(home)
    return f"{'the same bytes' if same else 'OTHER BYTES'}; {met} of 20 kills met the process at work"


def main() -> None:
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "birds.tgz"
        packed(path, COUNT, 500, 375, different=COUNT)
        size = path.stat().st_size / COUNT / 1000
        times: dict[str, list[float]] = {"ours": [], "plain": [], "copying": []}
        for _ in range(ROUNDS):
            for call in (ours, plain, copying):
                times[call.__name__].append(seconds(call, path, COUNT))
        pairs = {peer: list(zip(times["ours"], times[peer], strict=True)) for peer in ("plain", "copying")}
        over = {peer: ratio([theirs / own for own, theirs in found]) for peer, found in pairs.items()}
        rate = COUNT / statistics.median(times["ours"])
        lines += [
            f"| images/s, ours ({COUNT:,} of 500 × 375, {size:.0f} kB each) | {rate:,.0f} |",
            f"| over a plain Pillow loop that writes JPEG files | {over['plain']} |",
            f"| over a loop that decodes and copies the bytes | {over['copying']} |",
        ]
        for title, count, width, height, crop in (
            ("CUB's 11,788 images, 500 × 375", 11_788, 500, 375, 0),
            ("Aircraft's 10,000 images, 1024 × 700, cut and scaled", 10_000, 1024, 700, 20),
        ):
            packed(path, count, width, height, different=100)
            most, took = peak(path, count, crop)
            lines.append(f"| {title}: peak MiB, seconds | {most:,}, {took:.0f} |")
    lines.append(f"| an archive of 2,000 images, killed 20 times at random, then run to its end | {killed()} |")
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}"
    head = f"`python bench/download.py` on {machine}, Pillow {Image.__version__}, polars {pl.__version__}:\n\n"
    lines = ["| what | measured |", "|---|---|", *lines]
    RESULTS.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
