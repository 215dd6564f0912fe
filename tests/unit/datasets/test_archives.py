"""Archives that are good, that play tricks, and that are damaged at random: files or a UserError, nothing else."""

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipeline.core.params import UserError
from pipeline.datasets import archives
from pipeline.datasets.archives import members

PLENTY = 10**7
FILES = {
    "images/a.jpg": b"\xff\xd8 a",
    "images/deep/er/Ä_花.jpg": b"unicode",
    "list.txt": b"a 1\nb 2\n" * 300,
    "empty.mat": b"",
}


def everything(name: str) -> bool:
    return True


def tarred(files, mode="w", format=tarfile.PAX_FORMAT) -> bytes:
    """A tar of names and contents, or of ready members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=format) as tar:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zipped(files, method=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return out.getvalue()


def zip_of(name: str) -> bytes:
    info = zipfile.ZipInfo("x")
    info.filename = name  # as given: the constructor cleans it
    return zipped([(info, b"evil")])


MAKERS = {"a.tar": tarred, "a.tgz": lambda files: tarred(files, "w:gz"), "a.tar.gz": None, "a.zip": zipped}
MAKERS["a.tar.gz"] = MAKERS["a.tgz"]


@pytest.fixture(params=list(MAKERS))
def kind(request):
    return request.param


def refused(path: Path, words: str = "", wanted=everything, max_bytes: int = PLENTY) -> str:
    """The sentence that an archive is refused with, and that nothing came of it."""
    before = set(path.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        dict(members(path, wanted, max_bytes))
    assert set(path.parent.rglob("*")) == before, "something was left behind"
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    return str(caught.value)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def memory(at_most: int):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < at_most, "held in memory"
    finally:
        tracemalloc.stop()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_what_is_in_an_archive_comes_out_in_its_order(tmp_path, kind):
    path = written(tmp_path / kind, MAKERS[kind](FILES))
    assert list(members(path, everything, PLENTY)) == list(FILES.items())
    assert [name for name, _ in members(path, lambda name: name.endswith(".jpg"), PLENTY)] == list(FILES)[:2]
    assert [p.name for p in tmp_path.iterdir()] == [kind], "nothing on disk"


def test_the_kind_is_told_from_the_content(tmp_path):
    for content in (tarred(FILES), tarred(FILES, "w:gz"), zipped(FILES), zipped(FILES, zipfile.ZIP_STORED)):
        assert dict(members(written(tmp_path / "a.dat", content), everything, PLENTY)) == FILES


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_with_long_names(tmp_path, format):
    files = {f"{'d' * 90}/{'e' * 60}/{'f' * 90}.jpg": b"1", "s.txt": b"2"}
    assert dict(members(written(tmp_path / "a.tar", tarred(files, format=format)), everything, PLENTY)) == files


def test_names_are_cleaned_and_folders_are_no_files(tmp_path):
    infos = [(special(".", tarfile.DIRTYPE), b""), (special("./d/", tarfile.DIRTYPE), b""), ("./d/./a.txt", b"1")]
    assert list(members(written(tmp_path / "a.tar", tarred(infos)), everything, PLENTY)) == [("d/a.txt", b"1")]
    content = zipped([("d/", b""), ("d/a.txt", b"1")])
    assert list(members(written(tmp_path / "a.zip", content), everything, PLENTY)) == [("d/a.txt", b"1")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "absolute"),
        ("//x", "absolute"),
        ("../evil", "up"),
        ("a/../../evil", "up"),
        ("a/..", "up"),
        ("..", "up"),
        ("a//b", "empty part"),
        ("a\\..\\..\\evil", "backslash"),
        ("\\\\server\\share", "backslash"),
        ("C:/evil", "drive"),
        ("C:evil", "drive"),
        ("./c:evil", "drive"),
        ("a\nb", "control"),
        ("a\x7fb", "control"),
        ("x" * 256, "is too long"),
        ("花" * 86, "is too long"),
        ("/".join(["xx"] * 400), "is too long"),
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_names_that_are_no_simple_path_are_refused(tmp_path, name, words):
    good = ("good.txt", b"good")
    for content in (tarred([good, (name, b"evil")]), zip_of(name)):
        said = refused(written(tmp_path / "a.dat", content))
        if words == "up":  # of a tar, tarfile's own filter says it first where it leads out
            first = hasattr(tarfile, "data_filter") and not content.startswith(b"PK") and name != "a/.."
            assert ("outside the destination" if first else "leads upwards") in said
        else:
            assert words in said
        assert repr(name)[1:12].rstrip("'") in said, "the member is named"


def test_nul_and_undecodable_names_are_refused(tmp_path):
    info = tarfile.TarInfo("x")
    info.pax_headers = {"path": "a\0b"}
    refused(written(tmp_path / "a.tar", tarred([(info, b"1")])))
    refused(written(tmp_path / "a.zip", zipped({"aXb": b"1"}).replace(b"aXb", b"a\0b")), "control")
    raw = tarred({"aXb": b"1"}, format=tarfile.GNU_FORMAT)
    refused(written(tmp_path / "b.tar", resealed(raw.replace(b"aXb", b"a\xffb"), 0)), "UTF-8")


@pytest.mark.parametrize(
    "infos",
    [
        [(special("link", tarfile.SYMTYPE, "/etc"), b""), ("link/passwd", b"evil")],
        [(special("link", tarfile.SYMTYPE, ".."), b""), ("link/evil", b"evil")],
        [(special("link", tarfile.SYMTYPE, "good"), b"")],
        [("good", b"1"), (special("hard", tarfile.LNKTYPE, "good"), b"")],
        [(special("hard", tarfile.LNKTYPE, "/etc/passwd"), b"")],
        [(special("pipe", tarfile.FIFOTYPE), b"")],
        [(special("char", tarfile.CHRTYPE), b"")],
        [(special("block", tarfile.BLKTYPE), b"")],
        [(special("sparse", tarfile.GNUTYPE_SPARSE), b"")],
        [(special("odd", b"Z"), b"")],
    ],
)
@pytest.mark.parametrize("wanted", [everything, lambda name: False])
def test_links_and_devices_are_refused(tmp_path, infos, wanted):
    name = next(info.name for info, _ in infos if not isinstance(info, str))
    said = refused(written(tmp_path / "a.tar", tarred(infos)), wanted=wanted)
    assert repr(name) in said


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    refused(written(tmp_path / "a.zip", zipped([(info, b"/etc/passwd")])), "'link' is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("d/x/y", "d/x")])
def test_names_that_meet_are_refused(tmp_path, names):
    files = [(name, b"1") for name in names]
    for content in (tarred(files), zipped(files)):
        refused(written(tmp_path / "a.dat", content), "comes twice, or lies in a file", wanted=lambda name: False)


def test_encrypted_and_oddly_compressed_zips_are_refused(tmp_path):
    refused(written(tmp_path / "a.zip", zipped(FILES, zipfile.ZIP_LZMA)), "method 14")
    content = bytearray(zipped({"a": b"1"}))
    content[content.index(b"PK\1\2") + 8] |= 1
    refused(written(tmp_path / "a.zip", bytes(content)), "encrypted")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"<html>404</html>" * 99, b"PK", b"\x1f\x8b", gzip.compress(b"no tar", mtime=0)]
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    refused(written(tmp_path / "a.tgz", content))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none.tgz", tmp_path / "pipe"):
        with pytest.raises(UserError, match="no such file"):
            list(members(path, everything, PLENTY))


def test_a_bomb_is_stopped_by_what_comes_out(tmp_path):
    zeros = bytes(3 * 10**7)
    bombs = {"gz": gzip.compress(zeros), "tgz": tarred({"zeros": zeros}, "w:gz"), "zip": zipped({"zeros": zeros})}
    for name, bomb in bombs.items():
        path = written(tmp_path / f"a.{name}", bomb)
        assert len(bomb) < 10**5
        with memory(at_most=4 * 10**6):
            refused(path, "more bytes come out of it than allowed", max_bytes=10**6)
    refused(tmp_path / "a.tgz", "more bytes", lambda name: False, 10**6)
    refused(tmp_path / "a.gz", "more bytes", lambda name: False, 10**6)


def test_the_limit_is_on_all_members_together(tmp_path, kind):
    path = written(tmp_path / kind, MAKERS[kind]({f"{n}.jpg": bytes([n]) * 10**5 for n in range(10)}))
    assert len(list(members(path, everything, 1_100_000))) == 10
    refused(path, "more bytes", max_bytes=900_000)


def test_one_member_has_a_limit_of_its_own(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 10**6)
    path = written(tmp_path / kind, MAKERS[kind]({"large": bytes(10**6 + 1), "small": b"1"}))
    assert "'large'" in refused(path, "more than 1,000,000 bytes")
    assert list(members(path, lambda name: name == "small", PLENTY)) == [("small", b"1")]
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 10**6 + 1)
    assert len(list(members(path, everything, PLENTY))) == 2


def test_there_is_a_limit_to_how_many(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 5)
    refused(written(tmp_path / kind, MAKERS[kind]({str(n): b"" for n in range(6)})), "more than 5")
    assert len(list(members(written(tmp_path / kind, MAKERS[kind](dict.fromkeys("abcde", b""))), everything, PLENTY)))


def lying(content: bytes, size: int, crc: int | None = None) -> bytes:
    """A zip whose headers state another size."""
    out = bytearray(content)
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = out.index(mark) + at
        struct.pack_into("<I", out, place, size)
        if crc is not None:
            struct.pack_into("<I", out, place - 8, crc)
    return bytes(out)


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    good = zipped({"a": bytes(10**6)})
    for size in (1, 10**6 - 1, 10**6 + 1, 2**32 - 2):
        assert "'a'" in refused(written(tmp_path / "a.zip", lying(good, size)))
    monster = lying(zipped({"a": b""}), 2**31)
    refused(written(tmp_path / "a.zip", monster), "more than" if archives.LARGEST_MEMBER > 2**31 else "says")


def test_the_tar_header_is_not_believed(tmp_path):
    for size in (-512, 8**11 - 1, 2**62, PLENTY - 10240):
        raw = bytearray(tarred({"a": b"1", "b": b"2"}))
        raw[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
        content = resealed(bytes(raw), 0)
        refused(written(tmp_path / "a.tar", content), "negative" if size < 0 else "")
        refused(written(tmp_path / "a.tgz", gzip.compress(content)), wanted=lambda name: False)


def resealed(raw: bytes, at: int) -> bytes:
    """A tar with the checksum of the header at `at` made right."""
    head = bytearray(raw[at : at + 512])
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return raw[:at] + bytes(head) + raw[at + 512 :]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_without_end_are_refused(tmp_path, kind):
    """In little memory; read to its end, the first would take hours in tarfile."""
    endless = tarred([(special("x", kind), b"1" * 5 * 10**6), ("a", b"1")], "w:gz")
    with memory(at_most=3 * 10**6):
        refused(written(tmp_path / "a.tgz", endless), "header")
    chain = tarred([(special("x", kind), b"")] * 10**4 + [("a", b"1")], "w:gz")
    refused(written(tmp_path / "a.tgz", chain))


def test_every_truncation_is_noticed(tmp_path):
    """A tar without its end would pass for a smaller one."""
    for name, content in (("a.tar", tarred(FILES)), ("a.tgz", tarred(FILES, "w:gz")), ("a.zip", zipped(FILES))):
        end = len(content.rstrip(b"\0")) if name == "a.tar" else len(content)
        for length in range(0, end, 37 if name != "a.tar" else 512):
            refused(written(tmp_path / name, content[:length]))
        refused(written(tmp_path / name, content[: end - 1]))


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    raw = tarred({"a": b"1", "b": b"2", "c": b"3"})
    flipped = raw[:1030] + bytes([raw[1030] ^ 1]) + raw[1031:]
    assert "after 'a'" in refused(written(tmp_path / "a.tar", flipped))
    refused(written(tmp_path / "a.tar", raw[:1024] + bytes(1024) + raw[1024:]), "something follows the end")


def test_a_wrong_checksum_is_noticed(tmp_path):
    packed = bytearray(tarred(FILES, "w:gz"))
    packed[-8] ^= 1
    refused(written(tmp_path / "a.tgz", bytes(packed)), "CRC")
    stored = zipped({"a.txt": b"content"}, zipfile.ZIP_STORED)
    assert "'a.txt'" in refused(written(tmp_path / "a.zip", stored.replace(b"content", b"c0ntent", 1)), "CRC")


def test_errors_of_the_caller_are_its_own(tmp_path, kind):
    path = written(tmp_path / kind, MAKERS[kind](FILES))

    def broken(name: str) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(members(path, broken, PLENTY))
    with pytest.raises(KeyError):
        for _ in members(path, everything, PLENTY):
            raise KeyError


@pytest.mark.slow
def test_a_large_archive_passes_in_little_memory(tmp_path):
    noise = random.Random(0).randbytes(2**20)
    path = tmp_path / "a.tgz"
    with gzip.open(path, "wb", 1) as out, tarfile.open(fileobj=out, mode="w|") as tar:
        for n in range(20):
            info = tarfile.TarInfo(f"{n}.jpg")
            info.size = len(noise)
            tar.addfile(info, io.BytesIO(noise))
    with memory(at_most=6 * 2**20):
        assert sum(len(content) for _, content in members(path, everything, 10**8)) == 20 * 2**20
    written(path, tarred({str(n): b"" for n in range(1500)}, "w:gz"))
    with memory(at_most=2**19):
        assert sum(1 for _ in members(path, everything, 10**8)) == 1500


def mutated(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 1, 3))):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(8):
            case 0:
                del out[place:]
            case 1:
                out[place:place] = rng.randbytes(rng.randrange(1, 600))
            case 2:
                end = place + rng.choice((1, 4, 12, 512))
                out[place:end] = rng.choice((bytes(end - place), b"\xff" * (end - place), b"7" * (end - place), b""))
            case _ if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
    return bytes(out)


def fuzzed(rng: random.Random) -> tuple[str, bytes]:
    """A damaged archive; in half of the tars the damage is in the tar itself, its checksums good."""
    if rng.random() < 0.35:
        return "zip", mutated(zipped(FILES, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))), rng)
    infos = [(name, content) for name, content in FILES.items()]
    infos.append(("n" * 120, b"long"))
    raw = tarred(infos, format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))[:-8192]
    match rng.randrange(4):
        case 0:
            return "tar", mutated(raw, rng)
        case 1:
            return "tgz", mutated(gzip.compress(raw, 1), rng)
        case 2:
            return "inner", gzip.compress(mutated(raw, rng), 1)
    at = rng.choice([n for n in range(0, len(raw), 512) if raw[n + 257 : n + 262] == b"ustar"])
    head = mutated(raw[at : at + 512], rng)[:512].ljust(512, b"\0")
    return "inner", gzip.compress(resealed(raw[:at] + head + raw[at + 512 :], at), 1)


@pytest.fixture
def quick_folder(tmp_path):
    """A folder in memory where there is such a thing: thousands of files are slow on some disks."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_damage_of_any_kind_is_an_error_or_harmless(quick_folder):
    rng = random.Random(20240607)
    sandbox = quick_folder / "sandbox"
    sandbox.mkdir()
    good = {**FILES, "n" * 120: b"long"}
    count = {"good": 0, "refused": 0}
    for _ in range(3200):
        kind, content = fuzzed(rng)
        path = written(sandbox / "a.dat", content)
        try:
            found = dict(members(path, everything, PLENTY))
            count["good"] += 1
            if kind == "tgz":
                assert found == good, "gzip's checksum was not heeded"
            if kind == "zip":
                assert all(found[name] == good[name] for name in found if name in good), "zip's checksum was not heeded"
        except UserError as error:
            count["refused"] += 1
            assert str(path) in str(error)
        assert listed(sandbox) == ["a.dat"], "something was left behind"
        assert listed(quick_folder) == ["sandbox"], "something was put outside"
    assert min(count.values()) > 100, f"the fuzzer is too {'rough' if count['good'] < 101 else 'soft'}: {count}"
