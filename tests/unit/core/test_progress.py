"""Progress in a log: a line every ten minutes, with the rate and the time left."""

import pytest

from pipeline.core import progress
from pipeline.core.progress import ProgressLog, bar


def test_a_line_every_ten_minutes(capsys):
    now = [100.0]
    log = ProgressLog("sample", 28_800, "draws", clock=lambda: now[0])
    for minute in range(1, 31):
        now[0] = 100 + 60 * minute
        log.advance(240, ", 1.5% unreadable")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "sample: 2,400 of 28,800 draws, 4.0/s, 1 h 50 min left, 1.5% unreadable",
        "sample: 4,800 of 28,800 draws, 4.0/s, 1 h 40 min left, 1.5% unreadable",
        "sample: 7,200 of 28,800 draws, 4.0/s, 1 h 30 min left, 1.5% unreadable",
    ]


@pytest.mark.parametrize("visible", [True, False])
def test_what_is_no_terminal_gets_lines_and_no_bar(capsys, monkeypatch, visible):
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)  # each time
    with bar("ingest", 2, "images", visible) as advance:
        advance()
        advance()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["ingest: 1 of 2 images", "ingest: 2 of 2 images"] * visible
