"""Where a service reads files that others name."""

from __future__ import annotations

import pytest

from evstream.domain.errors import AccessError, ConfigError
from evstream.domain.source_rules import SourceRules

STRICT = SourceRules.parse("", "", own=False)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1%eth0"),
        *("10.0.0.1", "172.16.5.5", "192.168.1.1", "100.64.0.1", "fd00::1", "224.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1"),
        *("255.255.255.255", "240.0.0.1", "ff02::1", "192.0.2.1", "fd00:ec2::254"),
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not STRICT.allows(address)
    assert SourceRules.parse("", "", own=True).allows(address)
    assert SourceRules.parse("", "any", own=False).allows(address)


def test_public_ones_and_those_that_are_named_are_not() -> None:
    assert STRICT.allows("188.184.100.1")
    assert STRICT.allows("2001:1458:d00::1")
    rules = SourceRules.parse("", "10.1.0.0/16 fd01::/16", own=True)
    assert rules.allows("10.1.2.3")
    assert rules.allows("::ffff:10.1.2.3")
    assert rules.allows("fd01::5")
    assert not rules.allows("10.2.0.1")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://h/a", "file:///etc/passwd", "memory://a", "local:///etc/passwd", "github://a/b"),
        *("zip://a::file:///etc/passwd", "simplecache::http://h/a", "http:///a", "gs://b/a"),
        *("http://h/a::file:///etc/passwd", "http://[::1/a"),
    ],
)
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(AccessError):
        STRICT.check_url(url)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://se.example.org/a?b=c", "se.example.org"),
        ("root://u@se.example.org:1094//a", "se.example.org"),
        ("http://[2001:1458::1]:80/a", "2001:1458::1"),
        ("http://u:p@127.0.0.1@evil.example.org/", "evil.example.org"),
        ("s3://bucket/a", ""),
    ],
)
def test_the_host_is_the_one_that_is_asked(url: str, host: str) -> None:
    assert STRICT.check_url(url) == host


def test_files_are_below_their_roots() -> None:
    rules = SourceRules.parse("/data:/mnt/events", "", own=False)
    for path in ("/data/a.root", "/mnt/events/x/y"):
        rules.check_path(path)
    for path in ("/etc/passwd", "/database", "/mnt", "/"):
        with pytest.raises(AccessError):
            rules.check_path(path)
        with pytest.raises(AccessError):
            STRICT.check_path(path)


@pytest.mark.parametrize(("roots", "networks"), [("data", ""), ("", "10.0.0.1/8"), ("", "lyon")])
def test_settings_that_cannot_be(roots: str, networks: str) -> None:
    with pytest.raises(ConfigError):
        SourceRules.parse(roots, networks, own=False)
