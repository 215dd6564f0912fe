"""Fetching from a real HTTP server on this machine that breaks off, lies and changes its mind as told."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.project import ROOT

from pipeline.core.params import UserError
from pipeline.datasets import fetching, http_download
from pipeline.datasets.fetching import fetch, with_bar
from pipeline.datasets.published import Archive

CONTENT = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(3000))  # 96,000 bytes
OTHER = CONTENT[::-1]
MD5 = hashlib.md5(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
PART, NOTE = ".a.tgz.part", ".a.tgz.part.json"


class Server(ThreadingHTTPServer):
    """Answers as the next of its `script` says, and as a good server when that is used up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.changed = CONTENT, '"v1"', None
        self.script: list[Callable[[Handler], None]] = []
        self.always: Callable[[Handler], None] | None = None
        self.asked: list[dict[str, str]] = []
        self.go_on = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/a.tgz"

    def handle_error(self, request, client_address) -> None:
        pass  # a client that was killed

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({"path": self.path, **self.headers})
        step = self.server.script.pop(0) if self.server.script else self.server.always
        (step or good)(self)

    def log_message(self, *args) -> None:
        pass

    def start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if self.server.changed:
            self.send_header("Last-Modified", self.server.changed)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def good(handler: Handler, upto: int | None = None, heed: bool = True) -> None:
    """The file, or the rest of it; `upto` where it breaks off, `heed` whether it looks at If-Range."""
    content, first = handler.server.content, 0
    wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    current = (handler.server.etag, handler.server.changed)
    if wanted and (not heed or condition is None or condition in current):
        first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            return handler.start(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        span = f"bytes {first}-{len(content) - 1}/{len(content)}"
        handler.start(206, Content_Range=span, Content_Length=len(content) - first)
    else:
        handler.start(200, Content_Length=len(content))
    handler.wfile.write(content[first:upto])
    return None


def broken(upto: int, **more: bool) -> Callable[[Handler], None]:
    return lambda handler: good(handler, upto, **more)


def status(code: int, **headers: object) -> Callable[[Handler], None]:
    return lambda handler: handler.start(code, Content_Length=0, **headers)


def whole(content: bytes, **headers: object) -> Callable[[Handler], None]:
    """A server that knows no ranges."""

    def answer(handler: Handler) -> None:
        handler.start(200, **(headers or {"Content_Length": len(content)}))
        handler.wfile.write(content)

    return answer


def held(handler: Handler) -> None:
    """Half of the file, and the rest when told."""
    handler.start(200, Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT[:HALF])
    handler.wfile.flush()
    handler.server.go_on.wait(20)
    handler.wfile.write(CONTENT[HALF:])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http_download, "BACKOFF", 0.001)
    monkeypatch.setattr(http_download, "TIMEOUT", 5.0)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture
def archive(server):
    return Archive(server.url, "a.tgz", MD5)


def fetched(archive: Archive, folder: Path) -> None:
    """Fetches, and looks that the file is whole and alone."""
    path = fetch(archive, folder)
    assert path == folder / "a.tgz"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ["a.tgz"], "something was left behind"


def failed(archive: Archive, folder: Path, words: str) -> None:
    with pytest.raises(UserError) as caught:
        fetch(archive, folder)
    assert words in str(caught.value)
    assert "data.path" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "a.tgz").exists()


def test_it_comes_whole_and_only_once(server, archive, tmp_path):
    fetched(archive, tmp_path / "new" / "folder")
    server.script = [status(500)]
    fetched(archive, tmp_path / "new" / "folder")
    assert len(server.asked) == 1


def test_progress_is_told(server, archive, tmp_path):
    told: list[tuple[int, int | None]] = []
    server.script = [broken(HALF)]
    fetch(archive, tmp_path, lambda done, total: told.append((done, total)))
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told), "what was fetched is not fetched again"


def test_it_goes_on_where_it_broke_off(server, archive, tmp_path):
    server.script = [broken(HALF), broken(HALF + 7), status(503), broken(HALF + 7)]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-", *[f"bytes={HALF + 7}-"] * 3]
    assert {headers.get("If-Range") for headers in server.asked[1:]} == {'"v1"'}


def test_the_name_appears_only_when_all_is_there(server, archive, tmp_path):
    server.script = [held]
    thread = threading.Thread(target=fetch, args=(archive, tmp_path))
    thread.start()
    grown(tmp_path)
    assert not (tmp_path / "a.tgz").exists()
    server.go_on.set()
    thread.join(20)
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT


@pytest.mark.parametrize("code", [500, 502, 503, 408, 425, 429])
def test_a_busy_server_is_asked_again(server, archive, tmp_path, code):
    server.script = [status(code), status(code)]
    fetched(archive, tmp_path)
    assert len(server.asked) == 3


def test_retry_after_is_heeded_within_limits(server, archive, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(http_download.time, "sleep", waits.append)
    values = ["7", "99999", "Wed, 21 Oct 2015 07:28:00 GMT", "-5", "9" * 400, "nan"]
    server.script = [status(503, Retry_After=value) for value in values]
    fetched(archive, tmp_path)
    assert waits[:2] == [7.0, http_download.LONGEST_WAIT]
    assert all(0 < wait < 1 for wait in waits[2:])


def test_waits_double_and_end(server, archive, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(http_download.time, "sleep", waits.append)
    monkeypatch.setattr(http_download, "BACKOFF", 4.0)
    server.always = status(503)
    failed(archive, tmp_path, "HTTP 503")
    assert waits == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert len(server.asked) == http_download.RETRIES + 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 204, 304])
def test_a_hopeless_answer_is_not_repeated(server, archive, tmp_path, code):
    server.always = status(code)
    failed(archive, tmp_path, f"HTTP {code}")
    assert len(server.asked) == 1


def test_progress_earns_new_retries(server, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "PROGRESS", 1000)
    steps = range(1000, 30_000, 1000)
    server.script = [broken(upto) for upto in steps]
    fetched(archive, tmp_path)
    assert len(server.asked) == len(steps) + 1 > http_download.RETRIES + 1


def test_a_line_that_brings_nothing_is_given_up_and_what_came_is_kept(server, archive, tmp_path):
    server.script = [broken(HALF)]
    server.always = broken(HALF)
    failed(archive, tmp_path, "broke off after 48,000 of 96,000 bytes")
    assert (tmp_path / PART).read_bytes() == CONTENT[:HALF]
    server.always = None
    fetched(archive, tmp_path)
    assert server.ranges()[-1] == f"bytes={HALF}-"


def test_a_server_without_ranges_starts_from_zero(server, archive, tmp_path):
    server.script = [broken(HALF), whole(CONTENT)]
    fetched(archive, tmp_path)
    assert len(server.asked) == 2


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "PROGRESS", 1000)
    server.always = whole(CONTENT[:HALF], Content_Length=len(CONTENT))
    failed(archive, tmp_path, "broke off")
    assert len(server.asked) <= 2 * (http_download.RETRIES + 1), "the same bytes again are no progress"


@pytest.mark.parametrize("heed", [True, False])
@pytest.mark.parametrize("dates", [True, False])
def test_a_file_that_changed_is_not_glued_onto_an_old_beginning(server, archive, tmp_path, heed, dates):
    """Also where the server does not heed If-Range, and sends the new file's end."""

    def version(name: str, content: bytes) -> None:
        server.content = content
        server.etag, server.changed = (None, f"Thu, 0{name} Jan 2026 00:00:00 GMT") if dates else (f'"{name}"', None)

    def then_changes(handler: Handler) -> None:
        good(handler, HALF)
        version("2", CONTENT)

    version("1", OTHER)
    server.script = [then_changes, broken(None, heed=heed)]
    told: list[int] = []
    fetch(archive, tmp_path, lambda done, total: told.append(done))
    assert told.count(len(CONTENT)) == 1, "the new file's end was taken"
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-"] + ([] if heed else [None])
    assert server.asked[1]["If-Range"] == ("Thu, 01 Jan 2026 00:00:00 GMT" if dates else '"1"')


def test_a_weak_etag_is_not_sent_back(server, archive, tmp_path):
    server.etag = 'W/"v1"'
    server.script = [broken(HALF)]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-"]
    assert "If-Range" not in server.asked[1]


def test_without_any_version_the_md5_decides(server, archive, tmp_path):
    server.etag, server.content = None, OTHER

    def then_changes(handler: Handler) -> None:
        good(handler, HALF)
        server.content = CONTENT

    server.script = [then_changes]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize(
    "span", ["bytes 0-95999/96000", "bytes 48001-95999/96000", "bytes 48000-95999/99999", "bytes x", "bytes 48000-9/*"]
)
def test_another_part_than_asked_for_is_not_taken(server, archive, tmp_path, span):
    def odd(handler: Handler) -> None:
        handler.start(206, Content_Range=span, Content_Length=HALF)
        handler.wfile.write(OTHER[:HALF])

    server.script = [broken(HALF), odd]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-", None]


def test_a_part_that_nobody_asked_for_is_not_taken(server, archive, tmp_path):
    server.always = status(206, Content_Range="bytes 0-9/10")
    failed(archive, tmp_path, "another part")
    assert len(server.asked) == http_download.RETRIES + 1


def test_parts_smaller_than_asked_for_are_put_together(server, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "PROGRESS", 1000)

    def small(handler: Handler) -> None:
        first = int(handler.headers["Range"][6:-1])
        last = min(first + 4999, len(CONTENT) - 1)
        handler.start(206, Content_Range=f"bytes {first}-{last}/{len(CONTENT)}", Content_Length=last + 1 - first)
        handler.wfile.write(CONTENT[first : last + 1])

    server.script, server.always = [broken(100)], small
    fetched(archive, tmp_path)
    assert len(server.asked) == 21


def prepared(archive: Archive, folder: Path, content: bytes, total: object, validator: object = '"v1"') -> None:
    """What a killed run leaves."""
    (folder / PART).write_bytes(content)
    note = {"url": archive.url, "md5": archive.md5, "total": total, "validator": validator}
    (folder / NOTE).write_text(json.dumps(note), encoding="utf-8")


def test_a_complete_partial_needs_no_server(server, archive, tmp_path):
    prepared(archive, tmp_path, CONTENT, len(CONTENT))
    fetched(archive, tmp_path)
    assert not server.asked


def test_a_complete_partial_of_unknown_length_is_told_by_416(server, archive, tmp_path):
    prepared(archive, tmp_path, CONTENT, None)
    fetched(archive, tmp_path)
    assert server.ranges() == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("total", [None, len(CONTENT)])
def test_a_partial_that_is_too_long_or_wrong_is_fetched_anew(server, archive, tmp_path, total):
    for content in (CONTENT + b"more", OTHER):
        prepared(archive, tmp_path, content, total)
        fetched(archive, tmp_path)
        (tmp_path / "a.tgz").unlink()


@pytest.mark.parametrize(
    "note",
    [None, "", "{}", "[]", "null", '{"url": 1}', "\udcff", '{"url": "u", "md5": "m", "total": 1, "validator": 1}'],
)
def test_a_partial_without_a_note_is_nobodys(server, archive, tmp_path, note):
    (tmp_path / PART).write_bytes(OTHER[:HALF])
    if note is not None:
        (tmp_path / NOTE).write_bytes(note.encode(errors="surrogateescape"))
    fetched(archive, tmp_path)
    assert server.ranges() == [None]


@pytest.mark.parametrize(("total", "validator"), [("96000", '"v1"'), (96000, 1), ([], None)])
def test_a_damaged_note_is_none(server, archive, tmp_path, total, validator):
    prepared(archive, tmp_path, CONTENT[:HALF], total, validator)
    fetched(archive, tmp_path)
    assert server.ranges() == [None]


def test_a_partial_of_another_version_is_not_gone_on_with(server, archive, tmp_path):
    prepared(Archive(archive.url, "a.tgz", "0" * 32), tmp_path, OTHER[:HALF], len(CONTENT))
    fetched(archive, tmp_path)
    assert server.ranges() == [None]


def test_wrong_bytes_are_fetched_once_more_and_then_refused(server, archive, tmp_path):
    server.script = [whole(OTHER)]
    fetched(archive, tmp_path)
    (tmp_path / "a.tgz").unlink()
    server.asked.clear()
    server.always = whole(OTHER)
    failed(archive, tmp_path, f"md5 {hashlib.md5(OTHER).hexdigest()}, expected {MD5}")
    assert server.ranges() == [None, None]
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_a_content_length_that_is_too_large(server, archive, tmp_path):
    server.script = [whole(CONTENT, Content_Length=len(CONTENT) + 9)]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={len(CONTENT)}-"]


def test_a_content_length_that_is_too_small(server, archive, tmp_path):
    server.script = [whole(CONTENT, Content_Length=HALF)]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, None]
    (tmp_path / "a.tgz").unlink()
    server.always = whole(CONTENT, Content_Length=HALF)
    failed(archive, tmp_path, "md5")


@pytest.mark.parametrize("length", ["-1", "many", "9" * 5000])
def test_a_content_length_that_is_none(server, archive, tmp_path, length):
    server.script = [whole(CONTENT, Content_Length=length)]
    fetched(archive, tmp_path)


def test_a_body_in_chunks_and_one_that_breaks_off(server, archive, tmp_path):
    def chunked(handler: Handler) -> None:
        handler.start(200, Transfer_Encoding="chunked")
        for at in range(0, HALF, 6000):
            handler.wfile.write(b"%x\r\n%s\r\n" % (6000, CONTENT[at : at + 6000]))
        if len(server.asked) > 2:
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (HALF, CONTENT[HALF:]))

    server.etag, server.script = None, [chunked, status(503), chunked]
    fetched(archive, tmp_path)
    assert len(server.asked) == 3
    assert server.ranges()[1] == f"bytes={HALF}-"


def test_a_labelled_encoding_is_left_alone(server, archive, tmp_path):
    server.script = [whole(CONTENT, Content_Length=len(CONTENT), Content_Encoding="gzip")]
    fetched(archive, tmp_path)


def test_a_silent_server_is_left(server, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "TIMEOUT", 0.2)
    server.script = [held]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-"]


def test_a_server_that_does_not_hang_up_is_not_waited_for(server, archive, tmp_path):
    def lingering(handler: Handler) -> None:
        good(handler)
        server.go_on.wait(10)

    def miscounted(handler: Handler) -> None:
        span = f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.start(206, Content_Range=span, Content_Length=1000)
        handler.wfile.write(CONTENT[HALF : HALF + 1000])
        server.go_on.wait(10)

    server.script = [broken(HALF), miscounted, lingering]
    fetched(archive, tmp_path)
    assert server.ranges() == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert not server.go_on.is_set(), "neither was waited for"


def test_no_http_at_all_is_tried_again(server, archive, tmp_path):
    server.script = [lambda handler: handler.wfile.write(b"SSH-2.0\r\n\r\n"), lambda handler: None]
    fetched(archive, tmp_path)
    assert len(server.asked) == 3


def test_nobody_there(server, archive, tmp_path):
    server.shutdown()
    server.server_close()
    failed(archive, tmp_path, "refused (attempt 7, the last; the beginning is stored)")


def test_redirects_are_followed_with_the_range(server, archive, tmp_path):
    server.script = [status(302, Location="/b"), broken(HALF), status(308, Location=server.url + "?c")]
    fetched(archive, tmp_path)
    assert [headers["path"] for headers in server.asked] == ["/a.tgz", "/b", "/a.tgz", "/a.tgz?c"]
    assert server.ranges() == [None, None, *[f"bytes={HALF}-"] * 2]


def test_redirects_have_an_end(server, archive, tmp_path):
    server.always = status(302, Location="/a.tgz")
    failed(archive, tmp_path, "HTTP 302")
    assert len(server.asked) < 12
    server.asked.clear()
    server.always = lambda handler: handler.start(301, Location=f"/{len(server.asked)}", Content_Length=0)
    failed(archive, tmp_path, "HTTP 301")
    assert len(server.asked) < 12
    server.always = status(302)
    failed(archive, tmp_path, "HTTP 302")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "http://["])
def test_redirects_lead_to_http_only(server, archive, tmp_path, target):
    server.always = status(302, Location=target)
    with pytest.raises(UserError):
        fetch(archive, tmp_path)
    assert not (tmp_path / "a.tgz").exists()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/a", "host/a", "", "http://", "http://[", "http://h:0/", "http://h:x/"]
)
def test_only_http_is_asked(tmp_path, url):
    failed(Archive(url, "a.tgz", MD5), tmp_path, "no http or https URL")


@pytest.mark.parametrize("url", ["http://127.0.0.1/ä", "http://127.0.0.1/a b", "http://127.0.0.1/a\nb"])
def test_a_url_that_cannot_be_sent_is_a_user_error(tmp_path, monkeypatch, url):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(http_download, "BACKOFF", 0.0)
    with pytest.raises(UserError):
        fetch(Archive(url, "a.tgz", MD5), tmp_path)


def test_a_wrong_file_of_the_users_is_left_as_it_is(server, archive, tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"mine")
    with pytest.raises(UserError, match="move the file away"):
        fetch(archive, tmp_path)
    assert (tmp_path / "a.tgz").read_bytes() == b"mine"
    assert not server.asked


def test_a_file_put_there_meanwhile_is_left_as_it_is(server, archive, tmp_path):
    def slow(handler: Handler) -> None:
        (tmp_path / "a.tgz").write_bytes(b"mine")
        good(handler)

    server.script = [slow]
    with pytest.raises(UserError, match="move the file away"):
        fetch(archive, tmp_path)
    assert (tmp_path / "a.tgz").read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]


def test_a_file_that_came_just_before_the_lock_is_not_fetched_again(server, archive, tmp_path, monkeypatch):
    alone = fetching._exclusive

    def late(part: Path):
        (tmp_path / "a.tgz").write_bytes(CONTENT)
        return alone(part)

    monkeypatch.setattr(fetching, "_exclusive", late)
    fetched(archive, tmp_path)
    assert not server.asked


def test_odd_things_under_the_names_are_user_errors(server, archive, tmp_path):
    for name in ("a.tgz", PART):
        folder = tmp_path / name.strip(".")
        (folder / name).mkdir(parents=True)
        with pytest.raises(UserError, match=r"a\.tgz"):
            fetch(archive, folder)
    for number, name in enumerate(("a.tgz", PART)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UserError, match=r"a\.tgz"):
            fetch(archive, folder)
        assert (folder / name).is_symlink()
        assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        fetch(archive, tmp_path / "file")


def test_a_full_disk_is_known_before(server, archive, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(http_download.shutil, "disk_usage", lambda _: usage._replace(free=HALF))
    failed(archive, tmp_path, "takes 96,000 more bytes and 48,000 are free")
    assert (tmp_path / PART).stat().st_size == 0
    prepared(archive, tmp_path, CONTENT[:HALF], len(CONTENT))
    fetched(archive, tmp_path)


def test_a_disk_that_fills_up_is_a_user_error(server, archive, tmp_path, monkeypatch):
    server.script = [lambda handler: (handler.start(200), handler.wfile.write(CONTENT))]

    class Full(io.FileIO):
        def write(self, content):
            if self.tell() > 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content[:700])

    with monkeypatch.context() as patch:
        patch.setattr(fetching.os, "fdopen", lambda fd, mode, buffering: Full(fd, mode))
        failed(archive, tmp_path, "No space left")
    assert (tmp_path / PART).read_bytes() == CONTENT[:1400], "what came is kept"
    fetched(archive, tmp_path)


FETCHING = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.datasets import fetching, http_download
http_download.BACKOFF = 0.001
print("started", flush=True)
from pipeline.datasets.published import Archive
fetching.fetch(Archive({url!r}, "a.tgz", {md5!r}), Path({folder!r}))
"""


def process(archive: Archive, folder: Path) -> subprocess.Popen:
    script = FETCHING.format(root=str(ROOT), url=archive.url, md5=archive.md5, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def grown(folder: Path) -> None:
    """Waits until half of the file has come."""
    for _ in range(2000):
        if (folder / PART).exists() and (folder / PART).stat().st_size >= HALF:
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with(server, archive, tmp_path):
    server.script = [held]
    with process(archive, tmp_path) as run:
        grown(tmp_path)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == [PART, NOTE]
    with process(archive, tmp_path) as run:
        _, said = run.communicate(timeout=20)
    assert run.returncode == 0, said
    assert server.ranges() == [None, f"bytes={HALF}-"]
    fetched(archive, tmp_path)


@pytest.mark.slow
def test_two_at_once_fetch_it_once(server, archive, tmp_path):
    server.script = [held]
    with process(archive, tmp_path) as first:
        grown(tmp_path)
        with process(archive, tmp_path) as second:
            assert "another process is fetching a.tgz" in second.stderr.readline()
            server.go_on.set()
            assert first.wait(20) == second.wait(20) == 0
    assert len(server.asked) == 1
    fetched(archive, tmp_path)


@pytest.mark.slow
def test_the_one_that_waits_goes_on_when_the_other_is_killed(server, archive, tmp_path):
    server.script = [held]
    with process(archive, tmp_path) as first:
        grown(tmp_path)
        with process(archive, tmp_path) as second:
            second.stderr.readline()
            first.send_signal(signal.SIGKILL)
            assert second.wait(20) == 0
    assert server.ranges() == [None, f"bytes={HALF}-"]
    fetched(archive, tmp_path)


def test_many_at_once_meet_no_trouble(server, archive, tmp_path):
    """Also where the first attempts end in an error and take the partial file away."""
    server.script = [whole(OTHER)] * 4
    outcomes: list[str] = []

    def run() -> None:
        try:
            outcomes.append("good" if fetch(archive, tmp_path).read_bytes() == CONTENT else "bad")
        except UserError as error:
            outcomes.append("refused" if "md5" in str(error) else str(error))

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["good"] * 10 + ["refused"] * 2
    assert len(server.asked) == 5
    fetched(archive, tmp_path)


def test_the_bar_is_quiet_where_nobody_looks(server, archive, tmp_path, capfd):
    assert with_bar(archive, tmp_path).read_bytes() == CONTENT
    assert capfd.readouterr() == ("", "")
