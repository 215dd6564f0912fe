"""The text of the base model's card."""

TEXT = """---
license: apache-2.0
pipeline_tag: image-text-to-text
---
# The field guide's base model

A `Qwen2_5_VLForConditionalGeneration` of {parameters:.1f} million parameters, the very class of the real runs, that
knows nothing but 84 × 84 drawings of 48 birds and a language of 80 words. It exists so that the effect of DiVE-k can be
seen on a laptop. It is of no other use.

## How it was made
`python -m pipeline.fieldguide.base_model` with the settings under `fieldguide:` in params.yaml: {steps} steps of
{batch_size} examples about {birds} drawn birds of all 48 species, AdamW at {learning_rate}, seed {seed},
{minutes:.0f} minutes on {threads} CPU threads. An example is one question with a written answer: which marks has
this bird; which bird is it; which of these is it.

The fault that training corrects is there on purpose. A bird's plumage is more or less vivid, which says nothing
about its species; with probability vividness {shortcut_caption:+} the caption takes a shortcut and names a species of
the genus in a long tail (half of them the most familiar one) instead of the one in the picture; with
probability vividness {shortcut_choice:+} the answer to a question takes it too, with the most familiar option. All other answers are
careful: they judge every word of every option against the picture, and the letter follows from the verdicts.

## What it scores
On the field guide's test images (576, never among its training pictures), K = 20, k = 5, the mean of seeds 0,
1 and 2:

| | base classes | novel classes | harmonic mean |
|---|---|---|---|
{table}

On questions made of its own answers, with the true class among the options, it chooses the right letter in
{accuracy:.3f} of {n}; random guessing would reach {chance:.3f}. Given the right verdicts in its own reasoning it writes
the letter that belongs to them in {consistent:.3f} of {cases} questions.

"Base" and "novel" are the classes that training will and will not see. This model has seen both, as a
real pre-trained model has.
"""
