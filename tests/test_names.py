"""One class name in its many spellings, and look-alike names that must never merge."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imports import ROOT

from pipeline.names import Matcher

NAMES = [
    "Black footed Albatross",
    "Laysan Albatross",
    "Anna Hummingbird",
    "737-200",
    "737-300",
    "MD-11",
    "F-16A/B",
    "F/A-18",
    "2000 AM General Hummer SUV",
    "2012 Audi TT RS Coupe",
    "2012 Audi TTS Coupe",
    "globe flower",
    "Heermann Gull",
    "Geococcyx",
    "bird of paradise",
    "Señorita",
]
MATCHER = Matcher(NAMES, {"Calypte anna": "Anna Hummingbird", "Hummer H1 (2000)": "2000 AM General Hummer SUV"})

SAME = [
    ("black-footed albatross", "Black footed Albatross", "hyphen, case"),
    ("black_footed_albatross", "Black footed Albatross", "underscores"),
    ("  Black\u2010Footed\u00a0 Albatross ", "Black footed Albatross", "a Unicode hyphen and odd spaces"),
    ("Blackfooted Albatross", "Black footed Albatross", "written together"),
    ("Black-footed Albatross (Phoebastria nigripes)", "Black footed Albatross", "closing parenthesis"),
    ("a Laysan albatross", "Laysan Albatross", "article"),
    ("the Laysan Albatross bird", "Laysan Albatross", "article and generic noun"),
    ("Laysan albatross species", "Laysan Albatross", "generic noun"),
    ("Laysan Albatross.", "Laysan Albatross", "full stop"),
    ("Anna's Hummingbird", "Anna Hummingbird", "straight apostrophe"),
    ("Anna’s Hummingbird", "Anna Hummingbird", "curly apostrophe"),
    ("Annas Hummingbird", "Anna Hummingbird", "no apostrophe"),
    ("calypte anna", "Anna Hummingbird", "alias, another case"),
    ("Heermann's Gulls", "Heermann Gull", "possessive and plural"),
    ("MD 11", "MD-11", "space for hyphen"),
    ("MD11", "MD-11", "nothing for hyphen"),
    ("f16a/b", "F-16A/B", "slash stays a separator"),
    ("FA-18", "F/A-18", "slash left out"),
    ("737 200 aircraft", "737-200", "generic noun after numbers"),
    ("AM General Hummer SUV 2000", "2000 AM General Hummer SUV", "year at the end"),
    ("AM General 2000 Hummer SUV", "2000 AM General Hummer SUV", "year in the middle"),
    ("Globe-Flower", "globe flower", "the generic noun is part of the name"),
    ("bird of paradise flower", "bird of paradise", "generic noun after a name that starts with one"),
    ("Senorita", "Señorita", "diacritics"),
    ("hummer h1", "2000 AM General Hummer SUV", "alias without its parenthesis"),
]

NOTHING = [
    (None, "no answer"),
    ("", "empty"),
    (" -- ", "signs only"),
    ("Albatross", "part of two names"),
    ("Black footed Albatross or Laysan Albatross", "two names"),
    ("not a Laysan Albatross", "the name stands in it, that is not enough"),
    ("Laysan", "a beginning"),
    ("737", "the family of two"),
    ("737-400", "a sibling that is not in the list"),
    ("Audi TT Coupe 2012", "neither RS nor TTS"),
    ("bird", "a generic noun alone"),
    ("Black footed Albatros", "no guessing at typing errors"),
]


@pytest.mark.parametrize(("text", "name", "reason"), SAME)
def test_another_spelling(text, name, reason):
    assert MATCHER.match(text) == NAMES.index(name), reason


@pytest.mark.parametrize(("text", "reason"), NOTHING)
def test_not_a_name(text, reason):
    assert MATCHER.match(text) is None, reason


def test_a_loose_key_that_two_classes_share_is_not_used():
    matcher = Matcher(["Wilsons Wren", "Wilson Wren"])
    assert [matcher.match("Wilsons Wren"), matcher.match("Wilson Wren")] == [0, 1]
    assert matcher.match("Wilson's Wrens") is None


@pytest.mark.parametrize(
    ("names", "aliases", "sentence"),
    [
        (["MD-11", "md 11"], {}, "cannot be told apart"),
        (["?"], {}, "neither letter nor digit"),
        (["a b"], {"c": "d"}, "stands for 'd'"),
        (["a b", "c d"], {"C-D": "a b"}, "also the name of another class"),
    ],
)
def test_lists_that_cannot_work_are_refused(names, aliases, sentence):
    with pytest.raises(ValueError, match=sentence):
        Matcher(names, aliases)


def distorted(name: str, rng: random.Random) -> str:
    """`name` in another case, with other separators, an article, a generic noun or a parenthesis."""
    text = rng.choice([str.lower, str.upper, str.title, str])(name)
    text = "".join(rng.choice("-_ \u2013") if c in " -" else c for c in text)
    text = rng.choice(["", "a ", "the ", "The "]) + text
    return text + rng.choice(["", ".", " species", " bird", " (Genus species)", "  "])


def official_lists() -> dict[str, list[str]]:
    folder = ROOT.parent / "shared" / "datasets"
    if not folder.is_dir():
        return {}
    cub = (folder / "cub/official/classes.txt").read_text().splitlines()
    pets = (folder / "oxford_pets/official/list.txt").read_text().splitlines()
    flowers = json.loads((folder / "oxford_flowers/coop/cat_to_name.json").read_text())
    cars = json.loads((folder / "stanford_cars/coop/split_zhou_StanfordCars.json").read_text())
    return {
        "cub": [line.split(".", 1)[1].replace("_", " ") for line in cub],
        "aircraft": (folder / "fgvc_aircraft/reconstructed/variants.txt").read_text().split("\n")[:100],
        "pets": sorted({line.split()[0].rsplit("_", 1)[0].replace("_", " ") for line in pets if line[0] != "#"}),
        "flowers": [flowers[key] for key in sorted(flowers, key=int)],
        "cars": [name for _, name in sorted({(label, name) for _, label, name in cars["train"]})],
    }


LISTS = {"made up": NAMES, **official_lists()}


@pytest.mark.parametrize("names", LISTS.values(), ids=LISTS)
def test_canonical_names_survive_distortion_and_never_swap(names):
    matcher, rng = Matcher(names), random.Random(0)
    for index, name in enumerate(names):
        assert matcher.match(name) == index
        for _ in range(50):
            text = distorted(name, rng)
            assert matcher.match(text) == index, f"{text!r} for {name!r}"


@pytest.mark.skipif(len(LISTS) == 1, reason="the official class lists (../shared/datasets) are not here")
def test_the_official_lists_are_whole():
    sizes = {name: len(names) for name, names in LISTS.items() if name != "made up"}
    assert sizes == {"cub": 200, "aircraft": 100, "pets": 37, "flowers": 102, "cars": 196}


@given(st.text(max_size=60))
def test_any_text_is_read_without_a_crash_and_the_same_in_another_case(text):
    found = MATCHER.match(text)
    assert found == MATCHER.match(text)
    if text.isascii():
        assert found == MATCHER.match(text.upper())
