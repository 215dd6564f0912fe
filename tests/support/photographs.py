"""Pictures made here that have the detail of photographs."""

import numpy as np
from PIL import Image


def photograph(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """Noise with the spectrum of photographs, amplitudes falling as 1 / frequency, in colours of its own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / width)
    shape = (height, width)
    layers = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * falling, s=shape) for _ in range(3)]
    grey = np.stack([layers[0] + 0.3 * layer for layer in layers], axis=-1)
    return Image.fromarray(np.clip(128 + 50 * grey / grey.std(), 0, 255).astype(np.uint8))
