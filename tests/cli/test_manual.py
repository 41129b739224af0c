"""docs/cli.md and `--help` are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import castore
from castore.cli.main import castore as root
from castore.cli.registry import COMMANDS
from castore.errors import CastoreError

MANUAL = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")


def error_classes(base: type[CastoreError] = CastoreError) -> Iterator[type[CastoreError]]:
    """The errors of castore/errors.py; those that a module keeps to itself never reach a user."""
    if base.__module__ == "castore.errors":
        yield base
    for derived in base.__subclasses__():
        yield from error_classes(derived)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_the_manual_lists_the_exit_code_of_every_error() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", MANUAL, re.MULTILINE)
    listed = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {error.__name__: error.exit_code for error in error_classes()}


def test_every_error_can_be_caught_by_its_name_in_the_package() -> None:
    for error in error_classes():
        assert getattr(castore, error.__name__) is error


def test_every_public_name_is_there() -> None:
    for name in castore.__all__:
        assert getattr(castore, name) is not None
    assert set(castore.__all__) <= set(dir(castore))


def test_a_name_that_the_package_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'close_enough'"):
        _ = castore.close_enough


@pytest.mark.parametrize(
    ("path", "command"), list(commands(root)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_help_explains_every_option_and_ends_with_examples(path: tuple[str, ...], command: click.Command) -> None:
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name
    result = CliRunner().invoke(root, [*path, "--help"])
    assert result.exit_code == 0
    assert command.help
    if len(path) == 1:
        assert "Examples:" in result.output


def test_the_list_of_commands_says_what_each_does() -> None:
    output = CliRunner().invoke(root, ["--help"]).output
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", output, re.MULTILINE)


def test_a_command_that_is_not_listed_does_not_exist() -> None:
    listed = {
        path.stem.rstrip("_")
        for path in Path(root.get_command.__code__.co_filename).parent.joinpath("commands").glob("[!_]*.py")
    }
    assert listed == set(COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(root, ["--version"]).output == f"castore {castore.__version__}\n"
