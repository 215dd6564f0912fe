"""Strict reading: nasty strings, each with the reason for what it is read as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.answer_fuzz import NAMES, OPTION_LETTERS, made_answers
from support.training import LISTS

from pipeline.method.answers import answer_text, letter, well_formed
from pipeline.method.rewards import format_reward, letter_reward, rewards

OPTIONS = ["Black-footed Albatross", "Laysan Albatross", "Sooty Albatross", "Indigo Bunting", "Anna Hummingbird"]

TEXTS = [
    ("<think>t</think><answer>wren</answer>", "wren", "as asked"),
    ("<answer> wren\n</answer>", "wren", "without a thought, with white space"),
    ("<think>t</think>\n<ANSWER>wren</Answer>", "wren", "tags in another case"),
    ("<answer >wren</ answer>", "wren", "spaces inside the tags"),
    ("wren", None, "chat outside <answer> never counts"),
    ("<think>t</think> wren", None, "chat after the thought does not either"),
    ("<think><answer>owl</answer></think><answer>wren</answer>", "wren", "an answer inside the thought is a thought"),
    ("<think><answer>owl</answer></think>", None, "only that"),
    ("<think>it is <answer>wren</answer>", None, "the thought never ends"),
    ("<answer>wren", None, "cut off"),
    ("wren</answer>", None, "never opened"),
    ("<answer></answer>", None, "empty"),
    ("<answer>  </answer>", None, "white space only"),
    ("<answer>wren</answer><answer>owl</answer>", None, "two different answers"),
    ("<answer>wren</answer> so <answer>wren</answer>", "wren", "the same answer twice"),
    ("<answer>wren</answer> or <answer>owl", None, "a second one begun"),
    ("<answer><answer>wren</answer></answer>", None, "nested"),
    ("<answer>wren</answer></answer>", None, "closed twice"),
    ("owl</answer><answer>wren</answer>", None, "closed before it opens"),
    ("<answer>wren</answer><think>hm", None, "thinks again and never ends"),
    ("<think>a</think><answer>owl</answer><think>b</think><answer>wren</answer>", "wren", "a second thought counts"),
    ("", None, "nothing"),
    (r"<answer>\boxed{Brandt&#39;s Cormorant}</answer>", "Brandt's Cormorant", "a box and an entity"),
    ("<answer>```text\nwren\n```</answer>", "wren", "a code fence"),
    (r"<answer>the \boxed{wren} here</answer>", r"the \boxed{wren} here", "a box that is not all of it"),
]

LETTERS = [
    ("B", "B", "alone"),
    ("b", "B", "small"),
    ("(B)", "B", "round"),
    ("[b]", "B", "square"),
    ("**B**", "B", "bold"),
    ("`B`", "B", "code"),
    ("B.", "B", "full stop"),
    ("B)", "B", "half a bracket"),
    ("B:", "B", "colon"),
    ("'B'", "B", "quotes"),
    ('"B"', "B", "double quotes"),
    ("$B$", "B", "LaTeX"),
    (r"\boxed{B}", "B", "boxed"),
    (r"$\boxed{\text{B}}$", "B", "boxed text"),
    ("Option B", "B", "named as an option"),
    ("option (b).", "B", "the same in brackets"),
    ("Answer: B", "B", "announced"),
    ("The answer is B.", "B", "in a sentence"),
    ("The correct option is **B**", "B", "in a longer one"),
    ("It is D", "D", "short sentence"),
    ("I choose E", "E", "first person"),
    ("B - Laysan Albatross", "B", "with its own text"),
    ("B. laysan albatross", "B", "with its own text in another case"),
    ("(B) Laysan Albatross", "B", "brackets and text"),
    ("B Laysan Albatross", "B", "no separator"),
    ("Laysan Albatross", "B", "the text alone"),
    ("laysan_albatross", "B", "the text as a file name"),
    ("This is a Laysan Albatross.", "B", "the text in a sentence"),
    ("A Laysan Albatross", "B", "an article, not the letter A"),
    ("an Indigo Bunting", "D", "the other article"),
    ("Anna's Hummingbird", "E", "the matcher's spellings count"),
    ("B. dark bill, dark eye patch", None, "words that name no option may take it back"),
    ("B. Sooty Albatross", None, "letter and text disagree"),
    ("A. Laysan Albatross", None, "letter and text disagree, with a separator"),
    ("It is D rather than E", None, "two letters, in words"),
    ("A or B", None, "two letters"),
    ("A, B", None, "a list"),
    ("B and C", None, "both"),
    ("B/C", None, "either"),
    ("B. or C", None, "a second thought"),
    ("B, not C", None, "a contrast needs no second letter"),
    ("B - not the Sooty Albatross", None, "brings up another option"),
    ("AB", None, "a word"),
    ("F", None, "not offered"),
    ("Option F", None, "not offered, in words"),
    ("2", None, "a number is no letter"),
    ("Albatross", None, "part of three options"),
    ("Laysan or Sooty Albatross", None, "two birds"),
    ("Western Gull", None, "no option at all"),
    ("none of them", None, "a refusal"),
    ("?", None, "a sign"),
    ("B?", None, "asked, not said"),
    ("B. maybe?", None, "a doubt"),
    ("B - not this one", None, "refused"),
    ("B: incorrect", None, "judged, not chosen"),
    ("(b) or (c)", None, "two small letters"),
    ("Laysan Albatross (B)", "B", "its own letter behind the text"),
    ("Laysan Albatross (A)", None, "another letter behind the text"),
    ("C-130", None, "an aircraft, not the letter C"),
    ("E-170", None, "an aircraft, not the letter E"),
    ("（Ｂ）", "B", "full width"),
    (r"\(B\)", "B", "LaTeX in brackets"),
    ("B. Arctic bird", None, "a letter and a name that the list lacks"),
    ("B. maybe", None, "a doubt"),
    ("B. Laysan Albatross is ruled out", None, "taken back"),
    ("B. the laysan albatross, unlike the black footed albatross", None, "two names, hyphens or not"),
    ("<|begin_of_box|>B<|end_of_box|>", "B", "special tokens around it"),
    ("B<|im_end|>", "B", "a special token behind it"),
    ("B</s>", "B", "an end mark"),
    ("B<end_of_turn>", "B", "another end mark"),
    ("<|begin_of_box|>Laysan Albatross<|end_of_box|>", "B", "special tokens around the text"),
    ("<b>B</b>", "B", "HTML"),
    ("<strong>B.</strong> Laysan Albatross<br>", "B", "HTML and its own text"),
    ("B. Laysan Albatross (ruled out)", None, "taken back in brackets"),
    ("B. Laysan Albatross (or A)", None, "an alternative in brackets"),
    ("Laysan Albatross (not this)", None, "refused in brackets"),
    ("Laysan Albatross (or Sooty Albatross)", None, "another option in brackets"),
    ("Laysan Albatross?", None, "a doubt about the text"),
    ("B. Laysan Albatross?", None, "a doubt about both"),
    (r"\boxed{{B}}", "B", "boxed twice"),
    (r"$\boxed{ { B } }$", "B", "the same with spaces"),
    ("### B", "B", "a heading"),
    ("> B", "B", "a quotation"),
    ("- B", "B", "an item of a list"),
    ("【B】", "B", "brackets of Chinese text"),
    ("「B」", "B", "others"),
    ("\u200bB", "B", "a zero-width character before it"),
    ("\ufeffB\u200d", "B", "others, around it"),
    ("我選擇 B", "B", "I choose, in Chinese"),
    ("我选择B。", "B", "the same, simplified"),
    ("答案是 B", "B", "the answer is, in Chinese"),
    ("正确答案是：B", "B", "the right answer is"),
    ("答案：Laysan Albatross", "B", "the same with the text"),
    ("Die Antwort ist B.", "B", "in German"),
    ("La réponse est B", "B", "in French"),
    ("La respuesta correcta es B", "B", "in Spanish"),
    ("B&nbsp;", "B", "an HTML entity"),
    ("Laysan&#32;Albatross", "B", "another, in the text"),
    ("&lt;b&gt;B&lt;/b&gt;", "B", "HTML in entities"),
    ("&nosuch; B", None, "no entity"),
    ("```\nB\n```", "B", "a code fence"),
    ('```json\n{"answer": "B"}\n```', "B", "JSON in a code fence"),
    (r"\boxed{Laysan Albatross}", "B", "the text in a LaTeX box"),
    ("ﬅ", None, "a ligature whose capitals stand side by side in the alphabet"),
]


def test_markup_without_an_end_is_read_in_linear_time():
    for text in ("```\n" + " \n" * 200_000 + "x", "```\n" * 100_000, "&" * 400_000, "\\boxed{" * 100_000):
        answer_text(f"<answer>{text}</answer>")


@pytest.mark.parametrize(("completion", "wanted", "reason"), TEXTS)
def test_answer_text(completion, wanted, reason):
    assert answer_text(completion) == wanted, reason


@pytest.mark.parametrize(("answer", "wanted", "reason"), LETTERS)
def test_letter(answer, wanted, reason):
    assert letter(f"<think>A or C? I think C.</think> <answer>{answer}</answer> or D", OPTIONS) == wanted, reason


def test_letters_outside_the_answer_never_count():
    assert letter("The answer is B", OPTIONS) is None
    assert letter("<think>B</think>", OPTIONS) is None


def test_fewer_options_offer_fewer_letters():
    assert letter("<answer>C</answer>", OPTIONS[:2]) is None
    assert letter("<answer>C</answer>", OPTIONS[:3]) == "C"


AIRCRAFT = ["E-170", "737-200", "C-130", "MD-11", "F-16A/B"]


@pytest.mark.parametrize(
    ("answer", "wanted", "reason"),
    [
        ("E-170", "A", "the text of A, not the letter E"),
        ("C-130", "C", "text and letter by chance the same"),
        ("E. F-16A/B", "E", "letter and text"),
        ("E-190", None, "a sibling that is not offered, not the letter E"),
        ("F-16A/B", "E", "the B of the name is no letter"),
        ("A 737-200", "B", "an article"),
        ("A. 737-200", None, "letter and text disagree"),
        ("B-737-200", "B", "letter and its own text"),
    ],
)
def test_names_that_look_like_letters(answer, wanted, reason):
    assert letter(f"<answer>{answer}</answer>", AIRCRAFT) == wanted, reason


@pytest.mark.parametrize("answer", ["ﬅ", "ﬆ", "ı", "bird 28", "27"])
def test_at_most_26_letters_are_offered(answer):
    assert letter(f"<answer>{answer}</answer>", [f"bird {i}" for i in range(30)]) is None


@given(st.text("ABCDEFabc ()[].:-'orné", max_size=12), st.integers(0, 5))
def test_scraps_of_answers_give_offered_letters_only(text, count):
    assert letter(f"<answer>{text}</answer>", OPTIONS[:count]) in {None, *"ABCDE"[:count]}


@given(st.text(max_size=40), st.integers(1, 5))
def test_any_answer_is_read_without_a_crash_and_only_offered_letters_come_out(text, count):
    assert letter(f"<answer>{text}</answer>", OPTIONS[:count]) in {None, *"ABCDE"[:count]}
    answer_text(text)


FORMATS = [
    ("<think>a</think><answer>B</answer>", True, "as asked"),
    (" <think>a\nb</think>\n\n<answer>B</answer>\n", True, "white space around and between"),
    ("<think></think><answer></answer>", True, "empty parts: form is form"),
    ("<answer>B</answer>", False, "no thought"),
    ("<think>a</think>", False, "no answer"),
    ("<think>a</think><answer>B", False, "cut off"),
    ("so <think>a</think><answer>B</answer>", False, "chat before"),
    ("<think>a</think> so <answer>B</answer>", False, "chat between"),
    ("<think>a</think><answer>B</answer> done", False, "chat after"),
    ("<think>a<think>b</think><answer>B</answer>", False, "a tag twice"),
    ("<think>a</think><answer>B</answer><answer>B</answer>", False, "two answers"),
    ("<answer>B</answer><think>a</think>", False, "the wrong way round"),
    ("<think>a</think><answer>< answer >B</answer>", False, "a tag twice, with a space"),
    ("<THINK>a</THINK><answer>B</answer>", False, "tags as they were asked for, to the letter"),
]


@pytest.mark.parametrize(("completion", "wanted", "reason"), FORMATS)
def test_well_formed(completion, wanted, reason):
    assert well_formed(completion) is wanted, reason
    assert format_reward([completion]) == [float(wanted)], reason


@pytest.mark.parametrize(
    ("completion", "is_right", "reason"),
    [
        ("<answer>B</answer>", True, "the answer alone"),
        (" \n<answer>B</answer>\n", True, "white space around"),
        ("<think>\n\n</think>\n\n<answer>B</answer>", True, "an empty thought, as chat templates write it"),
        ("<think>a</think><answer>B</answer>", False, "a thought"),
        ("<think> </think><think>a</think><answer>B</answer>", False, "a thought after the empty one"),
        ("<think> </think><think> </think><answer>B</answer>", False, "two empty thoughts"),
        ("<answer>B</answer><think> </think>", False, "the wrong way round"),
        ("<answer>B</answer><answer>B</answer>", False, "two answers"),
        ("<answer><think> </think>B</answer>", False, "a thought inside"),
        ("B <answer>B</answer>", False, "chat before"),
        ("<answer>B</answer> done", False, "chat after"),
        ("<answer>B", False, "cut off"),
        ("<think> </think>", False, "no answer"),
        ("", False, "nothing"),
    ],
)
def test_the_format_without_reasoning(completion, is_right, reason):
    assert well_formed(completion, thought=False) is is_right, reason
    _, reward = rewards("divek", "matcher", LISTS, thought=False)
    assert reward([completion]) == [float(is_right)] and reward.__name__ == "format_reward"


def test_rewards_take_what_trl_gives():
    chat = [[{"role": "assistant", "content": "<think>t</think><answer>B</answer>"}]]
    assert letter_reward(chat, answer=["B"], options=[OPTIONS], image_id=["x"]) == [1.0]
    assert letter_reward(chat, answer=["A"], options=[OPTIONS]) == [0.0]
    assert format_reward(chat, answer=["B"]) == [1.0]


def test_letter_reward_without_the_options_reads_letters_only():
    said = ["<answer>B</answer>", "<answer>Laysan Albatross</answer>", "<answer>none</answer>"]
    assert letter_reward(said, answer=["B", "B", "A"]) == [1.0, 0.0, 0.0]


def test_an_unread_answer_earns_nothing_even_where_no_answer_is_right():
    assert letter_reward(["nothing"], answer=["A"], options=[OPTIONS]) == [0.0]


def test_a_reward_for_every_completion_or_an_error():
    with pytest.raises(ValueError, match="shorter"):
        letter_reward(["<answer>A</answer>"] * 2, answer=["A"], options=[OPTIONS])


def read_wrongly(count: int, seed: int) -> list[tuple[str, str, str | None]]:
    """Answers that are read as another option than they may be; and the share of those that are read at all."""
    faults, readable, read = [], 0, 0
    for made in made_answers(count, seed):
        result = letter(made.text, NAMES)
        allowed = None if made.option is None else OPTION_LETTERS[made.option]
        if result is not None and result != allowed:
            faults.append((made.text, made.how, result))
        readable += allowed is not None
        read += allowed is not None and result == allowed
    assert read / readable > 0.95, "strict, and not blind"
    return faults


@pytest.mark.slow
def test_made_answers_are_read_as_they_were_meant_or_not_at_all():
    assert read_wrongly(5_000, 0) == []


@pytest.mark.slow
def test_many_made_answers_are_read_as_they_were_meant_or_not_at_all():
    assert read_wrongly(200_000, 1) == []
