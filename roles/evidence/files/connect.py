"""Try to connect to ADDRESS PORT [PROTOCOL CA], and print what came of it: a firewall that drops lets nothing come.

With a protocol (https or postgresql) and the certificates (PEM) of who has signed the server's, it must be that server:
some networks answer for all.
"""

import errno
import socket
import ssl
import struct
import sys

address, port, *server = sys.argv[1:]
try:
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.settimeout(60)  # it is open: a busy server may take its time
        if server:
            protocol, ca = server
            if protocol == "postgresql":
                connection.sendall(struct.pack("!ii", 8, 80877103))  # SSLRequest; S: go on with TLS
                connection.recv(1)
            ssl.create_default_context(cadata=ca).wrap_socket(connection, server_hostname=address).close()
    answer = "open"
except TimeoutError:
    answer = "no answer"
except ConnectionRefusedError:
    answer = "closed"
except ssl.SSLError as error:  # whose numbers are no errno
    answer = f"another server: {error}"
except OSError as error:
    answer = "not let out" if error.errno in {errno.EPERM, errno.EACCES, errno.EHOSTUNREACH} else str(error)
print(answer)
