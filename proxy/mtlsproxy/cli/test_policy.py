"""`mtlsproxy test-policy`: does the configuration let in whom it should, and nobody else?"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtlsproxy.cli.report import errors_in, table_option

if TYPE_CHECKING:
    from mtlsproxy.cli.expectations import Outcome

NOT_AS_EXPECTED = 1

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog="""\b
Examples:
  mtlsproxy test-policy policy-tests.yaml
  mtlsproxy test-policy --config new.yaml policy-tests.yaml
  mtlsproxy test-policy --config mtlsproxy.yaml --strict
  mtlsproxy test-policy --format json policy-tests.yaml | jq '.tests[] | select(.ok | not)'

\b
A file of expectations (config/tests/ has an example):
  version: 1
  config: mtlsproxy.yaml
  clients:
    checkout: {san: ["URI:spiffe://example.org/ns/shop/sa/checkout"], truststores: [partners]}
    partner: {certificate: partner.pem}
  tests:
    - {client: checkout, method: POST, path: /orders, expect: allow, route: orders}
    - {client: partner, path: /admin, expect: deny, reason: not_allowed}

\b
Exit status: 0 all as expected; 1 not, or --strict and the configuration has remarks; 2 the input is wrong."""
)
@click.argument("file", required=False, type=_FILE)
@click.option("--config", "config_file", type=_FILE, metavar="CONFIG", help="The configuration, whatever FILE names.")
@click.option("--strict", is_flag=True, help="Remarks on the configuration make the exit status 1.")
@click.option(
    "--no-hosts",
    is_flag=True,
    help="Do not read the listeners' certificates: whether one stands for a Host is then not judged.",
)
@table_option
def command(file: Path | None, config_file: Path | None, strict: bool, no_hosts: bool, output_format: str) -> None:
    """Test the expectations of FILE about who may do what, by the code that decides on requests.

    Remarks on the configuration come with it: routes and entries that never count, and weaker ways in. Without FILE
    they come alone.
    """
    from mtlsproxy.cli import expectations
    from mtlsproxy.cli.report_policy import print_results
    from mtlsproxy.cli.site import load_site

    with errors_in(output_format):
        loaded = expectations.load_expectations(file) if file is not None else None
        if config_file is None:
            config_file = loaded.said.config if loaded is not None else None
        if config_file is None:
            raise click.UsageError("say which configuration: --config CONFIG, or config: in FILE")
        asks_hosts = loaded is not None and any(test.host for test in loaded.said.tests)
        site = load_site(config_file, hosts=not no_hosts, asks_hosts=asks_hosts)
        outcomes: tuple[Outcome, ...] = ()
        if loaded is not None:
            expectations.check_names(loaded, site)
            outcomes = expectations.run_tests(loaded, site, loaded.said.at or datetime.now(UTC))
    remarks = site.remarks()
    print_results(outcomes, site, remarks, output_format)
    failed = any(outcome.wrong for outcome in outcomes) or (strict and bool(remarks))
    click.get_current_context().exit(NOT_AS_EXPECTED if failed else 0)
