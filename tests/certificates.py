"""A certificate authority of the tests' own, and certificates of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass
class Authority:
    """Signs certificates; its own is in a file for clients to trust."""

    folder: Path
    _authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = self.folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Write a certificate for some hosts, and its key; return both paths."""
        made = self._authority.issue_cert(*(hosts or ("localhost", "127.0.0.1", "::1")))
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        _write(cert, b"".join(blob.bytes() for blob in made.cert_chain_pems), 0o644)
        _write(key, made.private_key_pem.bytes(), 0o600)
        return cert, key


def _write(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_suffix(".partial")
    partial.touch(mode)
    partial.write_bytes(content)
    partial.replace(path)
