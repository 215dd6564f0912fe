"""Training with a prompt that is read once for its whole group."""
