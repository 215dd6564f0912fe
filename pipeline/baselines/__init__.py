"""Models to compare with: CLIP, prompt learning, FuDD, and any other vision-language model."""
