"""The order of the questions: every pass complete, no question twice in a step, the same after an interruption."""

import pytest

from pipeline.training.order import Order


@pytest.mark.parametrize(("questions", "prompts"), [(10, 3), (6, 6), (7, 1), (16, 4)])
def test_every_pass_has_each_question_once_and_no_step_has_one_twice(questions, prompts):
    order = Order(questions, prompts, batches=12, seed=3)
    in_pass = questions // prompts
    passes = [[q for n in range(p * in_pass, (p + 1) * in_pass) for q in order.batch(n)] for p in range(3)]
    for numbers in passes:
        assert len(set(numbers)) == len(numbers) == in_pass * prompts and set(numbers) <= set(range(questions))
    assert questions == 6 or passes[0] != passes[1], "another order in every pass"
    assert [order.batch(n) for n in range(12)] != [Order(questions, prompts, 12, seed=4).batch(n) for n in range(12)]


def test_the_loader_gets_groups_and_repeats():
    order = Order(5, 2, batches=2, generations=3, repeats=2, seed=0)
    first, second = order.batch(0), order.batch(1)
    group = lambda batch: [q for q in batch for _ in range(3)]  # noqa: E731
    assert list(order) == group(first) * 2 + group(second) * 2 and len(order) == len(list(order))


def test_a_later_round_continues_the_order():
    whole = list(Order(10, 3, batches=8, seed=3))
    assert whole == list(Order(10, 3, batches=5, seed=3)) + list(Order(10, 3, batches=3, seed=3, first=5))


def test_fewer_questions_than_a_step_needs_are_refused():
    with pytest.raises(ValueError, match="3 questions do not fill a step of 4"):
        Order(3, 4, 1)
