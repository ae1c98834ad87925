"""``evstream doctor --security``: what is open, to whom, and until when."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from evstream.cli.doctor import Finding
from evstream.client.bearer import is_private
from evstream.domain.errors import ConfigError
from evstream.domain.token_claims import TokenRoles
from evstream.settings import Settings
from evstream.wire.access_messages import AccessKeyView

SOON = timedelta(days=14)
_TOKENS = ("EVSTREAM_TOKEN", "BEARER_TOKEN")


def look(
    settings: Settings,
    keys: list[AccessKeyView] | None,
    environment: Mapping[str, str] = os.environ,
) -> list[Finding]:
    """Return what there is to say, good and bad.

    Parameters
    ----------
    keys : list of AccessKeyView or None
        API keys; None if the service could not be asked.
    """
    now = datetime.now(UTC)
    return [
        *_whose(settings),
        *_listener(settings, now),
        *_address(settings),
        *_files(settings),
        *_shown(environment),
        *_issuers(settings),
        *_sources(settings),
        *_keys(keys, now),
    ]


def commands() -> Iterator[tuple[int, list[str]]]:
    """Yield the processes of this machine that we may see, with their command lines."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        yield process.info["pid"], process.info["cmdline"] or []


def _whose(settings: Settings) -> Iterator[Finding]:
    """Say of whom the rest is: a service elsewhere has settings that nobody sees from here."""
    if settings.url:
        told = (
            "listener, issuers and sources are looked at as set here; of the service at"
            f" {settings.url}, keys alone: look there too"
        )
        yield Finding("settings", True, True, told)


def _listener(settings: Settings, now: datetime) -> Iterator[Finding]:
    if not settings.listen:
        yield Finding("listener", True, True, "a Unix socket, or loopback with --port")
        return
    from evstream.assembly.origins import is_for_this_machine

    here, tls = is_for_this_machine(settings.listen), bool(settings.tls_cert_file)
    what = f"{settings.listen}, {'TLS' if tls else 'no TLS'}"
    remedy = "" if here or tls else "set tls_cert_file and tls_key_file"
    yield Finding("listener", here or tls, True, what, remedy)
    if tls:
        yield _certificate(Path(settings.tls_cert_file), now)


def _certificate(path: Path, now: datetime) -> Finding:
    from cryptography import x509

    try:
        ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        return Finding("certificate", False, True, f"{path}: {error}", "give a PEM file")
    ok = ends - now > SOON
    told = f"{path} is good until {ends:%Y-%m-%d}"
    return Finding("certificate", ok, ends < now, told, "" if ok else "renew it")


def _address(settings: Settings) -> Iterator[Finding]:
    if settings.url:
        ok = is_private(settings.url)
        remedy = "" if ok else "use https, or a tunnel: tokens cross the network in the clear"
        yield Finding("address", ok, True, settings.url, remedy)


def _files(settings: Settings) -> Iterator[Finding]:
    data = Path(settings.data_dir)
    keys = sorted((data / "keys").glob("*")) if (data / "keys").is_dir() else []
    named = (settings.tls_key_file, settings.token_file, settings.origin_cert_file)
    tokens = [word.partition("=")[2] for word in settings.origin_tokens.split()]
    secrets = [data / "token", data / "address.json", data / "ledger.sqlite", *keys]
    for path in [*secrets, *(Path(name) for name in (*named, *tokens) if name)]:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        ok = not mode & 0o077
        remedy = "" if ok else f"chmod 600 {path}"
        yield Finding("file", ok, True, f"{path} has mode {mode:04o}", remedy)


def _shown(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in _TOKENS:
        if environment.get(name):
            remedy = "name a file instead: EVSTREAM_TOKEN_FILE, BEARER_TOKEN_FILE"
            yield Finding("environment", False, False, f"{name} holds a token", remedy)
    told = []
    for pid, words in commands():
        ours = any(Path(word).name == "evstream" for word in words[:3])
        if ours and any(word.startswith("--token") for word in words):
            told.append(str(pid))
    if told:
        remedy = "other users can read it: use EVSTREAM_TOKEN_FILE, and another token"
        what = f"processes {', '.join(told)} have a token on their command line"
        yield Finding("command line", False, True, what, remedy)


def _issuers(settings: Settings) -> Iterator[Finding]:
    issuers = settings.token_issuers.split()
    if not issuers:
        yield Finding("issuers", True, False, "none: only keys and the service's token open it")
        return
    try:
        rules = TokenRoles.parse(settings.token_roles).rules
    except ConfigError as error:
        yield Finding("issuers", False, True, error.message, error.hint)
        return
    for issuer in issuers:
        ok = issuer.startswith("https://")
        yield Finding("issuer", ok, True, issuer, "" if ok else "give its https URL")
    ok = bool(settings.token_audience)
    audience = settings.token_audience or "none is set"
    yield Finding("audience", ok, True, audience, "" if ok else "set token_audience")
    for kind, what, role in rules:
        wide = role == "operator" and kind == "scope"
        remedy = "give it to a group or a subject, not to whoever gets the scope" if wide else ""
        yield Finding("role", not wide, False, f"{kind} {what} is {role}", remedy)


def _sources(settings: Settings) -> Iterator[Finding]:
    for name in ("source_roots", "source_networks"):
        value = getattr(settings, name)
        wide = value == "any" or "0.0.0.0/0" in value.split() or value == "/"
        told = f"{name}: {value or 'not set: none, but all for a service of your own'}"
        remedy = "name what is meant to be read" if wide else ""
        yield Finding("sources", not wide, False, told, remedy)


def _keys(keys: list[AccessKeyView] | None, now: datetime) -> Iterator[Finding]:
    if keys is None:
        yield Finding("keys", False, False, "the service does not tell", "ask as an operator")
        return
    good = [k for k in keys if k.revoked is None and (k.expires is None or k.expires > now)]
    yield Finding("keys", True, False, f"{len(good)} of {len(keys)} open something")
    for key in good:
        named = f"{key.id} of {key.name} ({key.role})"
        if key.expires is None:
            told, remedy = f"{named} never expires", "make one with --life, and revoke this"
            yield Finding("key", False, False, told, remedy)
        elif key.expires - now < SOON:
            told = f"{named} expires on {key.expires:%Y-%m-%d}"
            yield Finding("key", False, False, told, "make another")
        if key.last_used is None and now - key.created > SOON:
            yield Finding("key", False, False, f"{named} was never used", "revoke it")
