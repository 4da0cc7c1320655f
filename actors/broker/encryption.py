"""Encryption of notifications on their way through the broker: AES-256-GCM, with a key made by scrypt.

An encrypted body says by itself what it is (docs/encryption.md has the format):

    b"usc" | version: 1 byte | key id: 8 bytes | nonce: 12 bytes | ciphertext | tag: 16 bytes

What stands before the nonce is authenticated with the ciphertext. Nothing of the secret travels: the key id is a hash
of `unique_key` alone, and says which key is needed.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from typing import Final

from ...messages.codec import MAX_BODY
from ...messages.errors import EncryptionError, ErrorKind
from ...messages.notifications import CryptoConfig

CONTENT_TYPE: Final = "application/vnd.understudy.encrypted"

MAGIC: Final = b"usc"
VERSION: Final = 1
PREFIX: Final = MAGIC + bytes([VERSION])
KEY_ID_SIZE: Final = 8
HEADER_SIZE: Final = len(PREFIX) + KEY_ID_SIZE
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
OVERHEAD: Final = HEADER_SIZE + NONCE_SIZE + TAG_SIZE

# OWASP's choice for what is not asked interactively: 32 MiB and some 0.2 s, once for each key in a process.
SCRYPT_N: Final = 2**15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 3
KEYS_KEPT: Final = 64


class Cipher:
    """Encrypts and decrypts with one key. Any thread may.

    Args:
        config: What the key is made of.

    Raises:
        EncryptionError: ``crypter.failed`` when a part of it is empty or no text; ``crypter.unavailable`` when the
            package that encrypts is not installed.
    """

    def __init__(self, config: CryptoConfig) -> None:
        parts = [_encoded(name, getattr(config, name)) for name in ("secret", "passphrase", "unique_key")]
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
        except ImportError as error:
            raise EncryptionError(
                f"encryption was asked for, and its package cannot be imported: {error}; "
                "install it: pip install 'understudy[encryption]'",
                kind=ErrorKind.CRYPTER_UNAVAILABLE,
                cause=error,
            ) from error
        secret, passphrase, unique_key = parts
        salt = hashlib.sha256(b"understudy notification key 1\0" + unique_key).digest()
        # The length before the secret: ("ab", "c") is not to be the key of ("a", "bc").
        password = len(secret).to_bytes(8, "big") + secret + passphrase
        key = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(password)
        self._sealer = AESGCM(key)
        self._invalid: type[Exception] = InvalidTag
        key_id = hashlib.sha256(b"understudy notification key id 1\0" + unique_key).digest()[:KEY_ID_SIZE]
        self._header = PREFIX + key_id

    def encrypt(self, body: bytes) -> bytes:
        """Encrypt a body; never twice to the same bytes."""
        nonce = os.urandom(NONCE_SIZE)
        return self._header + nonce + self._sealer.encrypt(nonce, body, self._header)

    def decrypt(self, body: bytes) -> bytes:
        """Decrypt a body.

        Raises:
            EncryptionError: ``crypter.failed``: it is not encrypted, or with another key, or not whole.
        """
        if not is_encrypted(body):
            raise EncryptionError("the body is not encrypted, and this consumer takes only what is")
        if body[: len(PREFIX)] != PREFIX:
            version = body[len(MAGIC) : len(PREFIX)].hex() or "none"
            raise EncryptionError(f"the body is encrypted in version {version} of the format, not in {VERSION:02x}")
        if not OVERHEAD <= len(body) <= MAX_BODY + OVERHEAD:
            raise EncryptionError(
                f"an encrypted body has from {OVERHEAD} to {MAX_BODY + OVERHEAD} bytes; this one has {len(body)}"
            )
        if body[:HEADER_SIZE] != self._header:
            raise EncryptionError(f"the body needs key {_key_id(body)}; this consumer has key {_key_id(self._header)}")
        nonce, sealed = body[HEADER_SIZE : HEADER_SIZE + NONCE_SIZE], body[HEADER_SIZE + NONCE_SIZE :]
        try:
            return self._sealer.decrypt(nonce, sealed, self._header)
        except self._invalid as error:
            raise EncryptionError(
                f"the body is not whole, or key {_key_id(body)} is made of another secret or passphrase", cause=error
            ) from error


@lru_cache(KEYS_KEPT)
def cipher_of(config: CryptoConfig) -> Cipher:
    """The cipher of a configuration; made once, because that takes a while on purpose.

    Raises:
        EncryptionError: see `Cipher`.
    """
    return Cipher(config)


def is_encrypted(body: bytes) -> bool:
    """Whether a body says that it is encrypted. No JSON does: it would have to begin with the letter u."""
    return body.startswith(MAGIC)


def _encoded(name: str, value: object) -> bytes:
    if not isinstance(value, str) or not value:
        raise EncryptionError(f"{name}: a text that is not empty is needed; nothing was sent in the clear")
    try:
        return value.encode()
    except UnicodeEncodeError:
        # Neither the value nor the encoder's error, which repeats it, is shown.
        raise EncryptionError(f"{name}: is no text that UTF-8 can express; nothing was sent in the clear") from None


def _key_id(body: bytes) -> str:
    return body[len(PREFIX) : HEADER_SIZE].hex()
