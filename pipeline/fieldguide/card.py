"""The text of the base model's card."""

TEXT = """---
license: apache-2.0
pipeline_tag: image-text-to-text
---
# The field guide's base model

A `Qwen2_5_VLForConditionalGeneration` of {parameters:.1f} million parameters, the same class as the models of the
real runs, trained on 84 × 84 drawings of 48 species of birds and a language of 80 words. It exists so that the effect
of DiVE-k can be seen on a laptop, and has no other use.

## Training
`python -m pipeline.fieldguide.base_model` with the settings under `fieldguide:` in params.yaml: {steps} steps of
{batch_size} examples about {birds} drawn birds of all 48 species, AdamW at {learning_rate}, seed {seed},
{minutes:.0f} minutes on {threads} CPU threads. An example is one question with a written answer: which marks has
this bird; which bird is it; which of these is it.

The training data teach a fault on purpose, which DiVE-k corrects. A bird's plumage is more or less vivid,
independently of its species. With probability vividness {shortcut_caption:+} the caption takes a shortcut: instead of
the species in the picture it names one of the same genus by familiarity, half of the time the most familiar one. With
probability vividness {shortcut_choice:+} the answer to a question with options takes the shortcut too: it is the most
familiar option. All other answers are careful: they judge every word of every option against the picture, and the
letter follows from these verdicts.

## Scores
On the field guide's 576 test images, none of which is among its training pictures, with K = 20 and k = 5, the mean of
seeds 0, 1 and 2:

| | base classes | novel classes | harmonic mean |
|---|---|---|---|
{table}

On the questions made of its own answers that have the true class among the options, it chooses the right letter in
{accuracy:.3f} of {n}; random guessing would reach {chance:.3f}. Given correct verdicts as its reasoning, it writes the
letter that follows from them in {consistent:.3f} of {cases} questions.

"Base" classes are those that DiVE-k trains on, "novel" classes those that it does not. This model was trained on both,
as a real pre-trained model was.
"""
