"""Pilots as jobs of any batch system that has commands to submit, list and cancel.

A template says which, in TOML. Those of some batch systems come along, in `templates/`.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from evstream.adapters.engines.batch_commands import run_command
from evstream.adapters.engines.folder import PilotFolder
from evstream.domain.errors import ConfigError, TransientError
from evstream.domain.names import WorkerId
from evstream.ports import PilotOrder, PilotStage, PilotState

KNOWN = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"\{([a-z][a-z_0-9]*)\}")


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a batch system is spoken to. `{…}` are placeholders.

    Attributes
    ----------
    submit, status, cancel : list of str
        Commands, without a shell. `status` lists all jobs of ours at once.
    job : str
        Regular expression; its group, in what `submit` prints, is the job's id.
    line : str
        Regular expression for a line of `status`, with the groups ``job`` and ``state``.
    pending, running : list of str
        States. A job in any other, or that is not listed, has ended.
    broken : list of str
        States of jobs that will never run, or no more, unless somebody helps: they are cancelled.
    file : str
        Name of a further file beside the template, such as a submit description; it is
        filled in for each pilot, and `{file}` names it.
    values : dict of str to str
        What further placeholders stand for unless an option says otherwise.
    """

    submit: list[str]
    job: str
    status: list[str]
    line: str
    pending: list[str]
    running: list[str]
    cancel: list[str]
    broken: list[str] = []
    file: str = ""
    values: dict[str, str] = {}
    look_every_s: float = 10.0


def read_template(named: str) -> tuple[Template, str]:
    """Return a template, one of ours or a file, and the text of the file beside it.

    Raises
    ------
    ConfigError
        It cannot be read, or is none.
    """
    path = KNOWN / f"{named}.toml"
    path = path if path.is_file() else Path(named)
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Template)
        beside = (path.parent / found.file).read_text(encoding="utf-8") if found.file else ""
        _check(found)
    except (OSError, UnicodeDecodeError, ValueError, re.error) as error:
        ours = ", ".join(sorted(one.stem for one in KNOWN.glob("*.toml")))
        raise ConfigError(
            f"the template {named} cannot be used: {error}",
            hint=f"mend it, or name one of ours: {ours}",
        ) from error
    return found, beside


def _check(template: Template) -> None:
    """Refuse what would fail with the first pilot only."""
    for name in ("submit", "status", "cancel"):
        if not getattr(template, name):
            raise ValueError(f"'{name}' names no command")
    if not re.compile(template.job).groups:
        raise ValueError("'job' has no group for the job's id")
    missing = {"job", "state"} - re.compile(template.line).groupindex.keys()
    if missing:
        raise ValueError(f"'line' has no group {' and no group '.join(sorted(missing))}")


class TemplateEngine:
    """Hands pilots to a batch system as a template says.

    Parameters
    ----------
    folder : Path
        For scripts, logs and exit statuses; nodes see it under the same name.
    options : sequence of str
        ``NAME=VALUE`` for the template's own placeholders.
    """

    def __init__(
        self, folder: Path, group: str, template: str, options: Sequence[str] = ()
    ) -> None:
        self._folder = PilotFolder(folder, group)
        self._group = group
        self._template, self._beside = read_template(template)
        self.look_every_s = self._template.look_every_s
        self._values = {**self._template.values}
        for option in options:
            name, equals, value = option.partition("=")
            if not equals or name not in self._template.values:
                raise ConfigError(
                    f"the template {template} has no option {option!r}",
                    hint=f"give NAME=VALUE, a name of {', '.join(self._template.values) or 'none'}",
                )
            self._values[name] = value
        self._fill_all()

    def _fill_all(self) -> None:
        """Fill in everything once, so that what is misspelt is told before there is work."""
        of_start = self._filled("pilot", cores="1", script="script")
        fill(self._beside, of_start)
        for word in self._template.submit:
            fill(word, {**of_start, "file": "file"} if self._template.file else of_start)
        for word in self._template.status:
            fill(word, self._filled())
        for word in self._template.cancel:
            fill(word, self._filled("pilot", job="1"))

    async def open(self) -> None:
        self._folder.make()

    async def start(self, order: PilotOrder) -> None:
        script = self._folder.write_script(order)
        values = self._filled(order.name, cores=str(order.cores), script=str(script))
        if self._template.file:
            beside = self._folder.path(order.name, ".job")
            beside.write_text(fill(self._beside, values), encoding="utf-8")
            values["file"] = str(beside)
        handing_in = asyncio.ensure_future(self._hand_in(order.name, values))
        try:
            await asyncio.shield(handing_in)
        except asyncio.CancelledError:
            # The job may be there by now, and nothing but its id says which one is ours.
            await asyncio.gather(handing_in, return_exceptions=True)
            raise

    async def _hand_in(self, name: WorkerId, values: dict[str, str]) -> None:
        with self._folder.telling(name):
            said = await run_command(*(fill(word, values) for word in self._template.submit))
            found = re.search(self._template.job, said, re.MULTILINE)
            if found is None:
                raise TransientError(
                    f"{self._template.submit[0]} said no job's id: {said[-200:]}",
                    hint="mend 'job' in the template",
                )
        self._folder.path(name, ".id").write_text(found[1], encoding="utf-8")

    def _filled(self, name: str = "", **more: str) -> dict[str, str]:
        log = str(self._folder.log(WorkerId(name)))
        folder = str(self._folder.folder)
        common = {"name": name, "group": self._group, "folder": folder, "log": log}
        return {**self._values, **common, **more}

    def _job(self, name: WorkerId) -> str:
        """Return a job's id; empty for one that was never handed in, as far as we know."""
        try:
            return self._folder.path(name, ".id").read_text(encoding="utf-8")
        except OSError:
            return ""

    async def look(self) -> Mapping[WorkerId, PilotState]:
        names = self._folder.names()
        if not names:
            return {}
        values = self._filled()
        listed = await run_command(*(fill(word, values) for word in self._template.status))
        lines = re.finditer(self._template.line, listed, re.MULTILINE)
        states = {found["job"]: found["state"] for found in lines}
        return {name: await self._state(name, states.get(self._job(name), "")) for name in names}

    async def _state(self, name: WorkerId, state: str) -> PilotState:
        if state in self._template.pending:
            return PilotState(PilotStage.PENDING)
        if state in self._template.running:
            return PilotState(PilotStage.RUNNING)
        if state in self._template.broken:
            await self.end(name)
        return self._folder.ending(name, f"state {state}" if state else "unknown")

    async def end(self, name: WorkerId, *, at_once: bool = False) -> None:
        if job := self._job(name):
            values = self._filled(name, job=job)
            await run_command(*(fill(word, values) for word in self._template.cancel))

    async def forget(self, name: WorkerId) -> None:
        self._folder.remove(name)

    async def close(self) -> None:
        pass


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values in place of placeholders.

    Raises
    ------
    ConfigError
        One is not known.
    """

    def value(found: re.Match[str]) -> str:
        try:
            return values[found[1]]
        except KeyError:
            raise ConfigError(
                f"{found[0]} in the template is no placeholder",
                hint=f"one of {', '.join(sorted(values))}, or give it a value under [values]",
            ) from None

    return _PLACEHOLDER.sub(value, text)
