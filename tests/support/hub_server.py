"""A small Hugging Face hub on this machine: as much of its API as `load_dataset` asks for."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

SHA = "5" * 40


class Hub(ThreadingHTTPServer):
    """Serves folders as data sets: root/owner/name."""

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def files(self, repository: str) -> dict[str, Path]:
        folder = self.root / repository
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.wanted = (
            json.loads(self.rfile.read(length) or b"{}") if "json" in self.headers.get("Content-Type", "") else {}
        )
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {self.path}")
        kind, _, rest = path.strip("/").partition("/")
        parts = rest.split("/") if kind == "datasets" else rest.split("/")[1:]
        repository, action, revision, inner = "/".join(parts[:2]), parts[2:3], "".join(parts[3:4]), "/".join(parts[4:])
        files = self.server.files(repository)
        if not files or (revision not in ("", "main", "v1", SHA)):
            return self.send(404, b"{}", body, X_Error_Code="RepoNotFound" if not files else "RevisionNotFound")
        if kind == "api" and action in ([], ["revision"]):
            about = {"id": repository, "sha": SHA, "private": False, "tags": [], "downloads": 0, "likes": 0}
            return self.json(about | {"siblings": [{"rfilename": name} for name in files]}, body)
        if kind == "api" and action == ["tree"]:
            return self.json(self.tree(files, f"{inner}/" if inner else ""), body)
        if kind == "api" and action == ["paths-info"]:
            return self.json([self.entry(n, files[n]) for n in self.wanted.get("paths", []) if n in files], body)
        if kind == "datasets" and action == ["resolve"] and inner in files:
            content = files[inner].read_bytes()
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.send(200, content, body, ETag=etag, X_Repo_Commit=SHA)
        return self.send(404, b"{}", body, X_Error_Code="EntryNotFound")

    def tree(self, files: dict[str, Path], above: str) -> list[dict]:
        """What lies in a folder; with the query recursive=True at any depth."""
        names = [name for name in files if name.startswith(above)]
        folders = {above + name[len(above) :].split("/")[0] for name in names if "/" in name[len(above) :]}
        if "recursive=True" not in self.path and "recursive=true" not in self.path:
            names = [name for name in names if "/" not in name[len(above) :]]
        found = [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in sorted(folders)]
        return found + [self.entry(name, files[name]) for name in names]

    def entry(self, name: str, path: Path) -> dict:
        content = path.read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def json(self, value: object, body: bool) -> None:
        self.send(200, json.dumps(value).encode(), body, Content_Type="application/json")

    def send(self, status: int, content: bytes, body: bool, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    with Hub(root) as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        yield hub
        hub.shutdown()
