"""What several tests share: the committed base model, and a handful of test images."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SLOW = ("end_to_end", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)


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
