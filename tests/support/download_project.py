"""A project in which the download stage runs."""

from pathlib import Path

from ruamel.yaml import YAML
from support.project import ROOT

IMAGES, CLASSES = Path("data/images.parquet"), Path("data/classes.parquet")


def write_settings(dataset, **changes) -> None:
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["dataset"] = dataset
    values["max_error_rate"] = changes.pop("max_error_rate", 0.0)
    values["data"] |= {"path": "photos", "max_pixels": 10**6, **changes}
    YAML().dump(values, Path("params.yaml"))
