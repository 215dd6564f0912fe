"""The real `transformers serve`, on a free port of this machine."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(model: Path) -> Iterator[str]:
    """Serves the model folder on the CPU; yields the base URL. Raises RuntimeError, with the log, if it fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(sys.executable).parent / "transformers"
    command = [str(script), "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile() as log:
        (Path(cache) / "hub").mkdir()  # without it the server fails on GET /models
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": cache, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen, log) -> None:
    for attempts_left in reversed(range(600)):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None or not attempts_left:
                log.seek(0)
                raise RuntimeError(f"transformers serve did not start:\n{log.read().decode()[-3000:]}") from None
            time.sleep(0.2)
