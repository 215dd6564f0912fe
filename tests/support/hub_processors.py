"""Model folders as they are on the hub, without weights, and the stock software of a machine with torchvision."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.project import ROOT

FAMILIES = {
    "qwen2_vl": ("Qwen2VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor"),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor"),
    "qwen3_vl": ("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor"),
    "qwen3_5": ("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor"),
    "glm4v": ("Glm4vProcessor", "Glm4vImageProcessor", "Glm4vVideoProcessor"),
    "glm46v": ("Glm46VProcessor", "Glm46VImageProcessor", "Glm46VVideoProcessor"),
    "internvl": ("InternVLProcessor", "GotOcr2ImageProcessor", "InternVLVideoProcessor"),
    "llava_onevision": ("LlavaOnevisionProcessor", "LlavaOnevisionImageProcessor", "LlavaOnevisionVideoProcessor"),
    "video_llava": ("VideoLlavaProcessor", "VideoLlavaImageProcessor", "VideoLlavaVideoProcessor"),
    "gemma4": ("Gemma4Processor", "Gemma4ImageProcessor", "Gemma4VideoProcessor"),
    "minicpmv4_6": ("MiniCPMV4_6Processor", "MiniCPMV4_6ImageProcessor", "MiniCPMV4_6VideoProcessor"),
    "smolvlm": ("SmolVLMProcessor", "SmolVLMImageProcessor", "SmolVLMVideoProcessor"),
}
"""Model types, with the classes of their processor, its image part and its video part."""

LAYOUTS = ("files", "nested")
"""Settings in preprocessor_config.json and video_preprocessor_config.json, or all in processor_config.json."""

IMAGE = "<|image_pad|>"
TOKENS = {
    **dict.fromkeys(("image_token", "context_image_token"), IMAGE),
    "video_token": "<|video_pad|>",
    **dict.fromkeys(("boi_token", "start_image_token", "image_start_token", "slice_start_token"), "<|vision_start|>"),
    **dict.fromkeys(("eoi_token", "end_image_token", "image_end_token", "slice_end_token"), "<|vision_end|>"),
    **{f"{name}_token": f"<{name}>" for name in ("audio", "boa", "eoa", "fake_image", "global_image")},
    **{f"{name}_token": f"<{name}>" for name in ("image_id_start", "image_id_end", "video_start", "video_end")},
}
TEMPLATE = "{% for message in messages %}user <|image_pad|> {% endfor %}assistant"


def hub_folder(folder: Path, family: str, layout: str) -> Path:
    """Writes all files of a model of `family` but its weights."""
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES

    processor, image_part, video_part = FAMILIES[family]
    folder.mkdir(parents=True)
    base = ROOT / "models" / "fieldguide"
    shutil.copy(base / "tokenizer.json", folder)
    tokenizer = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(folder / "tokenizer_config.json", tokenizer | TOKENS | {"extra_special_tokens": TOKENS})
    write(folder / "config.json", {"model_type": family})
    write(folder / "generation_config.json", {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8})
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    image = {"image_processor_type": image_part, "image_mean": [0.5, 0.4, 0.3]}
    video = {"video_processor_type": video_part, "image_mean": [0.5, 0.4, 0.2]}
    whole = {"processor_class": processor, "patch_size": 14, "num_image_tokens": 4}
    whole["vision_feature_select_strategy"] = "full"
    if sound := FEATURE_EXTRACTOR_MAPPING_NAMES.get(family):
        image["feature_extractor_type"] = sound
        whole["feature_extractor"] = {"feature_extractor_type": sound}
    if layout == "nested":
        write(folder / "processor_config.json", whole | {"image_processor": image, "video_processor": video})
    else:
        del whole["processor_class"]
        whole.pop("feature_extractor", None)
        write(folder / "processor_config.json", whole)
        write(folder / "preprocessor_config.json", image | {"processor_class": processor})
        write(folder / "video_preprocessor_config.json", video)
    return folder


def write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")


STAND_IN = {
    "__init__.py": "__version__ = '0.28.0'",
    "io.py": "",
    "transforms/__init__.py": (
        "from enum import Enum\n"
        "names = ('NEAREST', 'NEAREST_EXACT', 'BOX', 'BILINEAR', 'HAMMING', 'BICUBIC', 'LANCZOS')\n"
        "InterpolationMode = Enum('InterpolationMode', names)"
    ),
    "transforms/functional.py": "pil_to_tensor = to_pil_image = None",
    "transforms/v2/__init__.py": "",
    "transforms/v2/functional.py": "from torchvision.transforms import InterpolationMode",
}
"""All of torchvision that opening a processor takes; pictures and videos cannot be read with it."""

OPEN = """
import json, sys
from transformers import AutoProcessor
from transformers.utils import is_torchvision_available
found = {}
for folder in sys.argv[1:]:
    try:
        one = AutoProcessor.from_pretrained(folder)
        found[folder] = [type(one).__name__, type(one.video_processor).__name__, one.video_processor.image_mean]
    except Exception as error:
        found[folder] = str(error).replace(folder, "FOLDER")
print(json.dumps([is_torchvision_available(), found]))
"""


def open_stock(folders: list[Path], torchvision: Path | None) -> list[object]:
    """What the stock AutoProcessor opens in a process of its own: class, video class and a setting; or the error.

    Args:
        torchvision: where to put a stand-in for torchvision, for what a machine that has it does; None for none.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if torchvision:
        for name, text in STAND_IN.items():
            file = torchvision / "torchvision" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        environment["PYTHONPATH"] = str(torchvision)
    command = [sys.executable, "-c", OPEN, *map(str, folders)]
    done = subprocess.run(
        command, env=environment | {"HF_HUB_OFFLINE": "1"}, cwd=folders[0], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    available, found = json.loads(done.stdout.splitlines()[-1])
    assert available == bool(torchvision)
    return [found[str(folder)] for folder in folders]
