"""Without Chromium the tests of the page are skipped, except in CI, which installs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("ci", "code", "message"), [("", 0, "1 skipped"), ("1", 1, "apt-get install -y chromium")])
def test_without_chromium_the_page_is_skipped_except_in_ci(ci, code, message):
    test = f"{Path(__file__).with_name('test_page.py')}::test_it_opens_with_the_first_fifty"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={"PATH": "/nowhere", "CI": ci},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code and message in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("present", "user", "expected"),
    [
        (False, 0, ["apt-get update", "apt-get install -y chromium", "make test, CI is 1"]),
        (False, 1000, ["make test, CI is 1"]),
        (True, 0, ["make test, CI is 1"]),
    ],
)
def test_ci_installs_chromium_where_it_is_missing(tmp_path, present, user, expected):
    """With stand-ins for every command that .ci/run calls."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    scripts = {"apt-get": 'echo "apt-get $*"', "make": 'echo "make $*, CI is $CI"', "id": f"echo {user}"}
    for name, script in (scripts | ({"chromium": ":"} if present else {})).items():
        (tmp_path / name).write_text(f"#!{tmp_path}/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "bash", ROOT / ".ci/run"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines() == expected, done.stderr
