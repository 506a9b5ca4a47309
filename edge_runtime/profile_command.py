"""`edgeemo profile`: what was learnt of speakers' voices, and how to get rid of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from edge_runtime.console import console
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
_REPLACE = click.option("--replace", "replacing", is_flag=True, help="Even if there is one already.")


@click.group("profile")
def profile_command() -> None:
    """List, show, move and remove what `edgeemo listen --profile NAME` learnt of speakers' voices.

    A profile is one small file of numbers that describe a voice to one bundle. It holds no audio and nothing of what
    was said, and only its owner can read it. All of them are in $XDG_DATA_HOME/edgeemo/profiles (else
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
    """List the profiles; one that cannot be used is listed with what is wrong with it.

    \b
    Examples:
      edgeemo profile list
      edgeemo profile list --json
    """
    found = list(_all())
    if as_json:
        click.echo(json.dumps([_row(name, held) for name, held in found], indent=2, ensure_ascii=False))
        return
    if not found:
        console.print(f"no profiles in {profiles_directory()}; begin one with: edgeemo listen BUNDLE --profile NAME")
        return
    table = Table(
        Column("name", overflow="fold"), "utterances", "variety", "weight", "bundle", Column("updated", no_wrap=True)
    )
    for name, held in found:
        if isinstance(held, Profile):
            numbers = (f"{held.count:g}", f"{held.variety:.2f}", f"{held.weight:.2f}")
            table.add_row(name, *numbers, held.bundle[:12], held.updated)
        else:
            # Text, not markup: anything may be the name of a file.
            table.add_row(Text(shown(name)), "-", "-", "-", "-", "cannot be used")
    console.print(table, soft_wrap=False)
    for _, held in found:
        if isinstance(held, EdgeemoError):
            console.print(held.message)


@profile_command.command("show", short_help="Show what a profile holds.")
@click.argument("name")
@_JSON
def show_command(name: str, as_json: bool) -> None:
    """Show what a profile holds.

    \b
    Example:
      edgeemo profile show anna
    """
    profile = load_profile(name)
    content = _row(name, profile) | {
        "created": profile.created,
        "emotion_shares": {
            label: round(float(share), 4) for label, share in zip(profile.labels, profile.emotion_shares, strict=True)
        },
        "statistics_size": len(profile.mean),
        "file": str(profile_path(name)),
    }
    if as_json:
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for key, value in content.items():
        text = ", ".join(f"{label} {share:.2f}" for label, share in value.items()) if key == "emotion_shares" else value
        console.print(f"{key.replace('_', ' '):<16} {text}")


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
        raise WrongUseError(f"{file}: is there already; give --replace to write over it")
    write_profile(profile, file)
    console.print(f"'{name}' is copied to {file}; whoever has it knows numbers that describe a voice")


@profile_command.command("import", short_help="Keep a profile that was exported.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it.  [default: as it says]")
@_REPLACE
def import_command(file: Path, name: str | None, replacing: bool) -> None:
    """Keep a profile that was exported; it is checked against the bundle when it is first used.

    \b
    Example:
      edgeemo profile import anna.json --name anna-at-work
    """
    profile = read_profile(file)
    _keep(replace(profile, name=name or profile.name), replacing)


@profile_command.command("merge", short_help="Make one profile of two of the same person.")
@click.argument("first")
@click.argument("second")
@click.option("--into", required=True, metavar="NAME", help="What to call the result; one of the two, or a new one.")
@_REPLACE
def merge_command(first: str, second: str, into: str, replacing: bool) -> None:
    """Make one profile of two of the same person, learnt with the same bundle, as on two devices.

    Each weighs as much as the utterances that it stands for. The two stay, but for the one that the result replaces.

    \b
    Example:
      edgeemo profile merge anna anna-at-work --into anna
    """
    if first == second:
        raise WrongUseError(f"'{shown(first)}' is one profile; name two")
    _keep(load_profile(first).merged(load_profile(second), into), replacing or into in (first, second))


@profile_command.command("reset", short_help="Forget what was learnt, and keep the name.")
@click.argument("name")
def reset_command(name: str) -> None:
    """Forget what was learnt, and keep the name for its bundle.

    \b
    Example:
      edgeemo profile reset anna
    """
    save_profile(load_profile(name).cleared())
    console.print(f"what was learnt of '{name}' is forgotten")


@profile_command.command("rm", short_help="Delete profiles.")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every profile.")
def rm_command(names: tuple[str, ...], everything: bool) -> None:
    """Delete profiles, whatever is in them; a listener that runs with one forgets it before it would save it.

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
    paths = [profile_path(name) for name in names]
    missing = [name for name in names if not remove_profile(name)]
    console.print(f"{len(paths) - len(missing)} deleted")
    if missing:
        raise EdgeemoError(f"{paths[names.index(missing[0])]}: there is no such profile")


def _keep(profile: Profile, replacing: bool) -> None:
    path = profile_path(profile.name)
    if path.exists() and not replacing:
        raise WrongUseError(f"there is a profile '{profile.name}' already; give --replace, or another name")
    save_profile(profile)
    console.print(f"'{profile.name}' is kept: {profile.count:g} utterances, bundle {profile.bundle[:12]}")


def _all() -> Iterator[tuple[str, Profile | EdgeemoError]]:
    for name in profile_names():
        yield name, _loaded(name)


def _loaded(name: str) -> Profile | EdgeemoError:
    try:
        return load_profile(name)
    except EdgeemoError as error:
        return error


def _row(name: str, held: Profile | EdgeemoError) -> dict[str, Any]:
    if isinstance(held, EdgeemoError):
        return {"name": shown(name), "problem": held.message}
    return {
        "name": name,
        "utterances": held.count,
        "variety": round(held.variety, 4),
        "weight": round(held.weight, 4),
        "trust": held.trust,
        "bundle": held.bundle,
        "updated": held.updated,
    }
