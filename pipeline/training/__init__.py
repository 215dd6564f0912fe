"""Training: one file for each of its concerns. The stage is pipeline/train.py."""
