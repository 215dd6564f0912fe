"""params.yaml: typed, ranged, and a mistake in it is one sentence."""

import re
from dataclasses import dataclass

import pytest
from ruamel.yaml import YAML
from support.project import ROOT
from support.stages import dotted_keys

from pipeline.core.params import Scalars, UserError, key, known_keys, load_params
from pipeline.method.chat import ChatParams
from pipeline.training.params import TrainParams


@dataclass(frozen=True)
class Sample:
    topk: int = key("topk", at_least=2, at_most=26)
    rate: float = key("train.rate", above=0)
    noun: str = key("noun")
    careful: bool = key("train.careful")
    kind: str = key("kind", one_of=("one", "other"))


GOOD = "topk: 5\nnoun: bird\nkind: one\ntrain:\n  rate: 2e-6\n  careful: true\n"


def load(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    return load_params(Sample, file)


def test_good_values(tmp_path):
    # 2e-6 is what `dvc exp run -S` writes; PyYAML would read it as text.
    assert load(tmp_path, GOOD) == Sample(5, 2e-6, "bird", True, "one")
    assert load(tmp_path, GOOD.replace("2e-6", "1")).rate == 1.0


def test_every_setting_of_the_project_is_read_somewhere_and_no_other_is():
    tree = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert known_keys() == dotted_keys(tree)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "topkk: 3\n", "there is no setting 'topkk' (similar: topk); remove or rename it"),
        (GOOD + "  carefull: 1\n", "there is no setting 'train.carefull' (similar: train.careful)"),
        (GOOD + "trian: {method: sft}\n", "there is no setting 'trian.method' (similar: train.method)"),
        (GOOD + "zzzzzzz: {}\n", "there is no setting 'zzzzzzz'; remove"),
        (GOOD + "3: 4\n", "there is no setting '3'"),
    ],
)
def test_a_setting_that_nothing_reads_is_an_error(tmp_path, text, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("topk: 5", "topk: 0", "topk is 0, expected at least 2"),
        ("topk: 5", "topk: 30", "topk is 30, expected at most 26"),
        ("topk: 5", "topk: five", "topk is 'five', a str, expected a value of type int"),
        ("topk: 5", "topk: 5.0", "topk is 5.0, a float, expected a value of type int"),
        ("topk: 5", "topk: true", "topk is True, a bool, expected a value of type int"),
        ("topk: 5", "topk:", "topk is None, a NoneType, expected a value of type int"),
        ("topk: 5", "topk: [3, 5]", "topk is [3, 5], a list, expected a value of type int"),
        ("rate: 2e-6", "rate: 0", "train.rate is 0.0, expected more than 0"),
        ("rate: 2e-6", "rate: .nan", "train.rate is nan, expected more than 0"),
        ("rate: 2e-6", "rate: .inf", "train.rate is inf, expected a finite number"),
        ("rate: 2e-6", "rate: " + "9" * 400, "expected a value of type float"),
        ("noun: bird", "noun: ''", "noun is empty, expected a text"),
        ("rate: 2e-6", "rate: small", "train.rate is 'small', a str, expected a value of type float"),
        ("careful: true", "careful: 1", "train.careful is 1, a int, expected a value of type bool"),
        ("kind: one", "kind: third", "kind is 'third', expected one of one, other"),
        ("noun: bird\n", "", "noun is missing"),
        ("train:", "trian:", "train.rate is missing"),
        ("train:", "train: 3\nrest:", "train.rate is missing"),
        ("topk: 5", "topk: [5", "not valid YAML"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    assert sentence in str(caught.value)
    assert "params.yaml" in str(caught.value)
    assert "`" in str(caught.value), "names the next command"
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Lists:
    dataset: tuple[str, ...] = key("dataset", one_of=("a", "b", "c"))
    stop: tuple[str, ...] = key("stop")
    hub: str = key("hub", or_empty=True)


LISTS = "dataset: [a, c]\nstop: []\nhub: ''\n"


def test_lists_of_texts(tmp_path):
    file = tmp_path / "params.yaml"
    for text, expected in (
        (LISTS, Lists(("a", "c"), (), "")),
        (LISTS.replace("[a, c]", "b").replace("[]", "END"), Lists(("b",), ("END",), "")),
    ):
        file.write_text(text, encoding="utf-8")
        assert load_params(Lists, file) == expected


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[a, c]", "d", "dataset is 'd', expected one of a, b, c, or a list of them"),
        ("[a, c]", "[a, d]", "dataset is ['a', 'd'], expected one of"),
        ("[a, c]", "[a, a]", "dataset is ['a', 'a'], expected one of"),
        ("[a, c]", "[]", "dataset is [], expected one of"),
        ("[]", "[1]", "stop is [1], expected a list of texts"),
        ("[]", "['']", "stop is [''], expected a list of texts"),
        ("[]", "{}", "stop is {}, expected a list of texts"),
    ],
)
def test_a_mistake_in_a_list_is_one_sentence(tmp_path, old, new, sentence):
    file = tmp_path / "params.yaml"
    file.write_text(LISTS.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_params(Lists, file)


@dataclass(frozen=True)
class Mapped:
    settings: Scalars = key("chat.settings")


def load_mapped(tmp_path, value):
    file = tmp_path / "params.yaml"
    file.write_text(f"chat:\n  settings: {value}\n", encoding="utf-8")
    return load_params(Mapped, file).settings


def test_a_mapping_has_names_of_the_users_own(tmp_path):
    assert load_mapped(tmp_path, "{}") == {}
    own = "{thinking: false, budget: 512, share: 0.5, effort: low}"
    assert load_mapped(tmp_path, own) == {"thinking": False, "budget": 512, "share": 0.5, "effort": "low"}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("low", "chat.settings is a str, expected names with a text, a number, true or false each"),
        ("[a]", "chat.settings is a list"),
        ("{a: [1]}", "chat.settings has 'a', with a value of type list"),
        ("{a: {b: 1}}", "chat.settings has 'a', with a value of type dict"),
        ("{a: }", "chat.settings has 'a', with a value of type NoneType"),
        ("{3: 1}", "chat.settings has '3', with a value of type int"),
        ("{a-b: 1}", "chat.settings has 'a-b', with a value of type int"),
        ("{a: .nan}", "chat.settings has 'a', with a value of type float"),
        ("{a: " + "9" * 30 + "}", "chat.settings has 'a', with a value of type int"),
    ],
)
def test_a_mistake_in_a_mapping_is_one_sentence(tmp_path, value, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load_mapped(tmp_path, value)
    assert "`dvc exp run -S ++chat.settings.name=value`" in str(caught.value)


@pytest.mark.parametrize("before", ["{}", "{enable_thinking: true, budget: 1}"])
def test_dvc_sets_a_value_of_a_mapping_that_is_there_or_not(tmp_path, before):
    """As the sentence above and the comment in params.yaml say; without ++, Hydra takes a new name for a slip."""
    from dvc.utils.hydra import apply_overrides

    file = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("template_kwargs: {}", f"template_kwargs: {before}"), encoding="utf-8")
    apply_overrides(file, ["++chat.template_kwargs.enable_thinking=false", "chat.system=Look at the bill."])
    chat = load_params(ChatParams, file).chat
    assert chat.template_kwargs["enable_thinking"] is False and chat.system == "Look at the bill."
    assert ("budget" in chat.template_kwargs) == ("budget" in before)
    apply_overrides(file, ["~chat.template_kwargs.enable_thinking", "chat.system="])
    assert "enable_thinking" not in load_params(ChatParams, file).template_kwargs


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_params(Sample, tmp_path / "params.yaml")


def test_every_key_has_a_sentence_above_it():
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r"\s*\w+: \S", line):
            assert before.strip().startswith("#"), f"no comment above {line.strip()!r}"


@pytest.mark.parametrize(
    ("key", "limit"), [("num_samples", 10_000), ("train.generations", 10_000), ("train.steps", 2**31 - 1)]
)
def test_a_number_with_too_many_zeros_is_refused_at_once(key, limit, tmp_path):
    file = tmp_path / "params.yaml"
    yaml = YAML()
    values = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    section, _, name = key.rpartition(".")
    (values[section] if section else values)[name] = 10**12
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)
    with pytest.raises(UserError, match=f"{key} is 1000000000000, expected at most {limit};"):
        load_params(TrainParams, file)
