"""The metrics of the gateway and the drain, shown to Prometheus on a port of the loopback."""

import logging
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from litellm_sqlalchemy.ledger import metrics
from litellm_sqlalchemy.ledger.metrics import Metrics
from litellm_sqlalchemy.ledger.spool import SpoolStatus

PATIENCE_SECONDS = 10  # with a client that does not go on

log = logging.getLogger("litellm_sqlalchemy.drain")


@dataclass(frozen=True, slots=True)
class DrainMetrics:
    """What the drain measures.

    Attributes:
        metrics: Where it is kept.
        spool_max_bytes: Largest size of the spool; 0: as large as the disk.
        spool_alarm_ratio: Part of it from which on there is an alarm.
    """

    metrics: Metrics = Metrics(None)  # noqa: RUF009 - one that measures nothing is the same for all
    spool_max_bytes: int = 0
    spool_alarm_ratio: float = 1.0

    def show(self, status: SpoolStatus, age_seconds: float, *, waiting: bool) -> None:
        """Say how it is at the moment.

        Args:
            status: What waits in the spool.
            age_seconds: Age of the oldest record; 0 if there is none.
            waiting: Whether the database takes no rows.
        """
        for gauge, value in (
            (metrics.SPOOL_RECORDS, status.records),
            (metrics.SPOOL_OLDEST_AGE_SECONDS, age_seconds),
            (metrics.SPOOL_BYTES, status.bytes),
            (metrics.SPOOL_MAX_BYTES, status.limit(self.spool_max_bytes)),
            (metrics.SPOOL_ALARM, status.is_filling(self.spool_max_bytes, self.spool_alarm_ratio)),
            (metrics.REJECTED_RECORDS, status.rejected),
            (metrics.DRAIN_WAITING, waiting),
        ):
            self.metrics.set(gauge, value)

    def count(self, table: str, rows: int) -> None:
        """Count rows that are stored.

        Args:
            table: Where.
            rows: How many.
        """
        self.metrics.add(metrics.STORED_ROWS, rows, table)


def serve(directory: Path, port: int) -> None:
    """Show all processes' metrics at http://127.0.0.1:port/metrics, as long as this process lives.

    A port that is taken is logged: the ledger does not depend on its metrics.

    Args:
        directory: Where the processes keep them.
        port: TCP port.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def do_GET(self) -> None:
            """Answer a scrape."""
            if self.path != "/metrics":
                self.send_error(404, "There is only /metrics")
                return
            body = metrics.render(directory).encode()
            self.send_response(200)
            self.send_header("Content-Type", metrics.CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of every scrape."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        log.warning(
            "action=no_metrics port=%s reason=%s: set LEDGER_METRICS_PORT to a port that is free, or to 0", port, error
        )
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
