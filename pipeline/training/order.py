"""The order of the questions: a function of seed and step, so that an interrupted run can continue."""

import random
from collections.abc import Iterator


class Order:
    """The order of all steps of a run, as one pass for the data loader.

    Every pass over the questions has an order of its own. Questions at its end that do not fill a step are left out, so
    that no question occurs twice in a step.

    Args:
        questions: their number.
        prompts: questions of one batch of completions.
        batches: batches of completions in this run.
        generations: how often each question is repeated, one after the other.
        repeats: how often a whole batch is repeated: micro-batches × updates.
        seed: of the order.
        first: batches of the same training in earlier rounds.

    Raises:
        ValueError: there are fewer questions than prompts of a batch.
    """

    def __init__(
        self,
        questions: int,
        prompts: int,
        batches: int,
        generations: int = 1,
        repeats: int = 1,
        seed: int = 0,
        first: int = 0,
    ):
        if questions < prompts:
            raise ValueError(f"{questions} questions do not fill a step of {prompts}")
        self.questions, self.prompts, self.batches = questions, prompts, batches
        self.generations, self.repeats, self.seed, self.first = generations, repeats, seed, first

    def batch(self, number: int) -> list[int]:
        """The questions of batch `number`, from 0, each once."""
        in_pass = self.questions // self.prompts
        order = list(range(self.questions))
        random.Random(f"{self.seed}/{number // in_pass}").shuffle(order)
        start = number % in_pass * self.prompts
        return order[start : start + self.prompts]

    def __len__(self) -> int:
        return self.batches * self.prompts * self.generations * self.repeats

    def __iter__(self) -> Iterator[int]:
        for number in range(self.first, self.first + self.batches):
            questions = self.batch(number)
            for _ in range(self.repeats):
                for question in questions:
                    yield from [question] * self.generations
