"""What ``doctor --security`` finds open."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evstream.cli import security_checks
from evstream.cli.doctor import Finding
from evstream.cli.security_checks import look
from evstream.settings import Settings
from evstream.wire.access_messages import AccessKeyView
from tests.certificates import Authority

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    found: list[tuple[int, list[str]]] = [(1, ["init"]), (2, ["grep", "--token"])]
    monkeypatch.setattr(security_checks, "commands", lambda: iter(found))
    return found


def wrong(findings: list[Finding]) -> list[str]:
    return sorted(finding.name for finding in findings if not finding.ok)


def test_a_service_of_ones_own_has_nothing_open(tmp_path: Path) -> None:
    settings = replace(Settings(), data_dir=str(tmp_path))
    assert wrong(look(settings, [], {})) == []


def test_what_is_open_is_told(tmp_path: Path, processes: list[tuple[int, list[str]]]) -> None:
    processes.append((3, ["/usr/bin/python", "/usr/bin/evstream", "pilot", "--token", "x"]))
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    cert, _ = Authority(tmp_path / "ca").issue("head")
    settings = replace(
        Settings(),
        data_dir=str(tmp_path),
        listen="0.0.0.0:8400",
        url="http://head.example.org",
        token_issuers="http://issuer",
        token_roles="scope:compute.create=operator",
        source_networks="any",
    )
    made = NOW - timedelta(days=30)
    keys = [
        AccessKeyView("a", "pilot", "never used", made),
        AccessKeyView("b", "pilot", "soon over", made, expires=NOW + timedelta(days=1)),
        AccessKeyView("c", "operator", "revoked", made, revoked=made),
    ]
    found = look(settings, keys, {"BEARER_TOKEN": "x"})
    assert wrong(found) == sorted(
        [
            "command line",
            "listener",
            "address",
            "file",
            "environment",
            "issuer",
            "audience",
            "role",
            "sources",
        ]
        + ["key"] * 4
    )
    assert all(finding.remedy for finding in found if not finding.ok)
    safe = replace(settings, tls_cert_file=str(cert))
    assert "listener" not in wrong(look(safe, None, {}))


def test_settings_of_a_service_elsewhere_are_not_claimed_to_be_known(tmp_path: Path) -> None:
    settings = replace(Settings(), data_dir=str(tmp_path), url="https://head.example.org")
    first = look(settings, [], {})[0]
    assert first.name == "settings"
    assert "https://head.example.org, keys alone" in first.finding
