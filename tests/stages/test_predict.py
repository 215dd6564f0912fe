"""Step 1 and step 2 around a scripted engine: every image keeps its row, whatever the model says."""

from dataclasses import replace

import polars as pl
import pytest
from support.scripted import CLASSES, Scripted, said

from pipeline.core import tables
from pipeline.core.engine import GREEDY, Completion
from pipeline.core.params import UserError, load_params
from pipeline.method.class_lists import ClassLists
from pipeline.method.image_sets import training_images, validation_images
from pipeline.method.predictions import prediction_table
from pipeline.method.sampling import draw_samples
from pipeline.method.two_steps import two_steps
from pipeline.stages.predict import PredictParams
from pipeline.stages.sample import SampleParams


@pytest.mark.parametrize(
    ("class_list", "base", "novel"),
    [
        ("none", "", ""),
        ("subset", "red wren, blue wren\n", "grey owl, snow owl\n"),
        ("union", *["red wren, blue wren, grey owl, snow owl\n"] * 2),
    ],
)
def test_the_open_question_shows_the_class_names_that_are_wanted(class_list, base, novel):
    lists, wanted = ClassLists(CLASSES), asked(PredictParams, class_list=class_list, prompt="brief")
    for subset, shown in (("base", base), ("novel", novel)):
        assert wanted.question(lists, "d", subset) == f"{shown}Which bird is this ?"


def asked(kind, **values):
    """The settings of params.yaml, four draws."""
    return replace(load_params(kind), num_samples=4, seed=0, **values)


def images(**truths):
    return pl.DataFrame(
        [
            {"image_id": i, "dataset": "d", "class_id": c, "split": s, "file": i, "status": "ok", "image": b""}
            for i, (c, s) in truths.items()
        ],
        schema=tables.IMAGES.schema,
    )


def predicted(draws, choice, truth=0, limit=1.0, orders=1):
    engine = Scripted({"x": draws}, {"x": choice})
    wanted = asked(PredictParams, topk=3, max_error_rate=limit)
    found, choices = two_steps(engine, images(x=(truth, "test")), ClassLists(CLASSES), wanted, orders)
    table = prediction_table(found, choices, "base", limit)
    assert table.height == 1, "every image keeps its row"
    return table.row(0, named=True), engine.asked_twice


WRENS = [said("red wren"), said("blue wren"), said("Blue-Wren"), said("Troglodytes ruber")]


def test_two_steps():
    row, twice = predicted(WRENS, said("blue wren"))
    assert twice == ["x"]
    assert row["draws"] == [0, 1, 1, 0]
    assert (row["one_step"], row["vote"], row["two_step"]) == (0, 0, 1), "a tie goes to the first drawn"
    assert [o["class_id"] for o in row["options"]]["ABC".index(row["letter"])] == 1
    assert row["status"] == "ok"


@pytest.mark.parametrize(
    ("choice", "status", "reason"),
    [
        ("<think>t</think>", "no_answer", "no answer"),
        (said("Z"), "off_list", "not a letter on offer"),
        (said("A or B"), "off_list", "two letters"),
        ("<think>t…", "truncated", "cut off"),
        (Completion("x", 0, "", 0, False, error="timeout"), "error", "the engine failed"),
    ],
)
def test_a_choice_that_cannot_be_read_is_wrong_and_says_why(choice, status, reason):
    row, _ = predicted(WRENS, choice)
    assert (row["letter"], row["two_step"], row["status"]) == (None, None, status), reason
    assert row["vote"] == 0, "step 1 stands"


class Recorded(Scripted):
    """A scripted engine that keeps the penalties by step and draw."""

    def __init__(self, draws, choices):
        super().__init__(draws, choices)
        self.penalties, self.calls = {}, 0

    def draw(self, requests, sampler):
        self.calls += 1
        for request in requests:
            step = 2 if "\n" in request.question else 1
            self.penalties |= {(step, draw): sampler.repetition_penalty for draw in request.draws}
        yield from super().draw(requests, sampler)


@pytest.mark.parametrize(("greedy", "calls"), [(1.05, 3), (1.1, 2)])
def test_draws_greedy_answer_and_choice_have_their_own_repetition_penalties(greedy, calls):
    """The greedy answer shares the batch of the draws where its penalty is theirs."""
    engine = Recorded({"x": WRENS}, {"x": said("A")})
    settings = {"repetition_penalty": 1.1, "greedy_repetition_penalty": greedy, "choice_repetition_penalty": 1.2}
    steps, _ = two_steps(engine, images(x=(0, "test")), ClassLists(CLASSES), asked(PredictParams, **settings))
    assert engine.penalties == {(1, GREEDY): greedy, **{(1, n): 1.1 for n in range(4)}, (2, GREEDY): 1.2}
    assert engine.calls == calls
    assert (steps[0].greedy.class_id, len(steps[0].draws)) == (0, 4)


def test_one_option_is_the_answer_and_is_not_asked_about():
    row, twice = predicted([said("blue wren")] * 4, None)
    assert twice == []
    assert (row["choice_text"], row["letter"], row["two_step"], row["status"]) == (None, "A", 1, "ok")


def test_no_option_is_a_wrong_answer():
    row, twice = predicted(["nothing"] * 4, None)
    assert twice == []
    assert (row["vote"], row["two_step"], row["status"], row["options"]) == (None, None, "no_answer", [])


def test_the_truth_is_never_put_in_at_test_time():
    row, _ = predicted([said("blue wren"), said("blue wren"), said("dodo"), said("dodo")], None, truth=0)
    assert [o["class_id"] for o in row["options"]] == [1]


def test_names_of_the_other_half_do_not_count():
    row, _ = predicted([said("grey owl"), said("red wren"), said("snow owl"), said("red wren")], None, truth=1)
    assert row["draws"] == [None, 0, None, 0]
    assert row["greedy_status"] == "off_list"


def test_sampling_keeps_every_draw_with_its_status():
    failed = Completion("a", 1, "", 0, False, error="timeout")
    engine = Scripted({"a": [said("red wren"), failed, said("dodo"), "cut off…"]}, {})
    table = draw_samples(engine, images(a=(0, "train")), CLASSES, asked(SampleParams, max_error_rate=0.25))
    assert table["status"].to_list() == ["ok", "error", "off_list", "truncated"]
    assert table["class_id"].to_list() == [0, None, None, None]
    assert table["answer"].to_list() == ["red wren", None, "dodo", None]
    assert table["text"][0] == said("red wren"), "verbatim"


def test_only_training_images_of_base_classes_are_sampled():
    every = images(a=(0, "train"), b=(0, "test"), c=(2, "train"), d=(1, "val"), e=(1, "train"))
    assert training_images(every, CLASSES)["image_id"].to_list() == ["a", "e"]


FAILED = Completion("x", 0, "", 0, False, error="timeout")


def test_too_many_errors_stop_sampling():
    failed = Completion("a", 3, "", 0, False, error="timeout")
    engine = Scripted({"a": [said("red wren")] * 3 + [failed]}, {})
    with pytest.raises(UserError, match=r"1 of 4 completions failed .limit 24 %., the first with 'timeout'"):
        draw_samples(engine, images(a=(0, "train")), CLASSES, asked(SampleParams, max_error_rate=0.24))


def test_errors_of_either_step_stop_prediction():
    with pytest.raises(UserError, match="predict: 5 of 6 completions failed"):
        predicted([FAILED] * 4, None, limit=0.0)
    with pytest.raises(UserError, match="predict: 1 of 6 completions failed"):
        predicted(WRENS, FAILED, limit=0.0)


def test_an_image_whose_draws_all_failed_says_error():
    row, _ = predicted([FAILED] * 4, None, limit=1.0)
    assert (row["status"], row["greedy_status"], row["draw_statuses"]) == ("error", "error", ["error"] * 4)


def shown(question):
    return [line.partition(". ")[2] for line in question.splitlines() if line[1:3] == ". "]


def test_every_order_turns_the_options_by_a_place():
    orders = []

    def always_the_first(question):
        orders.append(shown(question))
        return said("A")

    row, twice = predicted(WRENS, always_the_first, orders=5)
    first = [option["name"] for option in row["options"]]
    assert orders == [first, first[::-1]], "no more orders than options"
    assert twice == ["x", "x"]
    assert [row["two_step"], *row["rotated"]] == [option["class_id"] for option in row["options"]]
    assert row["rotated_tokens"] == [3]
    assert row["letter"] == "A"


def test_a_choice_by_the_mark_is_the_same_in_every_order():
    row, _ = predicted(WRENS, lambda question: said("ABC"[shown(question).index("blue wren")]), orders=2)
    assert (row["two_step"], row["rotated"]) == (1, [1])


def test_one_option_is_rotated_nowhere():
    row, _ = predicted([said("blue wren")] * 4, None, orders=5)
    assert (row["rotated"], row["rotated_tokens"], row["choice_tokens"]) == ([], [], 0)


def test_an_order_that_cannot_be_read_is_no_answer_in_it():
    row, _ = predicted(WRENS, lambda question: said("A") if shown(question)[0] == "red wren" else "…", orders=2)
    assert sorted([row["two_step"], *row["rotated"]], key=str) == [0, None]


def test_how_sure_the_model_was_is_kept():
    sure = Completion("x", 0, said("A"), 3, True, probability=0.75)
    row, _ = predicted([replace(sure, text=said("red wren"), probability=0.5), *WRENS[1:]], sure)
    assert (row["greedy_probability"], row["choice_probability"]) == (0.5, 0.75)
    assert (row["greedy_tokens"], row["draw_tokens"], row["choice_tokens"]) == (3, [3] * 4, 3)


def test_decisions_are_made_on_validation_images_of_base_classes():
    every = images(a=(0, "val"), b=(0, "val"), c=(1, "val"), d=(2, "val"), e=(0, "test"), f=(0, "train"))
    assert validation_images(every, CLASSES, 9)["image_id"].to_list() == ["a", "b", "c"]
    assert validation_images(every, CLASSES, 2)["image_id"].to_list() == ["a", "c"], "spread over the classes"
    assert validation_images(every, CLASSES, 0).height == 0


def stopped(draws, rule, confidence=0.9):
    """Draws of an image until `rule` finds them enough, and how many were asked for."""
    wanted = replace(
        asked(PredictParams, topk=3), num_samples=len(draws), early_stop=rule, early_stop_confidence=confidence
    )
    engine = Scripted({"x": draws}, {"x": said("A")})
    found, choices = two_steps(engine, images(x=(0, "test")), ClassLists(CLASSES), wanted, 1, wanted.stop_rule())
    return prediction_table(found, choices, "base", 1.0).row(0, named=True)


def test_drawing_stops_once_the_vote_is_decided():
    row = stopped([said("red wren")] * 4 + [said("blue wren")] * 16, "vote")
    assert row["draws"] == [0] * 4 and (row["vote"], row["choice_text"]) == (0, None)
    assert len(row["draw_texts"]) == len(row["draw_tokens"]) == 4
    assert len(stopped([said("red wren"), said("blue wren")] * 10, "vote")["draws"]) == 20
    assert len(stopped([said("red wren")] * 20, "vote", confidence=0.99)["draws"]) == 8, "1 − 2⁻⁹ and not 1 − 2⁻⁵"


def test_drawing_stops_once_the_order_of_the_options_is_settled():
    # After 16 draws 3 options lead by more than 4 votes, and so does the last of them what was never named.
    seen = [said("red wren")] * 10 + [said("blue wren")] * 5 + [said("dodo")] * 5
    assert len(stopped(seen, "order")["draws"]) == 20, "a third class could still be named"
    assert len(stopped(seen, "never")["draws"]) == 20


def test_a_share_of_the_votes_is_settled_by_the_last_draw_only():
    """9 × a, 4 × b, 3 × a more settle the order, and yet three times b would have made b an option."""
    wanted = replace(asked(PredictParams, topk=3), early_stop="order", mass=0.9)
    with pytest.raises(UserError, match=r"early_stop is order, which cannot be combined with options\.mass = 0\.9"):
        wanted.stop_rule()


def test_draws_that_stop_early_are_those_that_come_first():
    draws = [said("red wren")] * 3 + [said("blue wren")] + [said("red wren")] * 16
    row, full = stopped(draws, "vote"), stopped(draws, "never")
    count = len(row["draws"])
    assert 4 < count < 20 and row["draws"] == full["draws"][:count]
    assert row["one_step"] == full["one_step"] == 0


def test_all_classes_of_the_data_set_can_be_labels():
    """An image of a base class: draws that name novel classes count, and can be options, in the label space union."""
    draws = [said("grey owl"), said("grey owl"), said("grey owl"), said("red wren")]
    engine, settings = Scripted({"x": draws}, {"x": "<answer> A </answer>"}), asked(PredictParams, topk=3)
    tables_of = {}
    for space in ("subset", "union"):
        steps, choices = two_steps(engine, images(x=(0, "test")), ClassLists(CLASSES, space), settings, 1)
        tables_of[space] = prediction_table(steps, choices, "base", 1.0).row(0, named=True)
    owl = CLASSES.filter(name="grey owl")["class_id"][0]
    assert tables_of["subset"]["draws"] == [None, None, None, 0] and tables_of["subset"]["vote"] == 0
    assert tables_of["union"]["draws"] == [owl, owl, owl, 0] and tables_of["union"]["vote"] == owl
    assert [len(tables_of[space]["options"]) for space in ("subset", "union")] == [1, 2]
    lists = ClassLists(CLASSES, "union")
    assert lists.names_in("d", "base") == ClassLists(CLASSES).names_in("d", "base"), "the prompt shows the same names"
