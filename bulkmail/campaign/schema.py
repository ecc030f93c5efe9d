"""The JSON Schema of the campaign file, with which editors complete and check it as it is typed."""

from typing import Any

from bulkmail.campaign.file import CampaignFile


def campaign_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12. What only the file as a whole can tell is not in it."""
    schema = _without_null(CampaignFile.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_null(part: Any) -> Any:
    """A key that has no value is left out in a campaign file, never written as null."""
    if isinstance(part, list):
        return [_without_null(item) for item in part if item != {"type": "null"}]
    if not isinstance(part, dict):
        return part
    kept = {name: _without_null(value) for name, value in part.items()}
    if kept.get("default", "") is None:
        del kept["default"]
    if len(choices := kept.get("anyOf", ())) == 1:
        del kept["anyOf"]
        kept = {**choices[0], **kept}
    return kept
