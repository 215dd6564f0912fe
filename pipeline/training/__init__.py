"""Training: GRPO and supervised, in one or several rounds, with checkpoints. Start with rounds.py, then run.py."""
