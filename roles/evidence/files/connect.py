"""Try to connect to ADDRESS PORT, and print what came of it: a firewall that drops lets nothing come."""

import errno
import socket
import sys

address, port = sys.argv[1:]
try:
    socket.create_connection((address, int(port)), timeout=5).close()
    answer = "open"
except TimeoutError:
    answer = "no answer"
except ConnectionRefusedError:
    answer = "closed"
except OSError as error:
    answer = "not let out" if error.errno in {errno.EPERM, errno.EACCES, errno.EHOSTUNREACH} else str(error)
print(answer)
