"""`mtlsproxy check`: what would a start find?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtlsproxy.cli.report import BadInput, findings, format_option, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from mtlsproxy.config.errors import ConfigWarning
    from mtlsproxy.config.load import LoadedConfig
    from mtlsproxy.runtime.material import Material

STRICT = 1


@click.command(
    epilog="""\b
Examples:
  mtlsproxy check /etc/mtlsproxy/mtlsproxy.yaml
  mtlsproxy check --strict config/production.yaml
  mtlsproxy check --format json mtlsproxy.yaml | jq '.listeners[].certificates[] | {subject, days_left}'

\b
Exit status: 0 a start would work; 1 it would, with warnings, and --strict was given; 2 it would not."""
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Warnings make the exit status 1.")
@format_option
def command(config: Path, strict: bool, output_format: str) -> None:
    """Load everything that a start with CONFIG would load, and say what was found, or everything that is wrong.

    Nothing is bound and nothing is written: a proxy may be running with the same file.
    """
    import os
    from datetime import UTC, datetime

    from mtlsproxy.cli.report_check import inventory, print_inventory
    from mtlsproxy.config.errors import ConfigErrors
    from mtlsproxy.config.load import load_config
    from mtlsproxy.runtime.offline import consult

    now = datetime.now(UTC)
    try:
        material = _load(load_config(config, os.environ), now)
        warnings = _warnings(material)
    except ConfigErrors as errors:
        if output_format == "json":
            print_json({"ok": False, "file": str(config), "errors": findings(errors.errors)})
        raise BadInput(str(errors)) from errors
    consulted = consult(material, material.trusts, (), now, ask=False)
    found = inventory(material, consulted, warnings, now)
    if output_format == "json":
        print_json({"ok": True, "file": str(config), "errors": [], **found})
    else:
        print_inventory(config, found, consulted, now)
    if strict and warnings:
        click.get_current_context().exit(STRICT)


def _load(loaded: "LoadedConfig", now: "datetime") -> "Material":
    """As a start does, short of binding and of opening logs. Raises ConfigErrors."""
    from mtlsproxy.config.errors import ConfigErrors
    from mtlsproxy.fetch.cache import CacheError
    from mtlsproxy.runtime.material import load_material
    from mtlsproxy.runtime.offline import usable_state_folder
    from mtlsproxy.runtime.snapshot import build_listener_contexts, build_upstream_contexts
    from mtlsproxy.tls.tickets import SECRET_SIZE

    logging = loaded.config.logging
    errors = [
        loaded.error(f"logging.{key}", f"there is no folder {file.parent}")
        for key, file in (("access", logging.access), ("audit", logging.audit))
        if isinstance(file, Path) and not file.parent.is_dir()
    ]
    try:
        material = load_material(loaded, now)
    except ConfigErrors as found:
        raise ConfigErrors([*found.errors, *errors]) from found
    try:
        usable_state_folder(material)
    except CacheError as error:
        errors.append(loaded.error("state_dir", error.detail))
    if errors:
        raise ConfigErrors(errors)
    build_listener_contexts(material, bytes(SECRET_SIZE))  # made to be checked, not to be used
    build_upstream_contexts(material)
    return material


def _warnings(material: "Material") -> "tuple[ConfigWarning, ...]":
    """The material's, and what this Python cannot do of what the file asks for."""
    from mtlsproxy.config.errors import ConfigWarning
    from mtlsproxy.tls import native

    found = set(material.warnings)
    missing = native.unavailable_because()
    if missing is not None:
        asking = [n for n, x in enumerate(material.loaded.config.listeners) if x.client_auth.advertise_ca_names]
        message = f"acceptable CA names are not advertised: {missing}"
        places = [material.loaded.error(f"listeners[{n}].client_auth.advertise_ca_names", "") for n in asking]
        found |= {ConfigWarning(place.file, place.line, place.column, place.path, message) for place in places}
    return tuple(sorted(found))
