"""Processors without their video part, which needs torchvision. Nothing here reads videos.

A stand-in with the settings of the video part takes its place, so that every family's own processor class opens with
or without torchvision, and also from a folder that was written without a video part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from transformers import ImageProcessingMixin
from transformers.processing_utils import MODALITY_TO_AUTOPROCESSOR_MAPPING, MODALITY_TO_BASE_CLASS_MAPPING
from transformers.video_processing_utils import VideoProcessorMixin

from pipeline.core.errors import UserError


class VideoSettings(ImageProcessingMixin):  # type: ignore[misc]
    """The settings of a video processor; as attributes, None for those that the folder does not have."""

    model_input_names: tuple[str, ...] = ()

    def __init__(self, **settings: Any):
        self.settings = settings

    @classmethod
    def from_pretrained(cls, source: str, **options: Any) -> "VideoSettings":
        try:
            settings, _ = VideoProcessorMixin.get_video_processor_dict(source, **options)
        except OSError:  # neither a video part nor preprocessor_config.json
            settings = {}
        return cls(**settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "settings":  # asked for before __init__, by copy and pickle
            raise AttributeError(name)
        return self.settings.get(name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise UserError("a video was given to a processor; expected pictures only")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.settings)


@contextmanager
def image_only() -> Iterator[None]:
    """Within it, processors are made with `VideoSettings` in place of a video processor."""
    # transformers looks up here which class opens a part of a processor, and which class the part must have.
    openers, bases = MODALITY_TO_AUTOPROCESSOR_MAPPING._MAPPING_NAMES, MODALITY_TO_BASE_CLASS_MAPPING
    with (
        patch.dict(openers, video_processor=(__name__, VideoSettings.__name__)),
        patch.dict(bases, video_processor=ImageProcessingMixin.__name__),
    ):
        yield
