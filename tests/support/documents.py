"""The commands that the documentation shows."""

import re
from pathlib import Path


def blocks(page: Path, heading: str | None = None) -> list[tuple[str, list[str]]]:
    """The kind and the lines of every code block, or of those under one heading."""
    result, inside, text = [], None, page.read_text(encoding="utf-8")
    if heading is not None:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for line in text.splitlines():
        if line.startswith("```"):
            if inside is None:
                inside = (line[3:].strip(), [])
            else:
                result.append(inside)
                inside = None
        elif inside is not None:
            inside[1].append(line)
    assert inside is None, f"{page.name}: a code block is not closed"
    return result


STARTS = ("make ", "dvc ", "python ", "source ", "git ", "pip ")


def commands(page: Path, heading: str | None = None) -> list[str]:
    """The commands that are not marked as needing a GPU, without comments and what they are piped into."""
    result = []
    for kind, lines in blocks(page, heading):
        if kind not in ("", "sh"):
            continue
        for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
            line = line.removeprefix("$ ")
            if line.startswith(STARTS):
                bare = re.sub(r"\s+# .*$", "", line).split(" | ")[0]
                result += [part.strip() for part in bare.split(" && ")]
    return result
