"""Training: one file for each of its concerns. The stage is pipeline/stages/train.py."""
