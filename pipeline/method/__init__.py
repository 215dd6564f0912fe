"""The paper, pure: prompts, class names, answers, draws, votes, options, filter, two steps, rewards, leakage."""
