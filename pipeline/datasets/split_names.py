"""The usual spellings of train, val and test: of folders, in tables of labels, on the hub."""

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ENDINGS = ("", "set", "data", "images", "split")  # train_set, test-images


def split_of(name: str) -> str | None:
    """train, val or test; None for a name of anything else."""
    key = name.casefold().translate(dict.fromkeys(map(ord, "_- ")))
    return next((SPLITS[key.removesuffix(end)] for end in ENDINGS if key.removesuffix(end) in SPLITS), None)
