"""Which caveats a run has, and that a good one has few."""

import re

import polars as pl
import pytest
from support.report_runs import predictions, results_of, row

from pipeline.reporting.caveats import ONE_SEED, caveats
from pipeline.reporting.run_results import RunResults

MODELS = ("base", "trained")
NO_LETTERS = pl.DataFrame(
    schema=dict.fromkeys(("model", "letter"), pl.String) | {"chosen": pl.Int64, "truth": pl.Int64}
)


def caveats_of(base: list[dict], trained: list[dict]) -> list[str]:
    return caveats(results_of(base + trained), predictions(base + trained))


def many(model: str, right, **changes) -> list[dict]:
    return [row(model, n, right(n), **changes) for n in range(400)]


def test_a_good_run_has_only_the_caveat_of_its_one_seed():
    def mixed(model, share):
        rows = many(model, lambda n: n % 10 < share)
        for one in rows[::2]:  # the truth is B as often as A, and answered as often
            one["options"] = one["options"][::-1]
            one["letter"] = {"A": "B", "B": "A"}[one["letter"]]
        return rows

    texts = caveats_of(mixed("base", 2), mixed("trained", 8))
    assert [text for text in texts if "draws name no class" not in text] == [ONE_SEED]


@pytest.mark.slow
def test_few_images_failures_and_biases():
    few = caveats_of([row("base", n, n < 5) for n in range(40)], [row("trained", n, n < 6) for n in range(40)])
    assert few[0] == (
        "Few test images: 20 of base classes and 20 of novel classes. Consider the intervals before the values."
    )
    pattern = (
        r"The change by training on base classes is not significant: \+\d\S* points \(95 % interval \S* to \+\S*\); "
        r"minimum detectable difference \d\S* points at 20 images\."
    )
    assert any(re.fullmatch(pattern, one) for one in few)
    failure = {"letter": None, "two_step": None, "status": "truncated"}
    failed = caveats_of(many("base", lambda n: True), many("trained", lambda n: True, **failure))
    assert "After training: 400 of 400 second steps gave no letter (400 truncated)." in failed
    biased = caveats_of(many("base", lambda n: False, letter="B"), many("trained", lambda n: True))
    assert "Before training: the model prefers the letter B: chosen in 100% of the questions, right in 0%." in biased
    assert "Before training: 20% of the draws name no class of the list." in biased


def test_a_significant_gain_has_no_caveat():
    """Even where a true gain of this size would often be missed."""
    differences = pl.DataFrame(
        [
            {"first": "base two_step", "second": "trained two_step", "dataset": "all", "subset": subset, "n": 288}
            | {"difference": 0.05, "low": low, "high": 0.09, "detectable": 0.08}
            for subset, low in (("base", 0.01), ("novel", -0.01))
        ]
    )
    details = {
        model: {"two_step": {"n_base": 288, "n_novel": 288}, "letter_choice": {"flips": 0.1}} for model in MODELS
    }
    results = RunResults(details, {"differences": differences, "letters": NO_LETTERS}, {})
    rows = predictions([row("base", 0, True, draws=[0])])
    assert caveats(results, rows) == [
        "The change by training on novel classes is not significant: +5.0 points (95 % interval -1.0 to +9.0); "
        "minimum detectable difference 8.0 points at 288 images.",
        ONE_SEED,
    ]
    assert caveats(results, rows, trained=False) == []


def test_flips_and_saturated_confidence():
    flipped = caveats_of(many("base", lambda n: n % 2, rotated=[0, 1, 2, 3]), many("trained", lambda n: n % 2))
    assert "Before training: in 100% of the questions the answer depends on the order of the options." in flipped
    assert not any(one.startswith("After training: in") for one in flipped)
    sure = caveats_of(many("base", lambda n: n % 2), many("trained", lambda n: n % 2, choice_probability=0.999))
    assert [one for one in sure if "as a confidence" in one] == [
        "After training: in 100% of the questions the model gives its letter a probability of 0.99 or more, right or "
        "wrong. Do not use this probability as a confidence."
    ]
