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


def test_nothing_is_left_to_fill_in():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        assert not re.search(r"^[A-Z]{4,}$", page.read_text(), re.MULTILINE), page.name
