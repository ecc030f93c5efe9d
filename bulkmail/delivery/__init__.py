"""The loop: recipients are claimed, granted by the rates, composed, recorded, submitted, settled.

`Desk` says who is next and when, a `Worker` owns one session and pulls from the desk, so what the
server cannot take is not claimed; `Delivery` is the run. The first message goes alone: others
follow, and further sessions open, after its 2xx. A session is added only when a message did not
have to wait for its rate, so a slow campaign uses one.

Promises: nothing is submitted whose intent is not in the ledger; when a run returns, everyone who
was claimed is settled, released, or was only ever claimed; and a recipient is charged only for what
was said about it. Knows the protocols in `seams`, and neither files nor sockets.
"""

from bulkmail.delivery.run import Delivery
from bulkmail.delivery.seams import Limits, Stop

__all__ = ["Delivery", "Limits", "Stop"]
