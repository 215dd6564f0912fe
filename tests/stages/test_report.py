"""The report: right numbers, every image, nothing from outside, and no text of a model read as HTML."""

import base64
import hashlib
import re
from pathlib import Path

import polars as pl
import pytest
from support.report_runs import (
    ATTACK,
    NAMES,
    PARAMS,
    Elements,
    embedded_images,
    evaluate,
    invoke,
    report_page,
    row,
    save,
    write_two_sets,
)

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.reporting.gallery import KINDS
from pipeline.reporting.html_page import PAGE
from pipeline.reporting.numbers import points


def test_numbers_on_the_page_are_those_of_the_details(run_folder):
    words = Elements(report_page()).words
    # 12 of 40 before and 24 of 40 after, as many in each subset.
    assert "DiVE-k training gained 30.0 points" in words
    assert "From 30.00 % to 60.00 %" in words
    intervals = r" [\d.]+–[\d.]+"
    assert re.search(f"Two-step 30.0{intervals} 30.0{intervals} 30.0{intervals} Cascade", words)
    assert re.search(f"Two-step 60.0{intervals} 60.0{intervals} 60.0{intervals} Cascade", words)
    assert re.search(r"Training, two-step \+30.0 .* \+30.0 .* \+30.0 .* Training, one-step", words)
    assert "Before training 20 base + 20 novel images" in words
    assert re.search(f"pass@K\\) 100.0{intervals} 100.0", words)
    assert "After training 60.0 50.0 0.0 40 of 40" in words, "letter choice, chance with two options, flips, n"
    assert "before training 39 ok, 1 truncated" in words
    for setting in ("tiny", "some/model", "Seed 7", "Draws per image, K 5", "Maximum number of options, k 3"):
        assert setting in words
    digest = hashlib.md5(Path("reports/details.json").read_bytes()).hexdigest()
    assert f"MD5 of reports/details.json {digest[:10]}" in words


def test_upper_bounds_have_a_table_of_their_own(run_folder):
    html = report_page()
    ways, bounds = html.index('id="ways"'), html.index('id="bounds"')
    assert ways < html.index(">Two-step, rotated</th>") < bounds < html.index(">Truth among the draws (pass@K)</th>")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method: divek": "method: sft"}, ["Supervised fine-tuning gained 30.0", "Training SFT: image to class name"]),
        ({"method: divek": "method: virft"}, ["ViRFT training gained 30.0", "Training ViRFT: open question, GRPO"]),
        (
            {"strategy: topk": "strategy: random"},
            ["Training on options of random base classes gained", "Options in training random base classes"],
        ),
        ({"method: divek": "method: none"}, ["Training was switched off: both models are the same", "Training none"]),
        ({"protocol: official": "protocol: coop"}, ["Splits of the data set protocol coop"]),
        ({"shots: 0": "shots: 4"}, ["Training images per class 4, training on all classes"]),
        (
            {"partial: false": "partial: true"},
            ["Images a part of the data set (data.partial)", "A part of the data set was used (data.partial)"],
        ),
        ({"class: 0": "class: 9"}, ["Images used at most 9 per class and split"]),
    ],
)
def test_the_first_screen_says_what_was_run(run_folder, settings, expected):
    text = PARAMS
    for old, new in settings.items():
        text = text.replace(old, new)
    Path("params.yaml").write_text(text, encoding="utf-8")
    words = Elements(report_page()).words
    for one in expected:
        assert one in words
    assert ("One training run with one seed" in words) is ("method: none" not in text)
    assert "DiVE-k training gained" not in words or ("method: divek" in text and "strategy: topk" in text)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    words = Elements(report_page()).words
    assert "Training DiVE-k: multiple choice, GRPO" in words and not any(one in words for one in expected)


def test_the_gain_has_its_interval_and_is_not_significant_where_that_covers_zero(run_folder):
    gain = pl.read_csv("reports/tables/differences.csv").filter(
        first="base two_step", second="trained two_step", dataset="all", subset="hm"
    )
    low, high = (points(gain[name][0]) for name in ("low", "high"))
    words = Elements(report_page()).words
    assert f"The 95 % interval of the change is {low} to {high} points." in words and "it is not" not in words
    save([row("base", n, n % 5 < 2) for n in range(40)], [row("trained", n, (n + n // 20) % 5 < 2) for n in range(40)])
    words = Elements(report_page()).words
    assert "DiVE-k training changed two‑step accuracy by" in words
    assert "points; it is not significant." in words


def test_each_data_set_has_its_accuracies_gains_and_classes(run_folder):
    write_two_sets()
    html = report_page()
    words = Elements(html).words
    assert "Ways to answer, all data sets" in words and "DiVE-k training gained 25.0 points" in words
    of = {
        name: re.search(f"{name} alone(.*?)Gains, points, {name}(.*?)Second step", words) for name in ("tiny", "other")
    }
    assert re.search(r"Two-step 60.0 .* 60.0", of["tiny"][1]) and re.search(r"Two-step 40.0 .* 40.0", of["other"][1])
    assert "Training, two-step +30.0" in of["tiny"][2] and "Training, two-step +20.0" in of["other"][2]
    assert "tiny, base classes" in words and "other, novel classes" in words
    assert re.search(r"blue finch other base 10 20.0 40.0 \+20.0", words), "with its data set, and its gain"
    links = [attributes["href"] for tag, attributes in Elements(html).tags if tag == "a"]
    assert {"#exact=blue%20finch&dataset=tiny", "#exact=blue%20finch&dataset=other"} <= set(links)


def test_intervals_are_those_of_the_table_of_accuracies(run_folder):
    words = Elements(report_page()).words
    table = pl.read_csv("reports/tables/accuracies.csv").filter(pl.col("metric") == "two_step")
    for cell in table.filter(pl.col("subset") != "total").iter_rows(named=True):
        assert f"{100 * cell['accuracy']:.1f} {100 * cell['low']:.1f}–{100 * cell['high']:.1f}" in words


def test_a_loss_is_called_a_loss(run_folder):
    save([row("base", n, n < 32) for n in range(40)], [row("trained", n, n < 20) for n in range(40)])
    words = Elements(report_page()).words
    assert "DiVE-k training lost 30.0 points" in words
    assert re.search(r"Training, two-step −30.0", words)


def test_every_image_is_there_with_the_answers_of_both(run_folder):
    index, images = embedded_images(report_page())
    assert index["models"] == ["Before training", "After training"] and len(index["images"]) == len(images) == 40
    assert [c["name"] for c in index["classes"]] == NAMES
    for number, ((image_id, class_number, *kinds), image) in enumerate(zip(index["images"], images, strict=True)):
        assert image_id == f"{number:016x}" and class_number == number % 4
        outcomes = ["right" if is_right else "wrong letter" for is_right in (number < 12, 4 <= number < 28)]
        assert kinds == ([3, 1] if number == 38 else [KINDS.index(outcome) for outcome in outcomes])
        before = image["answers"][0]
        assert before["votes"] == [[number % 4, 3], [(number + 1) % 4, 1]] and before["draws"] == 5
        assert before["options"] == [number % 4, (number + 1) % 4]
        assert image["picture"].startswith("data:image/webp;base64,")


def test_what_a_model_wrote_cannot_leave_its_script_element(run_folder):
    save(*([row(m, n, n % 3 == 0, choice_text=ATTACK) for n in range(40)] for m in ("base", "trained")))
    html = report_page()
    elements = Elements(html)
    assert html.lower().count("<script") == html.lower().count("</script") == 3, (
        "index, chunk, and the script of the page"
    )
    assert "<!--" not in html and "onerror" not in {name for _, attributes in elements.tags for name in attributes}
    _, images = embedded_images(html)
    assert {answer["text"] for image in images for answer in image["answers"]} == {ATTACK}, "nothing is lost"
    assert "<b>finch" not in html and "red <b>finch</b>" in elements.text


def test_nothing_is_loaded_and_only_its_own_script_runs(run_folder):
    html = report_page()
    elements = Elements(html)
    addresses = [
        (tag, attributes[name])
        for tag, attributes in elements.tags
        for name in ("src", "href", "srcset", "data", "action", "xlink:href")
        if name in attributes
    ]
    outside = {value for _, value in addresses if not value.startswith(("#", "data:"))}
    assert outside == {"https://arxiv.org/abs/2511.18305"}
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in elements.tags}
    assert not re.search(r"url\(|@import", html)
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = (PAGE / "gallery.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert script in html


def test_every_chart_has_words(run_folder):
    tags = Elements(report_page()).tags
    charts = [attributes["aria-label"] for tag, attributes in tags if tag == "svg" and "aria-label" in attributes]
    assert [label.split(",")[0] for label in charts] == [
        *("pass@k", "Truth offered", "Vote", "Calibration of vote", "Base classes", "Novel classes"),
        *("Answer reward", "Groups without variance", "Entropy", "Completion length", "KL from the base model"),
        "Validation",
    ]
    assert "0.4 in step 1, 0.6 in step 2" in charts[6]
    assert "Before training, base classes 0.60 to 1.00" in charts[0]
    silent = [attributes for tag, attributes in tags if tag == "svg" and "aria-label" not in attributes]
    assert all(attributes["aria-hidden"] == "true" for attributes in silent)


def test_same_tables_same_bytes(run_folder):
    first = report_page()
    # The order of the files makes no difference.
    paths = [f"data/predictions/{name}.parquet" for name in ("trained", "base")]
    assert report_page("--predictions", paths[0], "--predictions", paths[1]) == first
    assert pl.read_csv("reports/training.csv").equals(pl.read_csv("data/training.csv"))


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("data/predictions/trained.parquet", "dvc repro predict"),
        ("data/images.parquet", "dvc repro download"),
        ("data/classes.parquet", "dvc repro download"),
        ("data/training.csv", "dvc repro train"),
        ("reports/details.json", "dvc repro evaluate"),
        ("reports/tables/accuracies.csv", "dvc repro evaluate"),
    ],
)
def test_missing_file_is_one_sentence_and_the_old_page_stays(run_folder, file, command):
    before = report_page()
    Path(file).unlink()
    result = invoke()
    assert isinstance(result.exception, UserError)
    sentence = str(result.exception)
    assert (
        sentence.startswith(f"{file}: no such file") and f"`{command}` writes it" in sentence and "\n" not in sentence
    )
    assert Path("reports/index.html").read_text(encoding="utf-8") == before


def test_nothing_half_written_is_left(run_folder):
    Path("reports/index.html").mkdir()
    assert isinstance(invoke().exception, OSError)
    assert not [path for path in Path("reports").iterdir() if "partial" in path.name]
    assert not Path("reports/training.csv").exists()


def test_tables_of_different_runs_are_refused(run_folder):
    images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    tables.write(tables.IMAGES, images.head(3), Path("data/images.parquet"))
    error = invoke().exception
    assert isinstance(error, UserError) and "the tables must be of one run" in str(error)


def test_base_model_alone(run_folder):
    evaluate([row("base", n, n < 12) for n in range(40)])
    html = report_page("--predictions", "data/predictions/base.parquet")
    words = Elements(html).words
    assert "Two‑step accuracy of the base model: 30.0 %" in words
    assert "rained model" not in words.replace("No trained model was evaluated", "")
    assert "after training" not in words.lower() and "Training, two-step" not in words
    assert embedded_images(html)[0]["models"] == ["Base model"] and "corrected by training" not in words
    assert "Gain from the second step" in words and "Second step, base model" in words
    charts = [attributes for tag, attributes in Elements(html).tags if tag == "circle" and "dot" in attributes["class"]]
    assert len(charts) == 4 and {one["class"] for one in charts} == {"dot after"}, "one dot for each class"
    assert "blue finch: 30% base model" in words and "Dots: base model." in words
    assert "Gain" not in re.search("All classes as a table(.*)Training Thin line", words)[1]


def test_shots_without_novel_classes(run_folder):
    save(*([row(m, n, n % 3 == 0) for n in range(40) if n % 4 < 2] for m in ("base", "trained")))
    words = Elements(report_page()).words
    assert "on classes that were all trained on" in words and "Novel classes" not in words
