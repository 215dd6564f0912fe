"""Loads a data set of the Hugging Face hub: its splits, its licence, and what can go wrong on the way."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.core.params import UserError
from pipeline.datasets.split_names import split_of

ANOTHER = "name another one with `dvc exp run -S data.hub=owner/name@revision`, or set data.path"
# What `datasets` says where it cannot load a data set → what to do about it.
REMEDIES = {
    "gated": "request access on the page of {name}, then `hf auth login` and `dvc repro`",
    "scripts": "try the hub's own copy with `dvc exp run -S data.hub={name}@refs/convert/parquet`, or set data.path",
    "Couldn't reach": "go online and `dvc repro`, or set data.path",
}


class HubFault:
    """Makes the error about a data set of the hub that is not as expected."""

    def __init__(self, hub: str):
        self.hub = hub

    def __call__(self, problem: str, expected: str, then: str = ANOTHER) -> UserError:
        return UserError(f"data.hub {self.hub}: {problem}, expected {expected}; {then}")


def load_hub(hub: str, official: bool, fault: HubFault) -> tuple[Mapping[str, Any], dict[str, str], str]:
    """Rows by split, the part of each split, and the licence. The files stay in the hub's cache."""
    from datasets import load_dataset_builder

    name, _, revision = hub.partition("@")
    with _as_user_error(name, fault):
        builder = load_dataset_builder(name, revision=revision or None)
        files = {
            str(hub_split): hub_labels
            for hub_split, hub_labels in (builder.config.data_files or builder.info.splits or {}).items()
        }
    commit = builder.hash if builder.repo_id else None
    # Offline the library takes what was cached last, whatever the revision requested.
    if commit and re.fullmatch("[0-9a-f]{40}", revision) and commit != revision:
        raise fault(f"only the commit {commit} in the cache", "this one", "go online and `dvc repro`")
    if commit:
        print(f"{name}: commit {commit}")
    splits = _splits_of(list(files), official, fault)
    with _as_user_error(name, fault):
        if others := [hub_split for hub_split in files if hub_split not in splits]:
            print(f"{name}: left out the splits {', '.join(others)}")
            needed = {
                hub_split: list(files[hub_split]) for hub_split in splits
            }  # the others are gigabytes that nobody needs
            builder = load_dataset_builder(name, revision=commit or revision or None, data_files=needed)
        # The card counts the splits that were left out too.
        builder.download_and_prepare(verification_mode="no_checks" if others else "basic_checks")
        return builder.as_dataset(), splits, _licence(name, builder)


@contextmanager
def _as_user_error(name: str, fault: HubFault) -> Iterator[None]:
    """What goes wrong on the way to the hub has many types: no network, no such id, gated, a script, damaged files."""
    try:
        yield
    except Exception as error:
        from datasets.exceptions import DatasetGenerationError

        cause = (error.__cause__ or error) if isinstance(error, DatasetGenerationError) else error
        label = (str(cause).strip().splitlines() or [""])[0].rstrip(".")
        then = next((remedy.format(name=name) for sign, remedy in REMEDIES.items() if sign in label), ANOTHER)
        raise fault(f"{type(cause).__name__} ({label})", "a data set that can be loaded", then) from error


def _splits_of(hub_splits: Sequence[str], official: bool, fault: HubFault) -> dict[str, str]:
    """Part by split. Splits that are no part, such as test images with noise, are not among them."""
    splits = {hub_split: split for hub_split in hub_splits if (split := split_of(hub_split))}
    if len(hub_splits) == 1 and not official:
        return {hub_splits[0]: "train"}
    if "train" not in splits.values() or (official and "trainval" in hub_splits):
        raise fault(f"the splits {', '.join(hub_splits)}", "train, validation and test, each by itself")
    return splits


def _licence(name: str, builder: Any) -> str:
    from huggingface_hub import DatasetCard, hf_hub_download

    licence = builder.info.license
    if not licence and builder.repo_id:
        try:
            card = hf_hub_download(name, "README.md", repo_type="dataset", revision=builder.hash)
            licence = DatasetCard.load(card).data.get("license")
        except (OSError, ValueError):  # no card, or one without a head
            licence = None
    if isinstance(licence, list):
        licence = ", ".join(licence)
    return f"{name} states the licence {licence}." if licence else f"{name} states no licence."
