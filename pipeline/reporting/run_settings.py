"""What was run, in the words of the page."""

from dataclasses import dataclass

from pipeline.core.params import LARGEST_SEED, MOST_DRAWS, key

METHODS = {
    "divek": "DiVE-k: multiple choice, GRPO",
    "virft": "ViRFT: open question, GRPO",
    "sft": "SFT: image to class name",
    "none": "none",
}
"""Methods of training as the list of settings describes them."""

TRAININGS = {
    "divek": "DiVE-k training",
    "virft": "ViRFT training",
    "sft": "Supervised fine-tuning",
    "none": "No training",
}
"""The same as the subject of a sentence."""

STRATEGIES = {
    "random": "random base classes",
    "text_embedding": "similarly named base classes",
}
"""Sources of the options in training, apart from the paper's own."""


@dataclass(frozen=True)
class ReportParams:
    """What the stage report reads from params.yaml."""

    dataset: tuple[str, ...] = key("dataset")
    model: str = key("model")
    num_samples: int = key("num_samples", at_least=1, at_most=MOST_DRAWS)
    topk: int = key("topk", at_least=2)
    seed: int = key("seed", at_least=0, at_most=LARGEST_SEED)
    method: str = key("train.method", one_of=tuple(METHODS))
    strategy: str = key("options.strategy", one_of=("topk", *STRATEGIES))
    protocol: str = key("data.protocol")
    shots: int = key("data.shots", at_least=0)
    limit_per_class: int = key("data.limit_per_class", at_least=0)
    partial: bool = key("data.partial")

    @property
    def is_trained(self) -> bool:
        return self.method != "none"

    @property
    def training(self) -> str:
        """The training whose gain the page reports."""
        if self.method == "divek" and self.strategy != "topk":
            return f"Training on options of {STRATEGIES[self.strategy]}"
        return TRAININGS[self.method]

    def summary(self) -> dict[str, str]:
        """Settings by title: first those of every run, then those in which this run departs from the paper's."""
        settings = {
            "Data set": ", ".join(self.dataset),
            "Starting model": self.model,
            "Training": METHODS[self.method],
            "Draws per image, K": str(self.num_samples),
            "Maximum number of options, k": str(self.topk),
            "Seed": str(self.seed),
        }
        if self.method == "divek" and self.strategy != "topk":
            settings["Options in training"] = STRATEGIES[self.strategy]
        if self.protocol != "official":
            settings["Splits of the data set"] = f"protocol {self.protocol}"
        if self.shots:
            settings["Training images per class"] = f"{self.shots}, training on all classes"
        if self.partial:
            settings["Images"] = "a part of the data set (data.partial): not comparable with published results"
        if self.limit_per_class:
            settings["Images used"] = f"at most {self.limit_per_class} per class and split"
        return settings
