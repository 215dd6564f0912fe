"""The params of data sets: which images are used, and how."""

from dataclasses import dataclass

from pipeline.core.params import LARGEST_SEED, key
from pipeline.datasets.layout import PROTOCOLS

NAMES = ("fieldguide", "flowers", "cub", "pets", "cars", "aircraft", "folder")


@dataclass(frozen=True)
class DataParams:
    dataset: tuple[str, ...] = key("dataset", one_of=NAMES)
    noun: str = key("noun", or_empty=True)
    path: str = key("data.path", or_empty=True)
    labels: str = key("data.labels", or_empty=True)
    aliases: str = key("data.aliases", or_empty=True)
    hub: str = key("data.hub", or_empty=True)
    protocol: str = key("data.protocol", one_of=PROTOCOLS)
    base_classes: str = key("data.base_classes", one_of=("first_half", "random_half", "all"))
    shots: int = key("data.shots", at_least=0)
    limit_per_class: int = key("data.limit_per_class", at_least=0)
    partial: bool = key("data.partial")
    val_share: float = key("data.val_share", at_least=0, at_most=0.5)
    test_share: float = key("data.test_share", above=0, at_most=0.9)
    max_pixels: int = key("data.max_pixels", at_least=1)
    seed: int = key("data.seed", at_least=0, at_most=LARGEST_SEED)
    train_per_class: int = key("data.train_per_class", at_least=1)
    val_per_class: int = key("data.val_per_class", at_least=1)
    test_per_class: int = key("data.test_per_class", at_least=1)
