"""What providers ask of a campaign as a whole, where it would cost deliveries or the account."""

from collections.abc import Iterator

from bulkmail.address import address_key, domain_of
from bulkmail.campaign.campaign import Campaign
from bulkmail.compose.lint import Finding, Severity
from bulkmail.model import Rate

DAY_SECONDS = 86400
GMAIL_A_DAY, WORKSPACE_A_DAY = 500, 2000
"""Messages (support.google.com/mail/answer/22839)."""
MANY = 5000
"""People from which on Google, Yahoo and Microsoft ask for more of a sender."""
_GMAIL = frozenset({"smtp.gmail.com", "smtp.googlemail.com"})


def advice(campaign: Campaign, people: int) -> Iterator[Finding]:
    """What is to be said of a campaign that goes to so many people."""
    is_gmail = campaign.file.smtp.host.lower() in _GMAIL
    if is_gmail and people > GMAIL_A_DAY:
        yield from _of_quota(campaign.file.rate, people)
    yield from _of_login(campaign, is_gmail=is_gmail)
    yield from _of_leaving(campaign, people)


def _of_quota(rates: tuple[Rate, ...], people: int) -> Iterator[Finding]:
    a_day = min((int(DAY_SECONDS / r.period_seconds * r.limit) for r in rates), default=people)
    if a_day > WORKSPACE_A_DAY and people > WORKSPACE_A_DAY:
        what = f"Gmail takes {GMAIL_A_DAY} messages a day, {WORKSPACE_A_DAY:,} of a Workspace"
    elif a_day > GMAIL_A_DAY and not any(r.period_seconds == DAY_SECONDS for r in rates):
        what = f"a personal Gmail account may send {GMAIL_A_DAY} messages a day"
    else:
        return
    mend = "write  rate: [1/s, 450/day]  and the run says when to go on, or take another server"
    yield Finding("gmail-quota", Severity.WARNING, "rate", f"{what}; these are {people:,}", mend)


def _of_login(campaign: Campaign, *, is_gmail: bool) -> Iterator[Finding]:
    """Servers replace, refuse or distrust a From that is not of the account."""
    login, author = campaign.file.smtp.username, campaign.design.author.address
    if login is None or "@" not in login or address_key(login) == address_key(author):
        return
    what = f"From is {author}, and the login is {login}"
    if is_gmail:
        mend = "Gmail writes the login's address there, unless it is one of its aliases"
    elif domain_of(login) != domain_of(author):
        mend = "many servers refuse or distrust that: send as the domain of the login"
    else:
        return
    yield Finding("from-login", Severity.WARNING, "from", what, mend)


def _of_leaving(campaign: Campaign, people: int) -> Iterator[Finding]:
    """RFC 2369. Over 5,000 people the large mailbox providers ask for it."""
    design = campaign.design
    if people > MANY and not (design.unsubscribe_mailto or design.unsubscribe_url):
        what = f"{people:,} people, and no way to leave the list that mail programs know"
        mend = "write  list: {unsubscribe: {mailto: …}}  (docs/campaign-file.md)"
        yield Finding("no-unsubscribe", Severity.WARNING, "list", what, mend)
    if design.unsubscribe_url and design.unsubscribe_url.text.lower().startswith("http:"):
        what = "the address to leave the list is not safe from being read or changed on its way"
        yield Finding("unsubscribe-http", Severity.WARNING, "list", what, "write https://…")
