"""The training data: enough questions for a step."""

from dataclasses import replace

import pytest
from support.training import DEFAULTS, question, questions

from pipeline.core.params import UserError
from pipeline.training.examples import require_enough


def test_fewer_questions_than_a_step_needs_are_refused():
    rows = questions(question(0, 0, 1))
    with pytest.raises(UserError, match=r"1 question cannot fill a step of train\.prompts_per_step = 16"):
        require_enough(rows, DEFAULTS)
    require_enough(rows, replace(DEFAULTS, prompts_per_step=1))
