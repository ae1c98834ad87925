"""Signatures of receipts: Ed25519 over the canonical JSON."""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from evstream.domain.errors import RequestError, VerificationError
from evstream.domain.receipt import canonical_receipt

ALGORITHM = "Ed25519"


class ReceiptSigner:
    """Signs receipts with a service's private key.

    Parameters
    ----------
    private_key : bytes
        32 raw bytes.
    """

    def __init__(self, private_key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._key.public_key().public_bytes_raw().hex()

    def sign(self, receipt: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt with its signature."""
        value = self._key.sign(canonical_receipt(receipt)).hex()
        signature = {
            "algorithm": ALGORITHM,
            "public_key": self.public_key,
            "value": value,
        }
        return {**receipt, "signature": signature}


def check_key(public_key: str) -> str:
    """Return a public key that somebody typed, as it stands in receipts.

    Raises
    ------
    RequestError
        It is none.
    """
    key = public_key.strip().lower()
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except ValueError:
        raise RequestError(
            f"{public_key!r} is no public key",
            hint="give 64 hexadecimal digits, as 'evstream doctor' tells them",
        ) from None
    return key


def check_signature(receipt: dict[str, Any], trusted_key: str = "") -> str:
    """Verify a receipt's signature; return the public key that made it, as hex.

    Without a trusted key this shows that nothing was changed since it was signed, not
    who signed it.

    Raises
    ------
    VerificationError
        There is none, it does not fit, or it is not by the trusted key.
    """
    try:
        signature = receipt["signature"]
        public_key, value = signature["public_key"], bytes.fromhex(signature["value"])
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(value, canonical_receipt(receipt))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationError(f"the receipt is not signed: {error!r}") from error
    except InvalidSignature:
        raise VerificationError("the receipt was changed after it was signed") from None
    if trusted_key and public_key.lower() != trusted_key.lower():
        raise VerificationError(
            f"the receipt is signed by {public_key}, not by the key that you trust",
            hint="'evstream doctor' tells the key of a running service",
        )
    return str(public_key)
