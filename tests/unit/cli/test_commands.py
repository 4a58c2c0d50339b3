"""The list of commands costs nothing, and every command says what it does."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mtlsproxy.cli import COMMANDS, cli

PRESENT = cli.list_commands(click.Context(cli))

HEAVY = ("cryptography", "pydantic", "aiohttp", "rich", "yaml", "uvloop", "ssl")


def test_the_commands_of_this_version_are_there() -> None:
    assert {"check", "demo", "explain", "inspect", "pki", "probe", "run", "schema"} <= set(PRESENT) <= set(COMMANDS)


@pytest.mark.parametrize("name", PRESENT)
def test_a_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"], prog_name="mtlsproxy")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: mtlsproxy {name}")
    assert "Options:" in result.output


def test_the_short_lines_of_pki_are_whole() -> None:
    output = CliRunner().invoke(cli, ["pki", "--help"], prog_name="mtlsproxy").output
    listed = output.partition("Commands:\n")[2].splitlines()
    assert len(listed) == 6
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_the_list_names_each_command_with_its_line() -> None:
    output = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for name in PRESENT:
        assert f"{name} {COMMANDS[name][1]}" in output


def test_the_list_imports_no_command() -> None:
    """A shell's completion and a hurried operator ask for it often."""
    program = (
        "import sys; from mtlsproxy.cli import cli; cli.main(['--help'], standalone_mode=False);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("name", ["check", "demo", "explain", "inspect", "probe"])
def test_a_command_s_own_help_imports_little(name: str) -> None:
    program = (
        f"import sys; from mtlsproxy.cli import cli; cli.main([{name!r}, '--help'], standalone_mode=False);"
        "print([name for name in ('cryptography', 'pydantic', 'aiohttp', 'yaml') if name in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage:")
    assert done.stderr == "[]\n"


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(cli, ["exlpain"])
    assert result.exit_code == 2
    assert "exlpain" in result.output
