"""Draw docs/fieldguide.png: one bird of each of the 48 species, a genus a row."""

from pathlib import Path

from PIL import Image

from pipeline.datasets.drawing import SIZE, draw, random_bird
from pipeline.datasets.species import GENERA, SPECIES

GAP = 6


def plate() -> Image.Image:
    """Twelve birds a row: two genera side by side, base classes above novel ones."""
    columns, cell = 12, SIZE + GAP
    rows = len(SPECIES) // columns
    sheet = Image.new("RGB", (columns * cell + GAP, rows * cell + GAP), "white")
    for species in SPECIES:
        row, column = divmod(species.class_id, columns)
        sheet.paste(draw(random_bird(species, "plate", 0)), (column * cell + GAP, row * cell + GAP))
    return sheet


if __name__ == "__main__":
    target = Path("docs/fieldguide.png")
    plate().save(target)
    print(f"{target}: {len(SPECIES)} species of {len(GENERA)} genera")
