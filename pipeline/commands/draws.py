"""Show the cached draws by model and sampler, and their size on disk."""

from typing import Any

from pipeline.core.terminal import printable
from pipeline.engines.common.draw_cache import draw_cache_folder, sizes


def line(about: dict[str, Any], images: int, draws: int, size: int) -> str:
    """One draw cache as a line: its size, then engine, model and sampler."""
    engine, sampler = about["engine"], about["sampler"]
    settings = " ".join(f"{name}={value}" for name, value in sampler.items())
    counts = f"{draws:>9,} draws {images:>7,} images {size / 2**20:>8.1f} MiB"
    chat = f" chat={engine['chat']}" if "chat" in engine else ""
    return f"{counts}  {engine['engine']} {engine['model']} {settings}{chat}"


def draws() -> None:
    """Show the cached draws by model and sampler, and their size on disk."""
    folder, total, total_size = draw_cache_folder(), 0, 0
    for about, images, count, size in sizes(folder):
        print(printable(line(about, images, count, size)))
        total, total_size = total + count, total_size + size
    print(f"{total:>9,} draws, {total_size / 2**20:.1f} MiB in {folder}")
    print(
        "`python -m pipeline.stages.sample --forget` deletes those of the current settings; "
        "delete the folder to delete all"
    )
