"""TCP doors: where a service may listen, and the certificate that it shows there."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from evstream.assembly.listening import tcp_door
from evstream.assembly.tls import ServerTls
from evstream.client.tls import client_context
from evstream.domain.errors import ConfigError
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.mark.parametrize("place", ["0.0.0.0:0", "[::]:0"])
def test_nothing_listens_beyond_this_machine_without_tls(place: str) -> None:
    with pytest.raises(ConfigError, match="without TLS"):
        tcp_door(0, place)


@pytest.mark.parametrize(
    "place", ["8443", ":8443", "localhost", "localhost:x", "::1:8443", "[::1]8443"]
)
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="listen at"):
        tcp_door(0, place)


@pytest.mark.parametrize("place", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_the_loopback_interface_needs_none(place: str) -> None:
    door, url = tcp_door(0, place)
    with door:
        assert url == f"http://{place.rpartition(':')[0]}:{door.getsockname()[1]}"


def test_answers_are_not_held_back_for_a_round_trip() -> None:
    async def accepted_without_delay() -> bool:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        door, _ = tcp_door(0)
        async with await asyncio.start_server(look, sock=door):
            _, writer = await asyncio.open_connection(*door.getsockname())
            without_delay = bool(await found)
            writer.close()
            await writer.wait_closed()
        return without_delay

    assert asyncio.run(accepted_without_delay())


def test_the_url_is_one_that_the_certificate_is_for(authority: Authority) -> None:
    cert, key = authority.issue("head", "head.example.org", "10.0.0.1")
    door, url = tcp_door(0, "127.0.0.1:0", str(cert), str(key))
    with door:
        assert url == f"https://head.example.org:{door.getsockname()[1]}"


def _shown(server: ServerTls, authority: Authority) -> object:
    """Return the serial number of the certificate that a client is shown."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    answering = server.context.wrap_bio(outgoing, incoming, server_side=True)
    asking = client_context(str(authority.ca_file)).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    done: set[int] = set()
    for _ in range(6):
        for number, side in enumerate((asking, answering)):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(number)
    assert done == {0, 1}
    certificate = asking.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def test_a_renewed_certificate_is_shown_to_whoever_comes_next(authority: Authority) -> None:
    server = ServerTls(*authority.issue("server"))
    first = _shown(server, authority)
    assert not server.reload()
    authority.issue("server")
    assert server.reload()
    assert _shown(server, authority) != first


def test_a_certificate_without_its_key_is_not_taken(authority: Authority) -> None:
    cert, key = authority.issue("server")
    server = ServerTls(cert, key)
    first = _shown(server, authority)
    other = authority.issue("other")[1]
    other.replace(key)
    assert not server.reload()
    assert _shown(server, authority) == first
    cert.unlink()
    assert not server.reload()
    assert _shown(server, authority) == first
    with pytest.raises(ConfigError, match="cannot be used"):
        ServerTls(cert, key)


def test_authorities_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_file"):
        client_context(str(tmp_path / "none.pem"))
