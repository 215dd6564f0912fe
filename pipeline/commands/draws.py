"""Show the draws that are kept, by model and sampler, and the room they take."""

from typing import Any

from pipeline.engines.common.draw_cache import draw_cache_folder, sizes


def line(about: dict[str, Any], images: int, draws: int, size: int) -> str:
    """One shelf in a line: what it holds, from which engine and model, drawn how."""
    engine, sampler = about["engine"], about["sampler"]
    how = " ".join(f"{name}={value}" for name, value in sampler.items())
    held = f"{draws:>9,} draws {images:>7,} images {size / 2**20:>8.1f} MiB"
    return f"{held}  {engine['engine']} {engine['model']} {how}"


def draws() -> None:
    """Show the draws that are kept, by model and sampler, and the room they take."""
    folder, total, taken = draw_cache_folder(), 0, 0
    for about, images, count, size in sizes(folder):
        print(line(about, images, count, size))
        total, taken = total + count, taken + size
    print(f"{total:>9,} draws, {taken / 2**20:.1f} MiB in {folder}")
    print(
        "`python -m pipeline.stages.sample --forget` deletes those of the present settings; "
        "delete the folder to delete all"
    )
