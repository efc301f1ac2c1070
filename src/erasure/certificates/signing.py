"""Keys, and the signature around a statement."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erasure.certificates.statement import Statement
from erasure.durable import reported, write_atomically
from erasure.errors import DataError, MissingDependency, StoreError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key

__all__ = ["PAYLOAD_TYPE", "new_key", "public_key", "sign", "signer"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def _library() -> Any:
    try:
        import securesystemslib.signer as library
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: F401 - is it there?
    except ModuleNotFoundError as error:
        raise MissingDependency("securesystemslib", "certify", "signing and verifying certificates") from error
    return library


def new_key(path: Path) -> Path:
    """Make an Ed25519 key pair: the private key at ``path``, readable by its owner alone, the public key beside it (``.pub``).

    Returns:
        The public key's file.

    Raises:
        StoreError: If the file exists: a key is never overwritten.
    """
    _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if file.exists():
            raise StoreError(f"{file} exists already, and a key is never overwritten; choose another name with --key")
    with reported("write", path, option="--key"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(private)
    write_atomically(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), option="--key")
    return public


def signer(path: Path) -> CryptoSigner:
    """The signer of a private key in PEM form, Ed25519, without a password.

    Raises:
        DataError: If the file holds no such key.
        StoreError: If it cannot be read.
    """
    library = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with reported("read", path, option="--key"):
        data = path.read_bytes()
    if b"PUBLIC KEY" in data:
        raise DataError(
            f"{path} is no private key but a public one, which verifies; sign with the private key that belongs to it"
        )
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        if b"ENCRYPTED" in data:
            raise DataError(
                f"{path} is protected by a password, which nobody can type here; give a copy without one, which openssl pkey -in {path} "
                "-out FILE makes"
            ) from error
        raise DataError(
            f"{path} is no private key in PEM form without a password; make one with: erasure keys new {path}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise DataError(f"{path} is not an Ed25519 key; make one with: erasure keys new FILE")
    found: CryptoSigner = library.CryptoSigner(key)
    return found


def public_key(path: Path) -> Key:
    """A public key in PEM form.

    Raises:
        DataError: If the file holds none, or a private one.
        StoreError: If it cannot be read.
    """
    library = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if path.is_dir():
        raise DataError(f"{path} is a folder; name the public key in it, such as signing-key.pub")
    with reported("read", path, option="--key"):
        data = path.read_bytes()
    if b"PRIVATE KEY" in data:
        raise DataError(f"{path} is a private key, which is for signing alone; verify with the public key, {path.name}.pub")
    try:
        key = load_pem_public_key(data)
    except ValueError as error:
        raise DataError(f"{path} is no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise DataError(f"{path} is not an Ed25519 key")
    found: Key = library.SSlibKey.from_crypto(key)
    return found


def sign(statement: Statement, with_key: CryptoSigner) -> bytes:
    """The certificate: a DSSE envelope around the statement, as JSON. It carries the public key that verifies it."""
    _library()
    from securesystemslib.dsse import Envelope

    envelope = Envelope(statement.to_bytes(), PAYLOAD_TYPE, {})
    envelope.sign(with_key)
    key = with_key.public_key
    record = {**envelope.to_dict(), "publicKey": {"keyid": key.keyid, **key.to_dict()}}
    return json.dumps(record, indent=2, sort_keys=True).encode() + b"\n"
