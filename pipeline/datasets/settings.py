"""The settings of a data set: which images of it are taken, and how."""

from dataclasses import dataclass

from pipeline import params
from pipeline.datasets.layout import PROTOCOLS

NAMES = ("fieldguide", "flowers", "cub", "pets", "cars", "aircraft", "folder")


@dataclass(frozen=True)
class DataParams:
    dataset: tuple[str, ...] = params.key("dataset", one_of=NAMES)
    noun: str = params.key("noun", or_empty=True)
    path: str = params.key("data.path", or_empty=True)
    labels: str = params.key("data.labels", or_empty=True)
    aliases: str = params.key("data.aliases", or_empty=True)
    hub: str = params.key("data.hub", or_empty=True)
    protocol: str = params.key("data.protocol", one_of=PROTOCOLS)
    halves: str = params.key("data.halves", one_of=("first", "random", "none"))
    shots: int = params.key("data.shots", at_least=0)
    limit_per_class: int = params.key("data.limit_per_class", at_least=0)
    val_share: float = params.key("data.val_share", at_least=0, at_most=0.5)
    test_share: float = params.key("data.test_share", above=0, at_most=0.9)
    max_pixels: int = params.key("data.max_pixels", at_least=1)
    seed: int = params.key("data.seed", at_least=0, at_most=params.LARGEST_SEED)
    train_per_class: int = params.key("data.train_per_class", at_least=1)
    val_per_class: int = params.key("data.val_per_class", at_least=1)
    test_per_class: int = params.key("data.test_per_class", at_least=1)
