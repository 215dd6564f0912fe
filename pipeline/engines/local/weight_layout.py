"""The layout of weights in memory: by column, CPUs multiply few rows by them up to a third faster.

A decode has few rows, and a layer's matrix product then takes as long to rearrange row-major weights as to use them.
"""

from typing import Any

import torch


def use_column_major(model: Any) -> None:
    """Lays out the float32 weights of linear layers on a CPU by column, for inference: names, shapes and values stay.

    The output layer keeps its layout: it may share its weights with the embedding of tokens, and has too many for the
    layout to matter. So do weights of 16 bits, which the CPU rearranges anyway.
    """
    head = model.get_output_embeddings()
    for module in model.modules():
        if type(module) is torch.nn.Linear and module is not head:
            weight = module.weight
            if weight.device.type == "cpu" and weight.dtype == torch.float32:
                weight.data = weight.data.t().contiguous().t()
