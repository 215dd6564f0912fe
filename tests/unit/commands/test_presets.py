"""Presets: every key exists, every value is allowed, and the paper's leaves nothing to a library's default."""

import re
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest
import yaml as pyyaml
from ruamel.yaml import YAML
from support.project import ROOT
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.preset import differences
from pipeline.core.model_language import closed_vocabulary, model_faults, require_names_for, require_prompt_for
from pipeline.core.params import UserError, load_params
from pipeline.core.presets import merged, preset_values
from pipeline.datasets.species import SPECIES
from pipeline.engines.params import EngineParams
from pipeline.stages import predict, sample
from pipeline.stages.download import DownloadParams
from pipeline.stages.options import OptionsParams
from pipeline.stages.predict import PredictParams
from pipeline.stages.sample import SampleParams
from pipeline.training.config import accumulation, fitting_processes, grpo_config
from pipeline.training.params import TrainParams

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
ACCELERATE = sorted((ROOT / "presets" / "accelerate").glob("*.yaml"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of params.yaml and presets/."""
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["preset", *arguments])


def configs(name: str, folder: Path):
    """The project's and TRL's training settings with the preset `name`."""
    result = invoke(name)
    assert result.exit_code == 0, result.exception
    params = load_params(TrainParams)
    for kind in (DownloadParams, SampleParams, OptionsParams, PredictParams, EngineParams):
        load_params(kind)
    return params, grpo_config(params, folder, params.steps)


@pytest.mark.slow
@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_every_preset_is_read_by_every_stage_and_makes_trls_settings(project, file):
    params, config = configs(file.stem, project)
    assert config.max_steps == params.steps and config.num_generations == params.generations
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == (
        params.prompts_per_step * params.generations
    ), "completions of a step are prompts times generations"


# What the paper's run had, by TRL's names (REFERENCE: the paper, its code, and the library's defaults of its time).
PAPER = {
    "beta": 0.04, "loss_type": "grpo", "scale_rewards": "group", "num_generations": 4, "num_iterations": 1,
    "learning_rate": 1e-6, "lr_scheduler_type": "linear", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0,
    "temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "repetition_penalty": 1.0,
    "max_completion_length": 1024, "mask_truncated_completions": False, "use_bias_correction_kl": False,
    "sync_ref_model": False, "entropy_coef": 0.0, "use_adaptive_entropy": False, "top_entropy_quantile": 1.0,
    "importance_sampling_level": "token", "off_policy_mask_threshold": None, "delta": None, "epsilon": 0.2,
    "epsilon_high": 0.2, "multi_objective_aggregation": "sum_then_normalize", "reward_weights": [1.0, 1.0],
    "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "optim": "adamw_torch", "bf16": True,
    "gradient_checkpointing": True, "disable_dropout": True, "max_steps": 400, "pad_to_multiple_of": None,
}  # fmt: skip


@pytest.mark.slow
def test_the_papers_preset_leaves_nothing_to_a_default_that_was_another(project):
    from trl import GRPOConfig

    params, config = configs("paper", project)
    assert {name: getattr(config, name) for name in PAPER} == PAPER
    assert params.prompts_per_step * params.generations == 24, "completions of an optimiser step"
    assert (params.num_samples, params.topk, params.temperature, params.top_p, params.top_k) == (20, 5, 1.0, 0.95, 50)
    assert (params.repetition_penalty, params.max_new_tokens, params.class_list) == (1.1, 1024, "subset")
    assert (params.greedy_repetition_penalty, params.choice_repetition_penalty) == (1.05, 1.05), "Qwen2.5-VL's default"
    # Whatever of the loss, the rewards and the rollouts the library would choose otherwise today stands in PAPER.
    default = GRPOConfig(str(project), use_cpu=True)
    changed = {name for name in vars(default) if getattr(default, name, None) != getattr(config, name, None)}
    about = ("loss", "beta", "epsilon", "reward", "entropy", "kl", "advantage", "generations", "mask", "clip")
    assert {name for name in changed if any(word in name for word in about)} <= {*PAPER}


def test_a_preset_changes_its_values_and_nothing_else(project):
    before = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    lines = invoke("paper").output.splitlines()
    after = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    assert len(before) == len(after) and lines[-1].startswith(f"{len(lines) - 1} values of presets/paper.yaml written")
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == len(lines) - 1
    assert "train.learning_rate: 5e-05 → 1e-06" in lines
    assert invoke("paper").output == "params.yaml already has all values of presets/paper.yaml\n"


def test_a_dry_run_changes_nothing(project):
    before = Path("params.yaml").read_bytes()
    assert "num_samples" not in invoke("paper", "--dry-run").output
    assert Path("params.yaml").read_bytes() == before


def test_a_preset_sets_names_of_a_mapping_that_params_yaml_leaves_empty(project):
    Path("mine.yaml").write_text("chat:\n  template_kwargs: {enable_thinking: false}\n", encoding="utf-8")
    assert "chat.template_kwargs: {} → {'enable_thinking': False}" in invoke("mine.yaml").output
    assert load_params(TrainParams).template_kwargs == {"enable_thinking": False}
    assert "already has all values" in invoke("mine.yaml").output


def test_an_unknown_preset_or_key_is_one_sentence(project):
    result = invoke("papre")
    assert isinstance(
        result.exception, UserError
    ) and "there is no preset 'papre'; use a path, or one of gemma-3-4b, gemma-4-e4b" in str(result.exception)
    Path("mine.yaml").write_text("train:\n  learning_rat: 1.0\n", encoding="utf-8")
    result = invoke("mine.yaml")
    assert isinstance(
        result.exception, UserError
    ) and "sets train.learning_rat, which is not a key of params.yaml" in str(result.exception)


OTHERS = [file for file in PRESETS if file.stem != "paper"]
HEADING = "# Differences from presets/paper.yaml, there → here:"


def comment(file: Path) -> list[str]:
    """The lines of a preset below HEADING, up to the first that is no comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return list(takewhile(lambda line: line.startswith("#"), lines[lines.index(HEADING) + 1 :]))


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.stem)
def test_a_preset_says_how_it_differs_from_the_papers(file):
    """All of it, the values that either leaves to params.yaml included: a run by one and a run by the other."""
    assert YAML(typ="safe").load(file.read_text(encoding="utf-8"))["base"] == "paper"
    defaults = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    papers, others = (merged(defaults, preset_values(preset)) for preset in (ROOT / "presets/paper.yaml", file))
    lines = [f"#   {key}: {before} → {after}" for key, before, after in differences(papers, others)]
    print("", HEADING, *lines, sep="\n")  # what the comment must be, where it is not
    assert comment(file) == lines


def test_a_preset_has_the_values_of_its_base(project):
    invoke("qwen2.5-vl-3b")
    values = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    assert (values["class_list"], values["train"]["warmup_steps"], values["train"]["top_k"]) == ("subset", 0, 50)
    assert (values["sample"]["repetition_penalty"], values["predict"]["choice_repetition_penalty"]) == (1.1, 1.05)
    assert (values["sample"]["max_new_tokens"], values["train"]["tuning"]) == (768, "lora")


@pytest.mark.parametrize(
    ("base", "reason"), [("papre", "there is no preset 'papre'"), ("gemma-3-4b", "its base has a base itself")]
)
def test_a_base_that_is_none_is_one_sentence(project, base, reason):
    Path("mine.yaml").write_text(f"base: {base}\n", encoding="utf-8")
    result = invoke("mine.yaml")
    assert isinstance(result.exception, UserError) and reason in str(result.exception)


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "`python -m pipeline preset qwen2.5-vl-7b` sets the prompt and the lengths"),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "`python -m pipeline preset qwen2.5-vl-3b` sets"),
        ("Qwen/Qwen3-VL-8B-Instruct", "`python -m pipeline preset qwen3-vl-8b` sets"),
        ("google/gemma-3-12b-it", "`python -m pipeline preset gemma-3-4b` sets"),
        ("google/gemma-4-31B-it", "`python -m pipeline preset gemma-4-e4b` sets"),
        ("OpenGVLab/InternVL3_5-4B-HF", "`python -m pipeline preset internvl3.5-4b` sets"),
        ("OpenGVLab/InternVL3-8B", "there is no preset for it, so take `python -m pipeline preset qwen2.5-vl-7b`"),
    ],
)
def test_a_hub_model_is_not_asked_in_the_field_guides_language(project, monkeypatch, model, advice):
    values = YAML().load(Path("params.yaml").read_text(encoding="utf-8"))
    values["model"] = model
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    for stage in (sample.main, partial(predict.main, model, "base", Path("out.parquet"))):
        with pytest.raises(UserError) as caught:
            stage()
        assert advice in str(caught.value) and f"{model} is a model of the hub" in str(caught.value)
    require_prompt_for(model, "paper")


@pytest.mark.parametrize("model", ["models/fieldguide", "models/policy", "./a/b", "/tmp/a", "served-name"])
def test_a_folder_or_a_served_name_may_speak_the_field_guides_language(project, model):
    require_prompt_for(model, "brief")


def test_a_folder_of_another_model_is_not_asked_in_the_field_guides_language(project):
    folder = Path("models/other")
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}', encoding="utf-8")
    with pytest.raises(UserError, match="models/other is of another kind; there is no preset for it, so take"):
        require_prompt_for("models/other", "brief")


def test_the_field_guide_writes_the_names_of_its_own_birds_alone():
    model = str(ROOT / "models" / "fieldguide")
    require_names_for(model, "folder", [species.name for species in SPECIES])
    with pytest.raises(UserError) as caught:
        require_names_for(model, "folder", [SPECIES[0].name, "Laysan Albatross", "gull"])
    assert f"folder: {model} cannot write 2 of 3 class names, such as 'Laysan Albatross'" in str(caught.value)
    assert "`python -m pipeline preset qwen2.5-vl-7b` sets" in str(caught.value)
    require_names_for("Qwen/Qwen3-VL-4B-Instruct", "folder", ["Laysan Albatross"])


@pytest.mark.parametrize("model", [None, 5, "", "~foo/bar"])
def test_a_model_of_another_type_is_one_sentence_or_left_to_loading(project, model):
    values = YAML().load(Path("params.yaml").read_text(encoding="utf-8"))
    values["model"] = model
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    try:
        faults = model_faults({"folder": ["wren"]})
    except UserError as error:
        assert "params.yaml: model is" in str(error)
    else:
        assert faults == [] and model == "~foo/bar"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": []}', '{"model": {"type": 1}}', "[" * 100_000, "\xff"])
def test_a_damaged_tokenizer_is_left_to_the_one_who_loads_it(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    assert closed_vocabulary(str(tmp_path)) is None


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_every_value_of_the_papers_preset_has_its_source(file):
    if file.stem != "paper":
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and not line.endswith(":"):
            source = line.partition(" # ")[2].split(":")[0].split(",")[0]
            assert source in ("paper", "code", "library", "here"), line


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_every_preset_says_which_numbers_of_processes_divide_its_step(file):
    prompts, text = re.search(
        r"^  prompts_per_step: (\d+) #.* divides among ([\d, or]+) processes$",
        file.read_text(encoding="utf-8"),
        re.MULTILINE,
    ).groups()
    assert [int(number) for number in re.findall(r"\d+", text)] == fitting_processes(int(prompts))


def test_the_papers_preset_runs_in_as_many_processes_as_its_config_starts(project, monkeypatch):
    values = YAML(typ="safe").load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))["train"]
    processes = YAML(typ="safe").load((ROOT / values["launch_config"]).read_text(encoding="utf-8"))["num_processes"]
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert processes == 3 and invoke("paper").exit_code == 0
    assert accumulation(load_params(TrainParams)) == (2, 1), "two prompts on each GPU, in one micro-batch"


@pytest.mark.slow
@pytest.mark.parametrize("file", ACCELERATE, ids=lambda file: file.stem)
def test_accelerate_knows_every_field_of_its_configs(file):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    values = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    assert config.num_processes == values["num_processes"]
    assert str(config.distributed_type.value) == values["distributed_type"]
    assert pyyaml.safe_load(file.read_text(encoding="utf-8")) == values, "accelerate reads YAML 1.1"


@pytest.mark.slow
def test_the_inner_fields_are_those_of_the_installed_libraries():
    """accelerate takes any key inside of fsdp_config and deepspeed_config: they are held against its own options."""
    from accelerate.commands.launch import launch_command_parser

    options = {action.dest for action in launch_command_parser()._actions}
    for file in ACCELERATE:
        values = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        inner = {**values.get("fsdp_config", {}), **values.get("deepspeed_config", {})}
        assert set(inner) <= options, file.name
