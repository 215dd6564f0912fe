"""What an edit reruns: exactly the stages that use the file, as `dvc status` says it."""

import json

import pytest
from support.workspace import call, copy_workspace

PREDICTIONS = {"predict@base", "predict@trained", "baselines"}


@pytest.fixture(scope="module")
def edited(clone, tmp_path_factory):
    """Returns the stages to run again after an edit of one file, and takes the edit back."""
    folder = copy_workspace(clone, tmp_path_factory.mktemp("edited") / "workspace")

    def stages(file: str) -> set[str]:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content + b"\n")
        printed = call(folder, "dvc", "status", "--json")  # and a warning of the frozen stage
        status, _ = json.JSONDecoder().raw_decode(printed)
        (folder / file).write_bytes(content)
        return set(status)

    return stages


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("pipeline/datasets/class_lists/cub.csv", {"download"}),
        ("pipeline/reporting/page/report.html.j2", {"report"}),
        ("pipeline/engines/text_encoders.py", {"options"}),
        ("pipeline/engines/local/tokens.py", {"sample", "train"} | PREDICTIONS),
        ("pipeline/engines/servers/wire.py", {"sample", "evaluate"} | PREDICTIONS),
        ("pipeline/training/order.py", {"train"}),
        ("pipeline/stages/options.py", {"options"}),
        ("prompts/example.yaml", {"sample", "train"} | PREDICTIONS),
        ("pipeline/commands/cost.py", set()),
    ],
)
def test_an_edit_reruns_the_stages_that_use_the_file_and_no_others(edited, file, stages):
    assert edited(file) == stages
