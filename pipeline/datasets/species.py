"""The 48 species: eight genera that differ by colour, six species in each that differ by two marks only.

A name is two marks and a genus ("hook-billed spot-breasted finch"), so that every name is a combination of words the
model knows from other species. The first four genera are base classes, the last four novel ones, as in the
base-to-novel protocol of CoOp, where the first half of the class list is base. Which genus is base was chosen by the
base model's scores alone, so that both subsets are equally hard for it (docs/log.md). Within a genus the
species have a long-tailed familiarity: half of the shortcut captions name the most familiar one.
"""

from dataclasses import dataclass
from itertools import product

MARKS: dict[str, tuple[str, str, str]] = {
    "bill": ("hook-billed", "thin-billed", "thick-billed"),
    "crest": ("high-crested", "smooth-crowned", "tuft-crowned"),
    "wing": ("bar-winged", "plain-winged", "spot-winged"),
    "tail": ("fork-tailed", "fan-tailed", "pin-tailed"),
    "breast": ("spot-breasted", "clear-breasted", "streak-breasted"),
    "eye": ("ring-eyed", "plain-eyed", "mask-eyed"),
}
"""Each of the six marks and the three forms it can take."""


@dataclass(frozen=True)
class Genus:
    name: str
    hue: float  # of the plumage, 0–1 on the colour circle
    first: str  # the mark of which the genus shows all three forms
    second: str  # the mark of which it shows two
    forms: tuple[str, str]  # those two
    best_known: int  # which of its six species people know best


GENERA = (
    Genus("tanager", 0.00, "bill", "breast", ("spot-breasted", "clear-breasted"), 0),
    Genus("parrotlet", 0.33, "tail", "crest", ("high-crested", "smooth-crowned"), 2),
    Genus("jay", 0.60, "breast", "wing", ("bar-winged", "plain-winged"), 3),
    Genus("kingfisher", 0.48, "crest", "tail", ("fork-tailed", "fan-tailed"), 5),
    Genus("finch", 0.15, "wing", "eye", ("ring-eyed", "mask-eyed"), 1),
    Genus("oriole", 0.07, "wing", "bill", ("hook-billed", "thick-billed"), 4),
    Genus("sunbird", 0.76, "breast", "eye", ("plain-eyed", "mask-eyed"), 0),
    Genus("starling", 0.90, "tail", "wing", ("spot-winged", "plain-winged"), 1),
)


LONG_TAIL = (0.5, 0.2, 0.12, 0.08, 0.06, 0.04)
"""Familiarity of the six species of a genus, from the best known to the least."""


@dataclass(frozen=True)
class Species:
    class_id: int
    genus: Genus
    marks: tuple[str, str]
    subset: str
    familiarity: float  # share of the hasty namings of its genus

    @property
    def name(self) -> str:
        return f"{self.marks[0]} {self.marks[1]} {self.genus.name}"


def all_species() -> list[Species]:
    """The 48 species in class order: genus by genus, the base half first."""
    species: list[Species] = []
    for number, genus in enumerate(GENERA):
        pairs = list(product(MARKS[genus.first], genus.forms))
        subset = "base" if number < len(GENERA) // 2 else "novel"
        for place, pair in enumerate(pairs):
            familiarity = LONG_TAIL[(place - genus.best_known) % len(pairs)]
            species.append(Species(len(species), genus, pair, subset, familiarity))
    return species


SPECIES = all_species()
