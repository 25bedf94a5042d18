"""The one thing that the services tell systemd: that they are ready (sd_notify(3))."""

import os
import socket


def notify(state: str) -> None:
    """Send a state to systemd; without systemd (no $NOTIFY_SOCKET) do nothing.

    Args:
        state: For example `READY=1` or `STATUS=draining`.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.connect(address)
        connection.send(state.encode())
