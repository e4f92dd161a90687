"""`nas keys`: the API keys in the database (NAS_DATABASE_URL)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.access import Role
from nas.commands.show import BAD_INPUT, WRONG_STATE, fail, faults_told, print_json, say, table

if TYPE_CHECKING:
    from nas.access import ApiKey, Keys

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="print JSON")]
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="of who uses it: the owner of the jobs submitted with it")],
    role: Annotated[Role, typer.Option(help="what it allows")] = Role.SUBMITTER,
    project: Annotated[str, typer.Option(help="whose jobs it sees")] = "default",
    expires: Annotated[str, typer.Option(help="after so long: 12h, 90d, 8w, or never")] = "90d",
    json: Json = False,
) -> None:
    """Make a key, and print it: the only time that it is shown."""
    from nas.access import NameTaken, new_key

    now = time.time()
    with faults_told():
        key, text = new_key(name, role, project, now, _end(expires, now))
        try:
            _keys().add(key)
        except NameTaken as error:
            fail(str(error), BAD_INPUT)
    if json:
        print_json({**key_dict(key, now), "key": text})
        return
    typer.echo(text)
    say(f"{role} of project {project}, {_until(key)}; keep it now: it is not shown again")


@app.command("list")
def list_keys(json: Json = False) -> None:
    """List all keys, without their secrets."""
    now = time.time()
    with faults_told():
        found = [key_dict(key, now) for key in _keys().all()]
    if json:
        print_json({"keys": found})
        return
    columns = ["id", "name", "project", "role", "state", "created_at", "expires_at"]
    table(columns, [["" if row[c] is None else row[c] for c in columns] for row in found])


@app.command()
def revoke(which: Annotated[str, typer.Argument(metavar="NAME|ID", help="of the key")]) -> None:
    """End a key: within five seconds no server takes it any more."""
    with faults_told():
        try:
            key = _keys().revoke(which, time.time())
        except KeyError:
            fail(f"there is no API key {which}", WRONG_STATE)
    say(f"the API key {key.name} ({key.id}) is revoked")


def key_dict(key: ApiKey, at: float) -> dict[str, Any]:
    """A key as a JSON value, without its digest."""
    from nas.wire import time as written

    state = "REVOKED" if key.revoked_at is not None else "VALID" if key.valid(at) else "EXPIRED"
    return {
        "id": key.id,
        "name": key.name,
        "project": key.project,
        "role": key.role.value,
        "state": state,
        "created_at": written(key.created_at),
        "expires_at": written(key.expires_at),
        "revoked_at": written(key.revoked_at),
    }


def _keys() -> Keys:
    from nas.settings import open_configured_store

    return open_configured_store().keys


def _end(expires: str, now: float) -> float | None:
    """When a key ends. Raises `SpecError`."""
    from search_spaces import SpecError

    if expires == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", expires)
    if not found:
        raise SpecError.at(
            "--expires", f"{expires!r} is not allowed; allowed: hours, days or weeks (12h, 90d, 8w), or never"
        )
    return now + int(found[1]) * _SECONDS[found[2]]


def _until(key: ApiKey) -> str:
    from nas.wire import time as written

    return "for ever" if key.expires_at is None else f"until {written(key.expires_at)}"
