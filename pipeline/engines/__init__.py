"""Who draws: transformers in this process, or servers; the draw cache, and model loading."""
