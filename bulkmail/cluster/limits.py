"""How much at once, and how long for what, as a campaign says."""

from bulkmail.campaign.file import CampaignFile
from bulkmail.delivery import Limits


def limits_of(
    file: CampaignFile,
    *,
    messages: int | None = None,
    wait_seconds: float = 3600.0,
    account_used_at: float | None = None,
) -> Limits:
    """`messages` and `wait_seconds` are of one run; `account_used_at` as in `Limits`."""
    return Limits(
        connections=file.smtp.connections,
        messages_per_connection=file.smtp.messages_per_connection,
        messages=messages,
        start_at=file.start_at.timestamp() if file.start_at else None,
        wait=wait_seconds,
        first_retry=file.retry.first.total_seconds(),
        longest_retry=file.retry.longest.total_seconds(),
        give_up=file.retry.give_up.total_seconds(),
        account_used_at=account_used_at,
        stop_after_failures=file.stop_after_failures,
    )
