"""The campaign as its author wrote it: file, templates, attachments and recipient sources.

`read_campaign` checks everything that can be known without composing or connecting, and raises
CampaignError with all of it at once. Files are read once; what was read stays for the whole run.
"""

from bulkmail.campaign.campaign import LEDGER_NAME, Campaign, Located
from bulkmail.campaign.reading import locate_campaign, read_campaign

__all__ = ["LEDGER_NAME", "Campaign", "Located", "locate_campaign", "read_campaign"]
