"""The class lists: what a question may show, and which class an answer names."""

from dataclasses import dataclass

import polars as pl

from pipeline.core.engine import Completion
from pipeline.method.answers import answer_text
from pipeline.method.class_names import Matcher


@dataclass(frozen=True)
class ParsedAnswer:
    """One completion, parsed: what it answers, which class that is, and how parsing went.

    `text` is the completion verbatim, or the reason of an error; `status` is one of `tables.STATUSES`; `probability` is
    that of the answer by the model itself, None where the engine does not know it.
    """

    text: str
    answer: str | None
    class_id: int | None
    status: str
    tokens: int
    probability: float | None = None


LABEL_SPACES = ("subset", "union")
"""The classes that an answer may name: those of the image's own subset, the paper's, or all of its data set."""


class ClassLists:
    """Class names by data set and subset. An answer counts only if it names a class of the image's label space.

    Args:
        classes: the table of classes.
        label_space: one of LABEL_SPACES. What the prompts show does not depend on it.
    """

    def __init__(self, classes: pl.DataFrame, label_space: str = "subset"):
        self.table = classes
        self._matchers: dict[tuple[str, str], tuple[Matcher, list[int]]] = {}
        self._ids: dict[tuple[str, str], list[int]] = {}
        self._subset_of: dict[tuple[str, int], str] = {}
        self._names: dict[str, dict[int, str]] = {}
        self._nouns: dict[str, str] = dict(classes.select("dataset", "noun").iter_rows())
        for (dataset, subset), rows in classes.group_by("dataset", "subset", maintain_order=True):
            names, ids = rows["name"].to_list(), rows["class_id"].to_list()
            own = rows if label_space == "subset" else classes.filter(dataset=dataset)
            self._matchers[dataset, subset] = matcher(own), own["class_id"].to_list()
            self._ids[dataset, subset] = ids
            self._subset_of.update({(dataset, class_id): subset for class_id in ids})
            self._names.setdefault(dataset, {}).update(zip(ids, names, strict=True))

    def names_of(self, dataset: str) -> dict[int, str]:
        """Class names of `dataset` by class id, both subsets."""
        return self._names[dataset]

    def names_in(self, dataset: str, subset: str) -> dict[int, str]:
        """Class names of one subset of `dataset` by class id, in the order of the ids."""
        return {class_id: self._names[dataset][class_id] for class_id in sorted(self._ids[dataset, subset])}

    def subset(self, dataset: str, class_id: int) -> str:
        """base or novel."""
        return self._subset_of[dataset, class_id]

    def noun(self, dataset: str) -> str:
        """What the pictures of `dataset` show."""
        return self._nouns[dataset]

    def parse(self, completion: Completion, dataset: str, subset: str) -> ParsedAnswer:
        """The class that `completion`, about an image of one subset, names."""
        if completion.error is not None:
            return ParsedAnswer(completion.error, None, None, "error", completion.tokens)
        answer = answer_text(completion.text)
        class_id = self.match(answer, dataset, subset)
        if answer is None:
            status = "no_answer" if completion.finished else "truncated"
        else:
            status = "off_list" if class_id is None else "ok"
        return ParsedAnswer(completion.text, answer, class_id, status, completion.tokens, completion.probability)

    def match(self, answer: str | None, dataset: str, subset: str) -> int | None:
        """The class that `answer`, about an image of one subset, names, or None."""
        own_matcher, ids = self._matchers[dataset, subset]
        index = own_matcher.match(answer)
        return None if index is None else ids[index]


def matcher(classes: pl.DataFrame) -> Matcher:
    """A matcher of these rows of the table of classes, which gives their places."""
    names = classes["name"].to_list()
    return Matcher(names, {a: name for name, others in zip(names, classes["aliases"], strict=True) for a in others})
