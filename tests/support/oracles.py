"""The options of one image by plain Python: what the code for all images at once is held against."""

from collections import Counter

import numpy as np

from pipeline.method.options import sort_keys

SLACK = 1e-9


def ranked(class_ids):
    """All classes named in the draws, most frequent first, ties by the lower first draw. Null draws do not count."""
    # A Counter keeps the order of first appearance, and most_common sorts stably: that is the tie rule.
    return [class_id for class_id, _ in Counter(c for c in class_ids if c is not None).most_common()]


def top_options(class_ids, truth, k, mass=1.0):
    """The k most frequent classes, with a mass below 1 the fewest of them that hold this share of all votes.

    A `truth` (None at test time) that is not among them comes last: in a free place, else for the least frequent.
    """
    options = ranked(class_ids)[:k]
    if mass < 1:
        votes = Counter(class_id for class_id in class_ids if class_id is not None)
        held = [sum(votes[class_id] for class_id in options[: n + 1]) for n in range(len(options))]
        enough = [n + 1 for n, count in enumerate(held) if count >= mass * votes.total() - SLACK]
        options = options[: enough[0] if enough else k]
    if truth is None or truth in options:
        return options
    return [*options[: k - 1], truth]


def shuffled(options, seed, image_id):
    """The order shown."""
    return [options[place] for place in np.argsort(sort_keys([image_id], seed, len(options))[0], kind="stable")]


def option_rows(order, class_ids, names):
    """The options as the tables hold them, in the order shown."""
    votes = Counter(class_ids)
    rank = {class_id: place for place, class_id in enumerate(ranked(class_ids), start=1)}
    return [
        {
            "class_id": class_id,
            "name": names[class_id],
            "votes": votes[class_id],
            "rank": rank.get(class_id),
            "source": "draws" if class_id in rank else "truth",
        }
        for class_id in order
    ]
