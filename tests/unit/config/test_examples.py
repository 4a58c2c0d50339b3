"""The configurations and the schema that are shipped: they load, they validate, they have not drifted."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from tests.unit.config.conftest import MINIMAL, changed

from mtlsproxy.cli import cli
from mtlsproxy.config.load import load_config
from mtlsproxy.config.schema import json_schema

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLES = sorted(CONFIG.glob("*.yaml"))
ENVIRON = {"NODE_ADDRESS": "192.0.2.1"}
WARNINGS = {"shadow-mode.yaml": ["routes[1].enforce"]}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_each_use_has_its_file() -> None:
    names = {path.name for path in EXAMPLES}
    assert names >= {"quickstart.yaml", "production.yaml", "spiffe.yaml", "several-partners.yaml", "shadow-mode.yaml"}
    assert names >= {"behind-load-balancer.yaml", "mtls-onward.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_shipped_configuration_loads_without_unexpected_warnings(path: Path) -> None:
    loaded = load_config(path, ENVIRON)
    assert [warning.path for warning in loaded.warnings] == WARNINGS.get(path.name, [])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_shipped_configuration_validates_against_the_schema_and_says_what_it_is_for(
    path: Path, validator: Draft202012Validator
) -> None:
    text = path.read_text()
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
    assert text.startswith("# yaml-language-server: $schema=schema.json\n#\n# ")


def test_the_reference_validates_against_the_schema(validator: Draft202012Validator) -> None:
    reference = yaml.safe_load((Path(__file__).parent / "reference.yaml").read_text())
    assert [error.message for error in validator.iter_errors(reference)] == []


def test_the_schema_is_the_one_that_the_command_prints() -> None:
    """`mtlsproxy schema > config/schema.json` mends a drift."""
    printed = CliRunner().invoke(cli, ["schema"])
    assert printed.exit_code == 0
    assert printed.output == (CONFIG / "schema.json").read_text()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("listeners.0.timeouts.idle", 10),
        ("listeners.0.limits.headers", "16kb"),
        ("listeners.0.bnd", "x"),
        ("listeners.0.timeouts", None),
        ("routes.0.allow", "all"),
        ("routes.0.allow", None),
        ("routes.0.hosts", None),
        ("truststores.partners.revocation.mode", True),
        ("truststores.partners.deny", [{"serial": 12}]),
        ("workers", "many"),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(validator: Draft202012Validator, path: str, value: object) -> None:
    assert not validator.is_valid(yaml.safe_load(changed({path: value})))
    assert validator.is_valid(MINIMAL)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("listeners.0.proxy_protocol", False),
        ("truststores.partners.revocation.mode", False),
        ("logging.access", False),
        ("listeners.0.limits.headers", "16KiB"),
        ("listeners.0.limits.headers", 512),
        ("routes.0.allow", "any"),
        ("truststores.partners.spiffe_trust_domain", None),
        ("workers", "auto"),
    ],
)
def test_the_schema_accepts_what_authors_write(validator: Draft202012Validator, path: str, value: object) -> None:
    assert validator.is_valid(yaml.safe_load(changed({path: value})))


def test_every_key_of_the_schema_that_needs_words_has_them() -> None:
    """A field's docstring is its description; what has none is explained by its name or its own block."""
    schema = json_schema()
    bare = {
        f"{name}.{key}"
        for name, section in schema["$defs"].items()
        for key, member in section["properties"].items()
        if "description" not in member and not _refers(member)
    }
    assert bare == {
        *("Admin.bind", "HealthCheck.interval", "HealthCheck.timeout", "Logging.level"),
        *("OcspOptions.enabled", "OcspOptions.timeout", "FetchOptions.max_size", "FetchOptions.timeout"),
        "Upstream.servers",
    }


def _refers(member: dict[str, Any]) -> bool:
    return "$ref" in member
