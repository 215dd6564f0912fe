"""server.command: a server that is started for a model, that answers, and of which nothing is left afterwards."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_server import SAMPLER, draw_all, image_requests, server
from support.project import ROOT

from pipeline.core.params import UserError
from pipeline.engines.common.draw_cache import CachingEngine
from pipeline.engines.servers import server_process
from pipeline.engines.servers.openai import OpenAIEngine

pytestmark = pytest.mark.usefixtures("quick")

SCRIPT = ROOT / "tests" / "support" / "scripted_server.py"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the server's process group alone is ended")


def command(*modes):
    return " ".join((sys.executable, str(SCRIPT), "{model}", "{port}", *modes))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Logs and draws go to a folder of the test, and the package is found from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(server_process, "PATIENCE", 0.5)
    monkeypatch.setattr(server_process, "POLL", 0.05)


def engine(*modes, **settings):
    defaults = {"command": command(*modes), "dialect": "vllm", "start_timeout": 20.0}
    return OpenAIEngine("m", server(**defaults | settings))


def pids():
    """The processes that the servers of this test have named in their logs."""
    logs = "".join(log.read_text(encoding="utf-8") for log in Path(".work/servers").glob("*.log"))
    return [int(number) for number in re.findall(r"(?:pid|child) (\d+)", logs) if int(number)]


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.is_file() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")


def wait_until_gone():
    for _ in range(600):
        if not any(lives(pid) for pid in pids()):
            break
        time.sleep(0.05)
    assert pids() and not [pid for pid in pids() if lives(pid)]


def test_it_is_started_once_draws_and_ends_with_the_engine(capsys, tmp_path):
    with CachingEngine(engine("vllm"), tmp_path / "draws") as one:
        first = draw_all(one, image_requests(3, (-1, *range(4))))
        again = draw_all(one, image_requests(3, range(6)))
        assert one.fingerprint()["version"] == "1.2.3"
    assert all(again[key] == completion for key, completion in first.items() if key in again)
    assert len(pids()) == 1
    assert capsys.readouterr().err.count("starting the server of m") == 1
    wait_until_gone()


def starts():
    return len(list(Path(".work/servers").glob("*.log")))


def test_no_server_is_started_where_nothing_is_asked_of_it():
    with CachingEngine(engine("vllm"), Path("draws")) as one:
        assert one.cache(SAMPLER).clear() == 0 and starts() == 0
        first = draw_all(one, image_requests(2, range(4)))
    with CachingEngine(engine("vllm"), Path("draws")) as one:
        assert draw_all(one, image_requests(2, range(4))) == first
        assert one.cache(SAMPLER).clear() == 8
    assert starts() == 1


def test_draws_of_another_version_are_not_used_once_the_server_is_started():
    with CachingEngine(engine("vllm"), Path("draws")) as one:
        draw_all(one, image_requests(2, range(4)))
    Path("version").write_text("1.3", encoding="utf-8")
    with CachingEngine(engine("vllm"), Path("draws")) as one:
        draw_all(one, image_requests(2, range(5)))
        assert one.counts() == "10 new draws, 0 from the draw cache" and one.fingerprint()["version"] == "1.3"
    assert starts() == 2


def test_two_versions_in_one_run_are_a_sentence():
    with CachingEngine(engine("vllm"), Path("draws")) as one:
        draw_all(one, image_requests(2, range(4)))
    Path("version").write_text("1.3", encoding="utf-8")
    one = CachingEngine(engine("vllm"), Path("draws"))
    draw_all(one, image_requests(2, range(4)))
    with one, pytest.raises(UserError, match=r"now of version 1\.3, and draws of version 1\.2\.3 were used already"):
        draw_all(one, image_requests(3, range(4)))
    with CachingEngine(engine("vllm"), Path("draws")) as one:
        draw_all(one, image_requests(3, range(4)))
    assert one.counts() == "12 new draws, 0 from the draw cache"


def test_a_setting_that_the_dialect_lacks_is_refused_before_the_server_starts():
    one = CachingEngine(engine("vllm", dialect="openai"), Path("draws"))
    with one, pytest.raises(UserError, match="top_k is 5, which OpenAI's API cannot express"):
        draw_all(one, image_requests(), replace(SAMPLER, top_k=5))
    assert starts() == 0


def test_a_draw_is_the_same_whichever_request_asks_for_it():
    one = engine("vllm")
    together = draw_all(engine("vllm", draws_per_request=20), image_requests(2, range(20)))
    with CachingEngine(one, Path("draws")) as alone:
        apart = draw_all(alone, image_requests(2, [3, 4, 17, 9]))
    assert {key: done.text for key, done in apart.items()} == {key: together[key].text for key in apart}


@pytest.mark.parametrize("mode", ["stubborn", pytest.param("detached", marks=LINUX)])
def test_children_that_do_not_listen_are_killed(mode):
    one = engine(mode)
    draw_all(one, image_requests())
    assert len(pids()) == 2
    one.close()
    wait_until_gone()


def test_a_server_that_ends_at_once_is_a_sentence_with_the_end_of_its_log():
    with pytest.raises(UserError) as error:
        draw_all(engine("fails"), image_requests())
    assert "the server of m ended with exit code 7; the end of its log (.work/servers/" in str(error.value)
    assert "ValueError: No available memory for the cache blocks." in str(error.value)


def test_a_server_that_never_answers_is_a_sentence_and_ends():
    with pytest.raises(UserError, match=r"did not answer .* within server.start_timeout = 1 s; the end of its log"):
        draw_all(engine("silent", "stubborn", start_timeout=1.0), image_requests())
    wait_until_gone()


def test_a_server_that_dies_ends_the_run_and_what_it_drew_is_kept():
    with pytest.raises(UserError) as error, CachingEngine(engine("dies", concurrency=1), Path("draws")) as one:
        draw_all(one, image_requests(9))
    assert "ended with exit code 3. The finished draws are kept, and the same command continues" in str(error.value)
    assert "CUDA error: an illegal memory access, key [key]" in str(error.value)
    with CachingEngine(engine(concurrency=1), Path("draws")) as one:
        assert len(draw_all(one, image_requests(9))) == 9
    assert one.fingerprint() != {} and len(pids()) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nothing-of-this-name serve {model} --port {port}", "there is no program 'nothing-of-this-name' here"),
        ("vllm serve {model}", "has no {port}"),
        ("vllm serve --port {port}", "has no {model}"),
        ("vllm 'serve {model} --port {port}", "is no command line"),
        ("", "needs either server.command"),
    ],
)
def test_a_command_that_cannot_be_run_is_a_sentence(line, words):
    with pytest.raises(UserError) as error:
        draw_all(OpenAIEngine("m", server(command=line)), image_requests())
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_model_or_a_brace_is_passed_as_it_is():
    one = OpenAIEngine("a model; $(touch x)", server(command=command("vllm", "'{\"image\": 1}'"), start_timeout=20.0))
    with CachingEngine(one, Path("draws")) as caching:
        draw_all(caching, image_requests())
    assert not Path("x").exists()


KILLED = """
from pathlib import Path
from pipeline.engines.servers import server_process
from support.fake_server import SAMPLER, image_requests, server
from pipeline.engines.common.draw_cache import CachingEngine
from pipeline.engines.servers.openai import OpenAIEngine
server_process.PATIENCE = 0.5
one = CachingEngine(OpenAIEngine("m", server(command=COMMAND, dialect="vllm", start_timeout=20.0)), Path("draws"))
list(one.draw(image_requests(IMAGES, range(4)), SAMPLER))
print(one.counts())
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_process_and_loses_no_draw(monkeypatch):
    """DIVEK_KILLS sets how often."""
    modes = ("stubborn", "detached") if sys.platform == "linux" else ("stubborn",)
    code = KILLED.replace("COMMAND", repr(command(*modes)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    kills, kept = int(os.environ.get("DIVEK_KILLS", "2")), 0
    images = 20 * (kills + 1)
    code = code.replace("IMAGES", str(images))
    for number in range(kills):
        run = subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.DEVNULL)
        for _ in range(600):
            if len(list(Path("draws").glob("*/*.parquet"))) > kept:
                break
            time.sleep(0.02 * (number % 5 + 1))
        run.send_signal(signal.SIGKILL)
        run.wait()
        kept = len(list(Path("draws").glob("*/*.parquet")))
        assert kept > number
        wait_until_gone()
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    new, hits = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:new|from)", done.stdout))
    assert new + hits == 4 * images and hits >= kept
