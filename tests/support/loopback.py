"""A server on loopback that can resume, break off and count what was asked of it."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Server:
    """What the server does and what it saw."""

    address: str = ""
    break_after: int = 0  # bytes of a body after which the connection is cut, once
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, range


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.asked.append((self.path, asked))
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            tag = f'"{path.stat().st_mtime_ns}"'
            match = re.fullmatch(r"bytes=(\d+)-", asked) if state.ranges else None
            start = int(match.group(1)) if match else 0
            if self.headers.get("If-Range", tag) != tag:
                match, start = None, 0
            if match and start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            html = path.suffix == ".html" or data.startswith(b"<html")
            self.send_header("Content-Type", "text/html" if html else "application/octet-stream")
            self.send_header("ETag", tag)
            self.end_headers()
            if state.break_after:
                data = data[: start + state.break_after]
                state.break_after = 0
            self.wfile.write(data[start:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        state.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
