"""`edgeemo profile`: list, show, copy, merge and delete profiles of speakers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import click
from rich.table import Column, Table
from rich.text import Text

from edge_runtime.command_group import CommandGroup
from edge_runtime.console import console, print_table
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import (
    load_profile,
    profile_names,
    profile_path,
    profiles_directory,
    read_profile,
    remove_profile,
    remove_profiles,
    save_profile,
    write_profile,
)
from edge_runtime.strict_json import shown

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_REPLACE = click.option("--replace", "replacing", is_flag=True, help="Overwrite an existing one.")


class _ProfileGroup(CommandGroup):
    synonyms: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("ls",), "list"),
        **dict.fromkeys(("info", "cat", "view"), "show"),
        **dict.fromkeys(("copy", "save", "backup"), "export"),
        **dict.fromkeys(("add", "load", "restore"), "import"),
        **dict.fromkeys(("join", "combine"), "merge"),
        **dict.fromkeys(("clear", "empty"), "reset"),
        **dict.fromkeys(("remove", "delete", "del"), "rm"),
    }


@click.group("profile", cls=_ProfileGroup)
def profile_command() -> None:
    """List, show, copy and delete the profiles of `edgeemo listen --profile NAME`.

    A profile is a small file with statistics of a speaker's recent utterances and of labelled clips, for one bundle. It
    holds no audio and no words, and only its owner can read it. Profiles are in $XDG_DATA_HOME/edgeemo/profiles (else
    ~/.local/share/edgeemo/profiles).

    \b
    Examples:
      edgeemo profile list
      edgeemo profile show anna --json
      edgeemo profile export anna anna.json
      edgeemo profile import anna.json --name anna-at-work
      edgeemo profile merge anna anna-at-work --into anna
      edgeemo profile reset anna
      edgeemo profile rm anna
    """


@profile_command.command("list", short_help="List the profiles.")
@_JSON
def list_command(as_json: bool) -> None:
    """List the profiles; one that cannot be used is listed with the reason.

    \b
    Examples:
      edgeemo profile list
      edgeemo profile list --json
    """
    rows = [_listed(name) for name in profile_names()]
    if as_json:
        _print_json(rows)
        return
    if not rows:
        console.print(f"no profiles in {profiles_directory()}; begin one with: edgeemo teach NAME")
        return
    table = Table(Column("name", overflow="fold"), "utterances", "clips", "bundle", Column("updated", no_wrap=True))
    for row in rows:
        if "problem" in row:
            # Text, not markup: a file may have any name.
            table.add_row(Text(row["name"]), "-", "-", "-", "cannot be used")
        else:
            numbers = str(row["utterances"]), str(sum(row["clips"].values()))
            table.add_row(row["name"], *numbers, row["bundle"][:12], row["updated"])
    print_table(table)
    for row in rows:
        if "problem" in row:
            console.print(row["problem"])


@profile_command.command("show", short_help="Show the content of a profile.")
@click.argument("name")
@_JSON
def show_command(name: str, as_json: bool) -> None:
    """Show the content of a profile.

    \b
    Example:
      edgeemo profile show anna
    """
    profile = load_profile(name)
    content = _row(name, profile) | {
        "created": profile.created,
        "labels": list(profile.all_labels),
        "added": list(profile.added),
        "file": str(profile_path(name)),
    }
    if as_json:
        _print_json(content)
        return
    for key, value in content.items():
        text = value
        if isinstance(value, list):
            text = ", ".join(value) or "none"
        elif isinstance(value, dict):
            text = ", ".join(f"{label} {count}" for label, count in value.items()) or "none"
        click.echo(f"{key.replace('_', ' '):<16} {text}")


@profile_command.command("export", short_help="Copy a profile to a file, as for another device.")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@_REPLACE
def export_command(name: str, file: Path, replacing: bool) -> None:
    """Copy a profile to a FILE, as for another device with the same bundle.

    \b
    Example:
      edgeemo profile export anna anna.json
    """
    profile = load_profile(name)
    if file.is_dir():
        raise WrongUseError(f"{file}: is a directory; name a file")
    if file.exists() and not replacing:
        raise WrongUseError(f"{file}: exists already; give --replace to overwrite it")
    write_profile(profile, file)
    console.print(f"'{name}' is copied to {file}; it is personal data: its numbers describe a voice")


@profile_command.command("import", short_help="Add an exported profile.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the profile.  [default: the name in FILE]")
@_REPLACE
def import_command(file: Path, name: str | None, replacing: bool) -> None:
    """Add an exported profile; its bundle is checked when it is first used.

    \b
    Example:
      edgeemo profile import anna.json --name anna-at-work
    """
    profile = read_profile(file, "give a file that edgeemo profile export wrote")
    _save(replace(profile, name=name or profile.name), replacing)


@profile_command.command("merge", short_help="Merge two profiles of the same speaker.")
@click.argument("first")
@click.argument("second")
@click.option("--into", required=True, metavar="NAME", help="Name of the result; one of the two, or a new one.")
@_REPLACE
def merge_command(first: str, second: str, into: str, replacing: bool) -> None:
    """Merge two profiles of the same speaker and the same bundle, as from two devices.

    The most recent utterances of both and all clips are kept. Both profiles remain, unless the result replaces one.

    \b
    Example:
      edgeemo profile merge anna anna-at-work --into anna
    """
    if first == second:
        raise WrongUseError(f"'{shown(first)}' is one profile; name two")
    _save(load_profile(first).merged(load_profile(second), into), replacing or into in (first, second))


@profile_command.command("reset", short_help="Empty a profile, and keep its name.")
@click.argument("name")
def reset_command(name: str) -> None:
    """Empty a profile, and keep its name for its bundle.

    \b
    Example:
      edgeemo profile reset anna
    """
    save_profile(load_profile(name).cleared())
    console.print(f"'{name}' is empty now")


@profile_command.command("rm", short_help="Delete profiles.")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every profile.")
def rm_command(names: tuple[str, ...], everything: bool) -> None:
    """Delete profiles, also damaged ones; a running listener does not save a deleted profile again.

    \b
    Examples:
      edgeemo profile rm anna
      edgeemo profile rm --all
    """
    if bool(names) == everything:
        raise WrongUseError("name the profiles to delete, or give --all")
    if everything:
        console.print(f"{remove_profiles()} deleted")
        return
    paths = [profile_path(name) for name in names]  # checks all names before anything is deleted
    missing = [path for name, path in zip(names, paths, strict=True) if not remove_profile(name)]
    console.print(f"{len(paths) - len(missing)} deleted")
    if missing:
        raise EdgeemoError(f"{missing[0]}: there is no such profile; `edgeemo profile list` lists them")


def _save(profile: Profile, replacing: bool) -> None:
    if profile_path(profile.name).exists() and not replacing:
        raise WrongUseError(f"there is a profile '{profile.name}' already; give --replace, or another name")
    save_profile(profile)
    held = f"{len(profile.utterances)} utterances, {len(profile.clips)} clips"
    console.print(f"'{profile.name}' is saved: {held}, bundle {profile.bundle[:12]}")


def _listed(name: str) -> dict[str, Any]:
    try:
        return _row(name, load_profile(name))
    except EdgeemoError as error:
        return {"name": shown(name), "problem": error.message}


def _row(name: str, profile: Profile) -> dict[str, Any]:
    return {
        "name": name,
        "utterances": len(profile.utterances),
        "clips": dict(Counter(profile.clip_labels)),
        "bundle": profile.bundle,
        "updated": profile.updated,
    }


def _print_json(content: object) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
