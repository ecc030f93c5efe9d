"""`bulkmail schema`."""

import json

import click


@click.command()
def schema() -> None:
    """The JSON Schema of the campaign file, for editors.

    \b
    Keep it beside your campaigns, and begin them with
      # yaml-language-server: $schema=campaign.schema.json
    """
    from bulkmail.campaign.schema import campaign_schema

    click.echo(json.dumps(campaign_schema(), indent=2, ensure_ascii=False))
