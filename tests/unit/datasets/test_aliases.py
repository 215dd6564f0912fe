"""Our tables of class names and aliases, read by the matcher, and the command that shows how an answer is read."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.project import ROOT
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.params import UserError
from pipeline.datasets import OFFICIAL
from pipeline.datasets.layout import class_table
from pipeline.datasets.protocols import base_classes
from pipeline.method.class_names import Matcher
from pipeline.method.spelling import normalised

SHARED = Path(os.environ.get("DIVEK_DATASETS", ROOT.parent / "shared" / "datasets"))
real = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no official metadata at {SHARED}; set DIVEK_DATASETS")

TABLES = {name: class_table(name) for name in OFFICIAL}
NAMES = {dataset: [name for _, name, _ in table] for dataset, table in TABLES.items()}
SPELLINGS = {
    dataset: [(text, class_id) for class_id, name, aliases in table for text in (name, *aliases)]
    for dataset, table in TABLES.items()
}


def matcher_of(table) -> Matcher:
    return Matcher([name for _, name, _ in table], {alias: name for _, name, aliases in table for alias in aliases})


MATCHERS = {dataset: matcher_of(table) for dataset, table in TABLES.items()}
datasets = st.sampled_from(sorted(TABLES))
each_dataset = pytest.mark.parametrize("dataset", TABLES)


# --- The tables ---


@pytest.mark.parametrize(
    ("dataset", "count"), [("flowers", 102), ("pets", 37), ("cars", 196), ("aircraft", 100), ("cub", 200)]
)
def test_a_table_numbers_its_classes_from_0(dataset, count):
    assert [class_id for class_id, _, _ in TABLES[dataset]] == list(range(count))


def test_a_table_that_is_not_there_is_a_mistake():
    for name in ("birds", "../names/cub", ""):
        with pytest.raises(UserError, match=f"only of {', '.join(sorted(OFFICIAL))}"):
            class_table(name)


def official_names(dataset: str) -> list[str]:
    """Class names made from the official metadata, another way than the readers do."""
    if dataset == "cub":
        lines = (SHARED / "cub/official/classes.txt").read_text(encoding="utf-8").splitlines()
        return [line.partition(".")[2].replace("_", " ") for line in lines]
    if dataset == "aircraft":
        return (SHARED / "fgvc_aircraft/reconstructed/variants.txt").read_text(encoding="utf-8").splitlines()
    if dataset == "flowers":
        names = json.loads((SHARED / "oxford_flowers/coop/cat_to_name.json").read_text(encoding="utf-8"))
        return [names[str(label)] for label in range(1, 103)]
    if dataset == "pets":
        rows = [
            line.split() for line in (SHARED / "oxford_pets/official/list.txt").read_text(encoding="utf-8").splitlines()
        ]
        stems = {int(row[1]): row[0] for row in rows if not row[0].startswith("#")}
        return [stems[label].rpartition("_")[0].replace("_", " ") for label in sorted(stems)]
    from scipy.io import loadmat

    cells = loadmat(SHARED / "stanford_cars/official/cars_meta.mat")["class_names"][0]
    return [re.sub(r"(.*) (\d{4})", r"\2 \1", cell.item()) for cell in cells]


@real
@each_dataset
def test_names_are_the_official_ones(dataset):
    assert NAMES[dataset] == official_names(dataset)


@each_dataset
def test_no_name_or_alias_is_there_twice(dataset):
    seen: dict[str, tuple[str, int]] = {}
    for text, class_id in SPELLINGS[dataset]:
        assert text == " ".join(text.split()) and "|" not in text
        assert seen.setdefault(normalised(text), (text, class_id)) == (text, class_id)


@each_dataset
def test_every_name_and_alias_is_found_as_its_class_and_as_no_other(dataset):
    for text, class_id in SPELLINGS[dataset]:
        why = MATCHERS[dataset].explain(text)
        assert MATCHERS[dataset].match(text) == why.index == class_id, text
        assert {index for _, index in why.spellings} == {class_id} and not why.overlooked, text


@pytest.mark.slow
@each_dataset
def test_a_class_that_is_not_in_the_list_is_never_taken_for_another(dataset):
    """Answers are read among the classes of a half: no name or alias may name a class of the other half.

    Halves by each bit of the class's number: two classes differ in one, so every pair is parted once.
    """
    table = TABLES[dataset]
    base = range(base_classes(len(table)))
    subsets = [base, *({row[0] for row in table if row[0] >> bit & 1} for bit in range(8))]
    for subset in subsets:
        parted = [[row for row in table if (row[0] in subset) == inside] for inside in (True, False)]
        for classes, others in (parted, parted[::-1]):
            matcher = matcher_of(classes)
            for _, name, aliases in others:
                for text in (name, *aliases):
                    assert matcher.match(text) is None, text
                    assert matcher.match(f"the {text.lower()} (a remark)") is None, text


ALIASES = [
    ("flowers", "Barberton daisy", "barbeton daisy", "how people spell it"),
    ("flowers", "guernsey lily", "cape flower", "renamed by the reference"),
    ("flowers", "plumed celosia", "prince of wales feathers", "renamed by the reference"),
    ("flowers", "Nasturtium", "watercress", "renamed by the reference: the images show it"),
    ("flowers", "prince of Wales' feathers", "prince of wales feathers", "the possessive"),
    ("flowers", "Pelargonium × hortorum", "pelargonium", "a hybrid, with the sign"),
    ("flowers", "Pelargonium x hortorum", "pelargonium", "a hybrid, with the letter"),
    ("cub", "Arctic Tern", "Artic Tern", "the official name is misspelt"),
    ("cub", "Nelson’s Sparrow", "Nelson Sharp tailed Sparrow", "today's name"),
    ("cub", "roadrunner", "Geococcyx", "an official name that is a genus"),
    ("cub", "Grey Catbird", "Gray Catbird", "British spelling"),
    ("cub", "Great Gray Shrike", "Great Grey Shrike", "American spelling"),
    ("cub", "Setophaga pinus", "Pine Warbler", "today's genus"),
    ("cub", "Dendroica pinus", "Pine Warbler", "the genus until 2011"),
    ("cub", "Anna's Hummingbird (Calypte anna)", "Anna Hummingbird", "both names"),
    ("cub", "Calypte anna (Anna's Hummingbird)", "Anna Hummingbird", "both names, the other first"),
    ("pets", "St. Bernard dog", "saint bernard", "abbreviated"),
    ("pets", "pitbull", "american pit bull terrier", "in one word"),
    ("pets", "German Shorthaired Pointer", "german shorthaired", "the official name is cut short"),
    ("cars", "Chevy Corvette ZR1 2012", "2012 Chevrolet Corvette ZR1", "the maker's short name, the year at the end"),
    ("cars", "VW Golf Hatchback (1991)", "1991 Volkswagen Golf Hatchback", "the year in brackets"),
    ("cars", "2012 Mercedes E-Class Sedan", "2012 Mercedes-Benz E-Class Sedan", "half of the maker"),
    ("aircraft", "Boeing 737-200", "737-200", "the maker"),
    ("aircraft", "McDonnell Douglas MD-11", "MD-11", "the maker"),
    ("aircraft", "F/A-18 Hornet", "F/A-18", "its name"),
    ("aircraft", "Bombardier Dash 8 Q100", "DHC-8-100", "today's maker and name"),
]


@pytest.mark.parametrize(("dataset", "text", "name", "reason"), ALIASES)
def test_an_alias(dataset, text, name, reason):
    assert MATCHERS[dataset].match(text) == NAMES[dataset].index(name), reason


NOT_A_CLASS = {
    "aircraft": "707|727|737|747|757|767|777|737-100|737-20|737-8|737-2000|747-8|767-500|777-400|A300|A330|A340|"
    "A320-200|A319neo|A330-900|A350|ATR|ATR-52|BAE-146|CRJ|CRJ-100|CRJ-1000|C-17|C-13|DC-9|DC-9-3|DC-9-40|DC-7|DHC-8|"
    "DHC-8-400|Q400|E-175|E-17|ERJ-140|EMB-110|F-16|F-16C|F/A-18E|Il-62|L-101|MD-8|MD-88|PA-18|SR-22|Tu-144|Tu-15|Yak-40|Boeing|"
    "Boeing 737|Airbus A340|Dash 8|Dash 8-400|Embraer 140|Cessna|Cessna 17|Cessna 182|Cessna Citation|Gulfstream|"
    "Gulfstream I|Gulfstream VI|Falcon|Falcon 90|Falcon 7X|Fokker|Fokker 10|Fokker F27|Challenger 604|Global 5000|Hawk|"
    "Hawk T2|King Air|King Air 200|Saab 34|Saab 200|Dakota|Typhoon|Super Hornet",
    "flowers": "poppy|lily|iris|daisy|anemone|dahlia|primrose|crocus|gentian|thistle|orchid|marigolds and roses|"
    "Mexican marigold|autumn crocus|winter aconite|pink dahlia|evening primrose",
    "cub": "Albatross|Sparrow|Wren|Warbler|Tern|Gull|Scrub Jay|White throated|Audubon's Warbler|Thick billed Kingbird|"
    "Setophaga|Eurasian Tree Sparrow|Great White Pelican|Pied Wren|Brown Pelicans and Gulls",
    "pets": "bulldog|french bulldog|cocker spaniel|american cocker spaniel|english bulldog|terrier|spaniel|retriever|"
    "american staffordshire terrier|staffordshire terrier|bull terrier|pointer|pinscher|shorthair|american shorthair",
    "cars": "Audi S4 Sedan|Audi|2012 Chevrolet Silverado 1500|2012 BMW 3 Series|2007 Audi TTS Coupe|2012 Ford F-150|"
    "Bentley Continental GT Coupe|2012 Ram|Mercedes|2009 Dodge Ram 3500|2012 Suzuki SX4",
}


@pytest.mark.parametrize("dataset", NOT_A_CLASS)
def test_a_family_or_a_sibling_is_no_class(dataset):
    texts = NOT_A_CLASS[dataset].split("|")
    assert {text: MATCHERS[dataset].match(text) for text in texts} == dict.fromkeys(texts)


# --- Distortions ---

# CUB leaves out the 's of people's names.
PEOPLE = re.compile(
    r"\b(Brewer|Brandt|Heermann|Anna|Clark|Scott|Baird|Harris|Henslow|Conte|Lincoln|Nelson|Swainson|Wilson|Bewick)\b"
)
NOUNS = ["species", "bird", "Birds", "flower", "plant", "dog", "cat", "breed", "car", "vehicle", "aircraft", "jet"]
ACCENTS = "\u0301\u0300\u0302\u0308\u030c\u0327\u0323"
ENDS = ["", ".", "!", " ", "**", " (a remark)", " [seen from below].", "（Genus species）"]


def recased(draw, text: str) -> str:
    return draw(st.sampled_from([str, str.lower, str.upper, str.title, str.swapcase]))(text)


def separated(draw, text: str, separators: str = " -_\u2010\u2013\u00a0") -> str:
    """Other spaces, hyphens and underscores between the words."""
    return re.sub(r"[ -]", lambda _: draw(st.sampled_from(separators)), text)


def accented(draw, text: str) -> str:
    places = draw(st.sets(st.integers(0, len(text) - 1), max_size=3))
    marked = "".join(
        c + draw(st.sampled_from(ACCENTS)) if i in places and c.isalpha() else c for i, c in enumerate(text)
    )
    return unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), marked)


def possessive(draw, text: str) -> str:
    """Apostrophes straight, curly or left out; people's names of CUB with their 's."""
    mark = draw(st.sampled_from(["'", "’", "ʼ", "`"]))
    text = text.replace("'", draw(st.sampled_from([mark, ""])))
    if draw(st.booleans()):
        return PEOPLE.sub(lambda name: f"{name[0]}{mark}s", text.replace("Forsters", f"Forster{mark}s"))
    return text


@st.composite
def distorted(draw, dataset: str, name: str) -> str:
    """`name` as people and models write it."""
    text = name
    if dataset == "cars":
        year, *words = text.split(" ")
        words.insert(draw(st.integers(0, len(words))), year)
        text = " ".join(words)
    if dataset in ("cub", "flowers"):
        text = possessive(draw, text)
    # In one word only as the table has the words: without spaces no year or 's can be told.
    text = text.replace(" ", "").replace("-", "") if text == name and draw(st.booleans()) else separated(draw, text)
    text = recased(draw, accented(draw, text))
    nouns = draw(st.lists(st.sampled_from(NOUNS), max_size=2))
    article = draw(st.sampled_from(["", "a ", "the ", "The_", "An "]))
    start = draw(st.sampled_from(["", " ", "**", '"']))
    return start + article + separated(draw, " ".join([text, *nouns])) + draw(st.sampled_from(ENDS))


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.data(), datasets)
def test_a_class_name_survives_any_mix_of_distortions(data, dataset):
    class_id, name, _ = data.draw(st.sampled_from(TABLES[dataset]))
    text = data.draw(distorted(dataset, name))
    assert MATCHERS[dataset].match(text) == class_id, text


@pytest.mark.slow
@settings(max_examples=500)
@given(st.data(), datasets)
def test_an_alias_survives_case_separators_accents_and_remarks(data, dataset):
    text, class_id = data.draw(st.sampled_from(SPELLINGS[dataset]))
    text = recased(data.draw, accented(data.draw, separated(data.draw, text))) + data.draw(st.sampled_from(ENDS))
    assert MATCHERS[dataset].match(text) == class_id, text


def words_of(dataset: str) -> list[str]:
    return sorted({word for text, _ in SPELLINGS[dataset] for word in re.split(r"[ -]", text)} | {"a", "the", "bird"})


WORDS = {dataset: words_of(dataset) for dataset in TABLES}


@pytest.mark.slow
@settings(max_examples=500)
@given(st.data(), datasets)
def test_case_and_signs_never_lead_to_another_class(data, dataset):
    """Any words of names, in any order: two ways to write them never name two classes."""
    name = data.draw(st.sampled_from(SPELLINGS[dataset]))[0]
    words = data.draw(st.lists(st.sampled_from(WORDS[dataset]), max_size=2))
    text = " ".join(data.draw(st.permutations([name, *words])))
    found = {MATCHERS[dataset].match(separated(data.draw, recased(data.draw, text))) for _ in range(3)}
    assert len(found - {None}) <= 1
    assert (
        MATCHERS[dataset].match(text) == MATCHERS[dataset].match(text.upper()) == MATCHERS[dataset].match(text.lower())
    )


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data(), datasets)
def test_matching_is_idempotent_and_explained_as_it_is(data, dataset):
    name = data.draw(st.sampled_from(SPELLINGS[dataset]))[0]
    text = data.draw(st.one_of(st.text(max_size=30), distorted(dataset, name)))
    found, why = MATCHERS[dataset].match(text), MATCHERS[dataset].explain(text)
    assert why.index == found
    if found is not None:
        assert MATCHERS[dataset].match(NAMES[dataset][found]) == found
        assert {index for _, index in why.spellings} == {found}


# --- Why ---


def test_what_two_classes_share_is_explained():
    matcher = Matcher(["Wilsons Wren", "Wilson Wren"], {"jenny (bird)": "Wilson Wren"})
    why = matcher.explain("Wilson's Wrens")
    assert (why.index, why.spellings) == (None, (("Wilsons Wren", 0), ("Wilson Wren", 1)))
    assert matcher.explain("Jenny").overlooked == "the name's own bracket"
    assert matcher.explain("a thrush (Wilson Wren)").spellings == (), "a name in brackets only is a remark"


COMMAND = [
    ("cub", "House Wren", "'House Wren': House Wren: class name"),
    ("cub", "artic_tern", "'artic_tern': Artic Tern: class name"),
    ("cub", "arctic tern", "'arctic tern': Artic Tern: alias 'Arctic Tern'"),
    ("cub", "  the Bobolink bird. ", "'  the Bobolink bird. ': Bobolink: class name, read as 'Bobolink'"),
    ("cub", "House Wren (brown)", "'House Wren (brown)': House Wren: class name, read as 'House Wren'"),
    ("cub", "Anna’s Hummingbird", "overlooking s of possessive or plural"),
    ("cub", "Blackfooted Albatross", "Black footed Albatross: class name, overlooking spaces and hyphens"),
    ("cars", "Audi TTS Coupe 2012", "2012 Audi TTS Coupe: class name, overlooking place of the year"),
    ("cub", "Laysan Albatross (Black Tern)", "none: could be Laysan Albatross or Black Tern"),
    ("cub", "Bobolink (Arctic Tern)", "none: could be Bobolink or Artic Tern (alias 'Arctic Tern')"),
    ("cub", "Black foted Albatros", "none: not matched; similar: Black footed Albatross"),
    ("cars", "BMW M3", "none: not matched; similar: 2012 BMW M3 Coupe"),
    ("cub", "", "'': none: not matched"),
    ("cub", "\x1b[31m", r"'\x1b[31m': none: not matched"),
    ("cub", "bird " * 4000, "…': none: not matched"),
]


@pytest.mark.parametrize(("dataset", "text", "said"), COMMAND, ids=[said for *_, said in COMMAND])
def test_the_command_says_how_a_line_is_read(tmp_path, dataset, text, said):
    (tmp_path / "answers.txt").write_bytes(f"\ufeff{text}\r\nHouse Wren".encode())
    result = CliRunner().invoke(app, ["names", str(tmp_path / "answers.txt"), "--dataset", dataset])
    assert result.exit_code == 0 and len(result.output.splitlines()) == 2
    assert said in result.output.splitlines()[0]


def test_the_command_reads_standard_input():
    result = CliRunner().invoke(app, ["names", "-", "--dataset", "flowers"], input="daffodil\nrose plant\n")
    assert result.output.splitlines() == [
        "'daffodil': daffodil: class name",
        "'rose plant': rose: class name, read as 'rose'",
    ]


@pytest.mark.slow
def test_bad_input_is_one_sentence(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"a\nSe\xf1orita\n")
    for answers, dataset, said in [
        ("gone.txt", "cub", "gone.txt: cannot be read (No such file or directory)"),
        (".", "cub", "cannot be read (Is a directory)"),
        ("latin.txt", "cub", "latin.txt: line 2 is not UTF-8 text"),
        ("latin.txt", "birds", f"of a data set 'birds', only of {', '.join(OFFICIAL)}"),
    ]:
        result = CliRunner().invoke(app, ["names", str(tmp_path / answers), "--dataset", dataset])
        assert isinstance(result.exception, UserError) and said in str(result.exception)
    command = [sys.executable, "-m", "pipeline", "names", str(tmp_path / "gone.txt"), "--dataset", "cub"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
