"""Makes the README and CONTRIBUTING pages of the site too, and turns links out of docs/ into the names of the files."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        text = re.sub(r"\]\(docs/", "](", (root / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=LINK.sub(inside, text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return LINK.sub(inside, re.sub(r"^```sh gpu$", "```sh", markdown, flags=re.M))


def inside(link: re.Match[str]) -> str:
    """The link as it works on the site: a page of it, an address outside, or the file's name alone."""
    text, target = link.groups()
    path, _, anchor = target.partition("#")
    page = PAGES.get(path.removeprefix("../"))
    if page:
        return f"[{text}]({page}{'#' * bool(anchor)}{anchor})"
    if target.startswith(("http", "#")) or (path.endswith((".md", ".png")) and "/" not in path):
        return link[0]
    name = path.removeprefix("../")
    return text if name in text else f"{text} ({name})"
