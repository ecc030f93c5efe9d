"""The JSON Schema of the campaign file, with which editors complete and check it as it is typed."""

from typing import Any

from bulkmail.campaign.file import CampaignFile


def campaign_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12. What only the file as a whole can tell is not in it."""
    schema = CampaignFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
