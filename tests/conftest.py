"""What several tests share: the committed base model as an engine, and a handful of test images."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def base_model() -> str:
    return str(ROOT / "models" / "fieldguide")


@pytest.fixture(scope="session")
def birds():
    """Classes and twelve images a split, one of every fourth species."""
    import polars as pl

    from pipeline.fieldguide.drawn import drawn

    classes, images = drawn(1, 1, 1)
    return classes, images.filter(pl.col("class_id") % 4 == 0).sort("class_id", "split", descending=[False, True])
