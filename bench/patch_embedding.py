"""How fast patches are embedded by a convolution and by a matrix product, on one thread of this CPU.

    python bench/patch_embedding.py     writes bench/results/patch_embedding.md; seconds

Both alternate in one process; a figure is the median of the ratios of their CPU times. Single patches are those of
Qwen's families, which `use_patch_products` computes as a matrix product. Of whole pictures the convolution is kept: the
product, which has to copy their patches apart first, is measured to see whether that is still right.
"""

import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.engines.common.patch_embedding import use_patch_products

ROUNDS = 15
PATCHES = {  # patches, width
    "single patches of 2 × 14 × 14, field guide": (2160, 64),
    "single patches of 2 × 14 × 14, Qwen2.5-VL": (1024, 1280),
}
PICTURES = {  # pictures, pixels, width
    "pictures of 224 × 224 pixels, SigLIP": (4, 224, 1152),
    "a picture of 896 × 896 pixels, Gemma 3": (1, 896, 1152),
}


class PictureProduct(nn.Conv2d):
    """Patches copied apart and embedded by a matrix product."""

    def forward(self, pixels):
        side = self.kernel_size[0]
        patches = pixels.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return nn.functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2).contiguous()


def seconds(model, pixels, backward):
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        output = model(pixels)
    if backward:
        output.sum().backward()
    return time.process_time() - start


def line(name, convolution, product, pixels):
    """CPU time of the convolution over that of the product, forward and with its backward pass."""
    torch.testing.assert_close(product(pixels), convolution(pixels), rtol=1e-2, atol=1e-2)
    ratios = []
    for backward in (False, True):
        times = [[seconds(one, pixels, backward) for one in (convolution, product)] for _ in range(ROUNDS)]
        ratios.append([stock / ours for stock, ours in times])
    shown = (f"{statistics.median(some):.1f}× ({min(some):.1f}–{max(some):.1f})" for some in ratios)
    return f"| {name}, {str(pixels.dtype).removeprefix('torch.')} | {' | '.join(shown)} |"


def measure(dtype):
    for name, (count, width) in PATCHES.items():
        stock, ours = (nn.Conv3d(3, width, (2, 14, 14), (2, 14, 14), bias=False, dtype=dtype) for _ in range(2))
        ours.load_state_dict(stock.state_dict())
        use_patch_products(ours)
        yield line(name, stock, ours, torch.randn(count, 3, 2, 14, 14, dtype=dtype))
    for name, (count, side, width) in PICTURES.items():
        stock, ours = (kind(3, width, 14, 14, dtype=dtype) for kind in (nn.Conv2d, PictureProduct))
        ours.load_state_dict(stock.state_dict())
        yield line(name, stock, ours, torch.randn(count, 3, side, side, dtype=dtype))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [row for dtype in (torch.float32, torch.bfloat16) for row in measure(dtype)]
    heading = (
        f"`python bench/patch_embedding.py`, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch "
        f"{torch.__version__.split('+')[0]}; CPU time of the convolution over that of the matrix product:"
    )
    table = "\n".join([heading, "", "| what | forward | forward and backward |", "|---|---|---|", *lines, ""])
    (ROOT / "bench" / "results" / "patch_embedding.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
