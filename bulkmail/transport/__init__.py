"""Where mail objects go: a submission server, or files. Equal behind one seam."""

from bulkmail.transport.session import Timeouts
from bulkmail.transport.submission import Greeted, SubmissionServer

__all__ = ["Greeted", "SubmissionServer", "Timeouts"]
