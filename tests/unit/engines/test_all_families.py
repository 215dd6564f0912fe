"""Every image-text-to-text family of transformers: how it draws, as docs/families.csv says."""

import csv
import os

import pytest
from support.families import family_names, outcome, packages
from support.project import ROOT

pytestmark = pytest.mark.slow

TABLE = ROOT / "docs" / "families.csv"
WANTED = os.environ.get("DIVEK_FAMILIES", "")
FEW = ("qwen3_vl", "qwen3_5", "gemma4", "paligemma", "smolvlm")
REQUIRED = (
    *("qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma3", "gemma4", "internvl", "smolvlm", "lfm2_vl", "glm46v", "mistral3"),
    *("idefics3", "llava_onevision"),
)


def table() -> dict[str, tuple[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["family"]: (row["how"], row["reason"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", family_names() if WANTED else FEW)
def test_a_family_draws_as_the_table_says(name, tmp_path):
    """DIVEK_FAMILIES=1 tries all of them, and DIVEK_FAMILIES=write writes the table."""
    for package in packages(name):
        pytest.importorskip(package)
    found = outcome(name, tmp_path / "model")
    if WANTED == "write":
        write(table() | {name: found} if TABLE.is_file() else {name: found})
    assert table()[name] == found


def write(rows: dict[str, tuple[str, str]]) -> None:
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("family", "how", "reason"))
        writer.writerows((name, *row) for name, row in sorted(rows.items()))


def test_the_table_has_every_family_and_thirty_of_them_work():
    rows = table()
    assert sorted(rows) == family_names()
    working = {name for name, (how, _) in rows.items() if how != "no"}
    assert len(working) >= 30
    assert working.issuperset(REQUIRED)
    assert all(reason for how, reason in rows.values() if how != "shared"), "and it says why"
