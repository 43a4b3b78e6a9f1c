"""Signs as a cloud does, by a JOSE library that is not ours, and every way to get it wrong."""

import base64
import json

from joserfc import jws
from joserfc.jwk import OKPKey

# The key pair of RFC 8037, appendix A.1: published, so only good for tests.
PRIVATE = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
PUBLIC = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
KEY_ID = "vpp-2024"


def raw(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")


KEYS = {KEY_ID: raw(PUBLIC)}


class Signer:
    """A key of the cloud; without arguments the one of RFC 8037."""

    def __init__(self, key_id=KEY_ID, *, fresh=False):
        published = {"kty": "OKP", "crv": "Ed25519", "d": PRIVATE, "x": PUBLIC}
        self.key = OKPKey.generate_key("Ed25519") if fresh else OKPKey.import_key(published)
        self.key_id = key_id

    @property
    def public(self):
        return raw(self.key.as_dict(private=False)["x"])

    def signed(self, content, *, alg="Ed25519", **more):
        header = {"alg": alg, "kid": self.key_id, **more}
        header = {k: v for k, v in header.items() if v is not None}
        return jws.serialize_compact(header, content, self.key, algorithms=[alg]).encode()

    def with_header(self, header, content):
        """Any header over a signature that holds for it, also one that no library writes."""
        text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
        signing_input = b64(text) + b"." + b64(content)
        return signing_input + b"." + b64(self.key.private_key.sign(signing_input))
