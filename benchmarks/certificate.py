"""A throw-away authority and a certificate of it for loopback.

    python -m benchmarks.certificate FOLDER

writes `ca.pem`, which senders trust, and `server.pem` and `server.key` for the server. A process of
its own, because the harness stays small: what it holds would count as its children's memory.
"""

import sys
from pathlib import Path

import trustme

HOST = "127.0.0.1"
CA, CERTIFICATE, KEY = "ca.pem", "server.pem", "server.key"


def main() -> None:
    folder = Path(sys.argv[1])
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / CA))
    issued = ca.issue_cert(HOST, "localhost")
    issued.private_key_pem.write_to_path(str(folder / KEY))
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(folder / CERTIFICATE), append=index > 0)


if __name__ == "__main__":
    main()
