"""Where models are: folders and hub ids, what identifies their content, and what is said of those that fail."""

import hashlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from pipeline.core.errors import FULL, UserError, first_line
from pipeline.engines.common.adapters import base_of

T = TypeVar("T")

EXPECTED = "a model folder or a hub id; set it with `dvc exp run -S model=…`, or make it with `dvc repro`"


def content(source: str) -> str:
    """A hash of the model folder's files, or the revision of a hub id: whatever its answers depend on.

    That of an adapter is also of its base.

    Raises UserError where there is no such folder or hub id.
    """
    require_folder(source)
    folder = Path(source)
    if not folder.is_dir():
        return open_model(source, lambda: _revision(source))
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder)} {inner}\n".encode())
    if base := base_of(source):
        digest.update(f"{content(base)}\n".encode())
    return digest.hexdigest()[:32]


def local_folder(source: str, without: Sequence[str] = ()) -> Path:
    """The model folder itself, or where the hub's copy of it is on this machine.

    Args:
        without: patterns of files that need not be there, and are not downloaded.

    Raises:
        UserError: there is no such model.
    """
    require_folder(source)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(open_model(source, lambda: str(snapshot_download(source, ignore_patterns=list(without) or None))))


def _revision(hub_id: str) -> str:
    from huggingface_hub import hf_hub_download

    # …/snapshots/<commit>/config.json
    return f"{hub_id}@{Path(hf_hub_download(hub_id, 'config.json')).parent.name}"


def require_folder(source: str) -> None:
    """A path differs from a hub id (`owner/name`) in that it exists, or looks like a path."""
    folder = Path(source)
    if folder.is_dir():
        if not ((folder / "config.json").is_file() or base_of(source)):
            raise UserError(
                f"{source}: not a model folder, it has no config.json; `git status {source}` shows the missing files"
            )
    elif source.startswith((".", "/", "~", "models/")) or source.count("/") != 1:
        raise UserError(f"{source}: no such folder; expected {EXPECTED}")


def open_model(source: str, load: Callable[[], T]) -> T:
    """Calls `load`. An incomplete folder, damaged weights or an unknown hub id is a UserError."""
    try:
        return load()
    except UserError:
        raise
    except Exception as error:  # files of others make transformers, tokenizers and jinja2 raise nearly anything
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            raise UserError(
                f"{source}: the model brings code of its own, which is never run here; expected a model of "
                "transformers' own classes; set it with `dvc exp run -S model=…`"
            ) from error
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        if out_of_memory(error):
            raise UserError(
                f"{source}: out of memory; take a smaller model, or engine.dtype bfloat16, or draw from a server "
                "(docs/scale.md)"
            ) from error
        if "torchvision" in str(error).lower() and find_spec("torchvision") is None:
            raise UserError(
                f"{source}: its processor needs torchvision, which is not installed; install the build for your torch "
                "with `pip install torchvision`, then run the same command again"
            ) from error
        known = isinstance(error, OSError | ValueError | RuntimeError)
        reason = first_line(error) if known else f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{source}: cannot be loaded ({reason[:300]}); expected {EXPECTED}") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether the processor's or the GPU's memory did not suffice."""
    import torch  # the CPU's allocator and the GPU's libraries have no exception of their own

    phrases = ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in phrases)
