"""What all engines share: the draw cache, model loading, counter-based noise, the probability of an answer."""
