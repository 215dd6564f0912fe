"""What an edit reruns: exactly the stages that use the file, as `dvc status` says it."""

import json

import pytest
from support.workspace import call

ALL = ["download", "sample", "options", "filter", "train", "predict@base", "predict@trained", "baselines"]


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("pipeline/datasets/class_lists/cub.csv", ["download"]),
        ("pipeline/reporting/page/report.html.j2", ["report"]),
        ("pipeline/engines/wire.py", ["sample", "train", "predict@base", "predict@trained", "baselines", "evaluate"]),
        ("pipeline/engines/text_encoders.py", ["sample", "options", "train", "predict@base", "predict@trained"]),
        ("pipeline/training/order.py", ["train"]),
        ("pipeline/stages/options.py", ["options"]),
        ("pipeline/commands/cost.py", []),
        ("tests/conftest.py", []),
    ],
)
def test_an_edit_reruns_the_stages_that_use_the_file(workspace, file, stages):
    with (workspace / file).open("a") as lines:
        lines.write("\n")
    status = json.loads(call(workspace, "dvc", "status", "--json"))
    changed = [stage for stage, about in status.items() if any("changed deps" in one for one in about)]
    assert set(stages) <= set(changed)
    assert set(changed) <= set(stages) | {"baselines", "evaluate"} if "engines" in file else changed == stages
