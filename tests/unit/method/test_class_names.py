"""One class name in its many spellings, and look-alike names that must never merge."""

import json
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import ROOT

from pipeline.method.class_names import Matcher
from pipeline.method.spelling import normalised

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
    "An-12",
    "A380",
    "Harris Sparrow",
    "Black and white Warbler",
    "balloon flower",
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
    ("Anna's Hummingbird (Calypte anna).", "Anna Hummingbird", "full stop after the parenthesis"),
    ("Laysan Albatross （黑背信天翁）", "Laysan Albatross", "full-width brackets"),
    ("An-12 aircraft", "An-12", "the An of the name is no article"),
    ("the An-12", "An-12", "only the first article goes"),
    ("A 380 plane", "A380", "the noun goes before what looks like an article"),
    ("Harris's Sparrow", "Harris Sparrow", "possessive of a name in s"),
    ("harris's_sparrow", "Harris Sparrow", "possessive before an underscore"),
    ("Harris' Sparrow", "Harris Sparrow", "the other possessive"),
    ("Black & White Warbler", "Black and white Warbler", "ampersand"),
    ("balloon flower plant", "balloon flower", "one generic noun goes, the other is the name's"),
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
    ("12", "An-12 has no article"),
    ("Geai (Anna Hummingbird)", "a name inside brackets only is a remark"),
    ("the 12", "nor has it here"),
    ("A-12", "a hyphen: no article"),
    ("balloon", "names keep their generic nouns"),
    ("Laysan Albatross (Black-footed Albatross)", "two names, one in brackets"),
    ("A. Laysan Albatross", "a lettered line is no article: the letter may say something else"),
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


def test_brackets_come_off_the_text_or_the_name_never_both():
    matcher = Matcher(["crane (bird)", "Tern"])
    assert matcher.match("crane") == matcher.match("Crane [bird]") == 0
    assert matcher.match("crane (machine)") is None
    assert Matcher(["crane (bird)", "crane (machine)"]).match("crane") is None


def test_marks_that_make_another_word_are_kept():
    """Hindi vowels and the voice marks of kana are not accents: without them these names would be one."""
    assert [Matcher(["की", "का"]).match(text) for text in ("की", "का")] == [0, 1]
    assert Matcher(["バラ"]).match("ハラ") is None


def test_a_matcher_goes_to_a_worker_process():
    assert pickle.loads(pickle.dumps(MATCHER)).match("md 11") == NAMES.index("MD-11")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["a" + " " * 400_000 + "b", "(" * 400_000, "()" * 200_000, "bird " * 80_000])
def test_a_runaway_completion_is_read_in_linear_time(text):
    """Models repeat themselves up to the token limit; with a quadratic pattern this test takes hours."""
    assert Matcher(["Laysan Albatross"]).match(text) is None


@pytest.mark.parametrize(
    ("names", "aliases", "sentence"),
    [
        (["MD-11", "md 11"], {}, "cannot be distinguished"),
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
    cub = (folder / "cub/official/classes.txt").read_text(encoding="utf-8").splitlines()
    pets = (folder / "oxford_pets/official/list.txt").read_text(encoding="utf-8").splitlines()
    flowers = json.loads((folder / "oxford_flowers/coop/cat_to_name.json").read_text(encoding="utf-8"))
    cars = json.loads((folder / "stanford_cars/coop/split_zhou_StanfordCars.json").read_text(encoding="utf-8"))
    return {
        "cub": [line.split(".", 1)[1].replace("_", " ") for line in cub],
        "aircraft": (folder / "fgvc_aircraft/reconstructed/variants.txt").read_text(encoding="utf-8").split("\n")[:100],
        "pets": sorted({line.split()[0].rsplit("_", 1)[0].replace("_", " ") for line in pets if line[0] != "#"}),
        "flowers": [flowers[key] for key in sorted(flowers, key=int)],
        "cars": [name for _, name in sorted({(label, name) for _, label, name in cars["train"]})],
    }


LISTS = {"made up": NAMES, **official_lists()}


@pytest.mark.slow
@pytest.mark.parametrize("names", LISTS.values(), ids=LISTS)
def test_canonical_names_survive_distortion_and_never_swap(names):
    matcher, rng = Matcher(names), random.Random(0)
    for index, name in enumerate(names):
        assert matcher.match(name) == index
        for _ in range(50):
            text = distorted(name, rng)
            assert matcher.match(text) == index, f"{text!r} for {name!r}"


@pytest.mark.slow
@pytest.mark.parametrize("names", LISTS.values(), ids=LISTS)
def test_a_class_that_is_not_in_the_list_is_never_taken_for_another(names):
    """Every name is a stranger once: a novel class must not be read as a base class."""
    for index, name in enumerate(names):
        strangers = Matcher([*names[:index], *names[index + 1 :]])
        assert strangers.match(name) is None, name
        assert strangers.match(f"the {name} (Genus species)") is None, name


@pytest.mark.skipif(len(LISTS) == 1, reason="the official class lists (../shared/datasets) are not here")
def test_the_official_lists_are_whole():
    sizes = {name: len(names) for name, names in LISTS.items() if name != "made up"}
    assert sizes == {"cub": 200, "aircraft": 100, "pets": 37, "flowers": 102, "cars": 196}


@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
def test_distortions_never_lead_to_another_name(name, rng):
    assert MATCHER.match(distorted(name, rng)) == NAMES.index(name)


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@given(st.text(max_size=60))
def test_any_text_is_read_without_a_crash_and_the_same_in_another_case(text):
    found = MATCHER.match(text)
    assert found == MATCHER.match(text)
    if text.isascii():
        assert found == MATCHER.match(text.upper())


BIRDS = Matcher(
    ["Laysan Albatross", "Sooty Albatross", "Oxeye daisy", "American Goldfinch", "Black-billed Magpie", "Puma"],
    {"Diomedea immutabilis": "Laysan Albatross", "cougar": "Puma"},
)


@pytest.mark.parametrize(
    ("text", "index", "reason"),
    [
        ("Laysan Albatross (not this)", None, "taken back"),
        ("Laysan Albatross (ruled out)", None, "taken back in other words"),
        ("Laysan Albatross (isn't it)", None, "a negation that is a question"),
        ("Laysan Albatross (or Sooty Albatross)", None, "an alternative"),
        ("Laysan Albatross (or California Gull)", None, "an alternative that the list lacks"),
        ("Puma (or cougar)", 5, "an alternative that is the same class"),
        ("Laysan Albatross?", None, "a doubt"),
        ('"Laysan Albatross?"', None, "a doubt in quotes"),
        ("Laysan Albatross (?)", None, "a doubt in brackets"),
        ("Laysan Albatross (juvenile)", 0, "a remark"),
        ("Laysan Albatross (Diomedea immutabilis)", 0, "its other name"),
        ("Oxeye daisies", 2, "-ies for -y"),
        ("American Goldfinches", 3, "-es"),
        ("Laysan Albatrosses", 0, "-sses"),
        ("black billed magpies", 4, "-ies for -ie"),
    ],
)
def test_brackets_doubts_and_plurals(text, index, reason):
    assert BIRDS.match(text) == index, reason


def test_a_name_with_a_question_mark_is_no_doubt():
    assert Matcher(["Who are you?", "wren"]).match("Who are you?") == 0
