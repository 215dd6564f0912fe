"""A program that serves a model by script, for `server.command`: answers depend on the seed, and it has children."""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL, PORT, *MODES = sys.argv[1:]
KEY = os.environ["VLLM_API_KEY"]
VERSION = Path("version")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = 0

    def log_message(self, *_):
        pass

    def send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.send(401, {"error": {"message": "no key"}})
        elif self.path == "/version" and "vllm" in MODES:
            self.send(200, {"version": VERSION.read_text(encoding="utf-8") if VERSION.is_file() else "1.2.3"})
        elif self.path == "/v1/models":
            self.send(200, {"object": "list", "data": [{"id": MODEL}]})
        else:
            self.send(404, {"detail": "Not Found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.requests += 1
        if "dies" in MODES and Handler.requests > 2:
            print(f"CUDA error: an illegal memory access, key {KEY}", flush=True)
            os._exit(3)
        time.sleep(0.02)
        texts = [f"seed {body['seed'] + place}" if "seed" in body else "greedy" for place in range(body.get("n", 1))]
        choices = [{"index": 0, "finish_reason": "stop", "message": {"content": text}} for text in texts]
        self.send(200, {"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


if "fails" in MODES:
    print("ValueError: No available memory for the cache blocks.")
    sys.exit(7)
# A child that ignores the request to end, as a worker in a long computation does.
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", CHILD]) if "stubborn" in MODES else None
if "detached" in MODES:  # its parent ends at once, and its session is its own: as a daemon, or a worker of Ray
    start = "import subprocess, sys; print('child', subprocess.Popen(sys.argv[1:], start_new_session=True).pid)"
    subprocess.run([sys.executable, "-c", start, sys.executable, "-c", CHILD], check=True)
print(f"pid {os.getpid()} child {child.pid if child else 0}", flush=True)
if "silent" in MODES:
    time.sleep(600)
ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler).serve_forever()
