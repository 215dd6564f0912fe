"""The engines that draw: transformers in this process, or servers; the draw cache and model loading."""
