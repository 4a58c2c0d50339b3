"""`mtlsproxy schema`."""

import json

import click


@click.command()
def command() -> None:
    """Print the JSON Schema of the configuration (draft 2020-12).

    \b
    Editors with a YAML language server complete from it; put this first in the file:
        # yaml-language-server: $schema=schema.json
    """
    # Imported on use: `mtlsproxy --help` lists this command without paying for the model.
    from mtlsproxy.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
