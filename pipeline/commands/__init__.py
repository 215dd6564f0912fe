"""Commands that a person calls; the stages of the pipeline are modules of their own."""
