"""The options by which `prune` and `why` take rules, one for each rule that there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from castore.retention.registry import FORMS
from castore.retention.rules import Rules

if TYPE_CHECKING:
    from castore.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])


def rule_options(command: Command) -> Command:
    """Every rule as an option that may be repeated, and `--ignore-config`."""
    text = "Leave out the rules of [retention] in castore.toml, which otherwise count too."
    command = click.option("--ignore-config", is_flag=True, help=text)(command)
    for key, form in reversed(FORMS.items()):
        command = click.option(form.option, key, metavar=form.metavar, multiple=True, help=form.help)(command)
    return command


def chosen_rules(store: Store, options: Mapping[str, Any], ignore_config: bool) -> Rules:
    """The rules of the command line and, unless they are left out, those of castore.toml. Raises UsageError."""
    given = Rules.from_mapping({key: values for key, values in options.items() if values})
    return given if ignore_config else store.retention_rules() + given
