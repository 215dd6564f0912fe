"""Drawing in this process, with a model of transformers; a prompt is read once for all of its draws."""
