"""What the README says of the stages and commands is what the code says."""

import re

from imports import ROOT
from ruamel.yaml import YAML

README = (ROOT / "README.md").read_text()
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def test_every_stage_stands_in_the_table_with_its_sentence():
    for name, stage in STAGES.items():
        if name != "fieldguide":
            sentence = stage.get("do", stage)["desc"].removesuffix(".")
            assert f"| `{name}` | {sentence} |" in README, name


def test_every_file_that_the_docs_link_to_is_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_numbers_are_those_that_the_benches_wrote():
    for name in ("seeds", "pipeline", "sampling", "download", "training", "evaluate"):
        table = (ROOT / "bench" / "results" / f"{name}.md").read_text().strip()
        assert table in README, f"bench/results/{name}.md and the README differ"


def test_nothing_is_left_to_fill_in():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text()
        assert not re.search(r"^[A-Z]{4,}$|to be measured|TODO|TBD", text, re.MULTILINE), page.name
