"""A local web server that shows the report and makes it anew while the studies run."""

import hashlib
import html
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

from common.errors import UserError
from tuning.records.storage import storage_errors
from tuning.reporting.report.read_studies import RecordSource
from tuning.reporting.report.write_report import make_report

ADDRESS = "127.0.0.1"  # loopback: nobody else on the network sees it
HOSTS = ("127.0.0.1", "localhost")
MIN_SECONDS = 10.0  # between two reports
BUSY_SHARE = 0.2  # of the time that making them may take
RECORD_FILES = ("export.json", "rows.json", "end.json")


class ReportServer(ThreadingHTTPServer):
    """Serves the report of some records on a free port of the loopback address.

    A page names the state of the records in its version; its script asks for the newest version
    and loads the page again where it differs.

    Args:
        sources: The records.
        min_seconds: The shortest time between two reports.
    """

    daemon_threads = True

    def __init__(self, sources: Sequence[RecordSource], min_seconds: float = MIN_SECONDS) -> None:
        self.sources = sources
        self.min_seconds = min_seconds
        self.page = ""
        self.version = ""
        self.problem = ""
        self._lock = threading.Lock()
        self._next = 0.0
        super().__init__((ADDRESS, 0), ReportHandler)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def refresh(self) -> None:
        """Make the report anew if the records have changed and it is not too soon.

        Raises:
            UserError: If the records cannot be read.
        """
        with self._lock:
            start = time.monotonic()
            if start < self._next:
                return
            try:
                version = compute_version(self.sources)
                if version != self.version:
                    self.page = make_report(self.sources, version)
                    self.version = version
                self.problem = ""
            finally:
                spent = time.monotonic() - start
                self._next = time.monotonic() + max(self.min_seconds, spent / BUSY_SHARE)

    def show_page(self) -> str:
        """Return the newest page that could be made, with the reason why none is newer."""
        if not self.problem:
            return self.page
        notice = f"<p>This page is an older one: {html.escape(self.problem)}</p>"
        return self.page.replace("</header>", f"{notice}\n</header>", 1)


class ReportHandler(BaseHTTPRequestHandler):
    """Answers the requests of the page: itself, and its newest version."""

    server_version = "evenhand"
    sys_version = ""

    def do_HEAD(self) -> None:
        """Answer a request without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer a request."""
        server = self.server
        assert isinstance(server, ReportServer)
        # A foreign page whose name points to this address must not read the report.
        if (self.headers.get("Host") or "").partition(":")[0] not in HOSTS:
            self._answer(HTTPStatus.FORBIDDEN, "this page is for this machine only\n")
            return
        if self.path not in ("/", "/version"):
            self._answer(HTTPStatus.NOT_FOUND, "there is only /\n")
            return
        try:
            server.refresh()
        except UserError as error:
            server.problem = str(error)
        except Exception as error:  # the last page is served on
            server.problem = f"{type(error).__name__}: {error}"
        if not server.page:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{server.problem}\n")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, server.show_page(), "text/html")
        else:
            self._answer(HTTPStatus.OK, server.version)

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        data = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def compute_version(sources: Sequence[RecordSource]) -> str:
    """Return a text that changes with the records: which runs there are, and their time stamps."""
    digest = hashlib.sha256()
    for source in sources:
        with storage_errors(source.storage):
            times = source.storage.list_modification_times()
        for path, time_stamp in sorted(times.items()):
            if PurePosixPath(path).name in RECORD_FILES:
                digest.update(f"{source.storage} {path} {time_stamp}\n".encode())
    return digest.hexdigest()[:16]
