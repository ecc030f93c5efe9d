"""A small local mail server with TLS that keeps what it is sent and delivers nothing.

`python -m bulkmail.sandbox FOLDER` serves until its standard input ends, so that it never outlives
whoever started it; `Sandbox` does that. It needs the extra `sandbox` for its certificate.
"""

from bulkmail.sandbox.process import Sandbox

__all__ = ["Sandbox"]
