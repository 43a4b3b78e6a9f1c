"""What is believed of what a broker hands over: the cloud's word, byte for byte, or nothing."""

import gzip
from pathlib import Path

import pytest
from cloud_documents import document
from hypothesis import given
from hypothesis import strategies as st
from own_signer import KEY_ID, KEYS, PRIVATE, PUBLIC, Signer, b64, raw

from agent.cloud.signatures import MAX_SIGNED_BYTES, Arrived, KeyRing
from agent.core.admission import Refused

CONTENT = document()
CLOUD = Signer()
RING = KeyRing(KEYS)


def reason(payload, ring=RING):
    opened = ring.opened(payload)
    assert isinstance(opened, Refused), opened
    return opened.reason


class TestGoodSignatures:
    def test_what_was_signed_comes_out_byte_for_byte(self):
        for content in (CONTENT, gzip.compress(CONTENT), b"\x00\xff", b""):
            assert RING.opened(CLOUD.signed(content)) == content

    def test_the_older_name_of_the_algorithm_is_taken_too(self):
        assert RING.opened(CLOUD.with_header({"alg": "EdDSA", "kid": KEY_ID}, CONTENT)) == CONTENT

    def test_the_vector_of_rfc_8037_holds(self):
        """Appendix A.4 signs with the key of appendix A.1, without a key id: the header is what differs here."""
        vector = (
            b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
            b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        )
        assert reason(vector) == "unknown_key"
        header, content, signature = vector.split(b".")
        assert CLOUD.key.private_key.sign(header + b"." + content) == raw(signature.decode())

    def test_two_keys_are_active_while_one_replaces_the_other(self):
        new = Signer("vpp-2025", fresh=True)
        both = KeyRing(KEYS | {"vpp-2025": new.public})
        assert both.opened(CLOUD.signed(CONTENT)) == both.opened(new.signed(CONTENT)) == CONTENT
        only_new = KeyRing({"vpp-2025": new.public})
        assert reason(CLOUD.signed(CONTENT), only_new) == "unknown_key"

    def test_unknown_fields_of_the_header_are_no_matter(self):
        assert RING.opened(CLOUD.with_header({"alg": "Ed25519", "kid": KEY_ID, "typ": "x"}, CONTENT)) == CONTENT

    def test_without_keys_in_the_site_file_nothing_need_be_signed(self):
        assert KeyRing({}).opened(CONTENT) == CONTENT
        assert not KeyRing({}).required
        assert RING.required


class TestRefusals:
    @pytest.mark.parametrize(
        "payload", [CONTENT, gzip.compress(CONTENT), b"", b"..", b"e", b"ey.", b"{}..", b"e.y.z.x"]
    )
    def test_unsigned(self, payload):
        assert reason(payload) == "unsigned"

    def test_another_key_under_our_key_id(self):
        assert reason(Signer(fresh=True).signed(CONTENT)) == "bad_signature"

    def test_our_key_under_another_id_or_none(self):
        assert reason(Signer("vpp-2023").signed(CONTENT)) == "unknown_key"
        assert reason(Signer(None).signed(CONTENT)) == "unknown_key"
        assert reason(CLOUD.with_header({"alg": "Ed25519", "kid": 7}, CONTENT)) == "unknown_key"
        assert reason(CLOUD.with_header({"alg": "Ed25519", "kid": [KEY_ID]}, CONTENT)) == "unknown_key"

    def test_the_key_of_another_id_does_not_stand_in(self):
        new = Signer("vpp-2025", fresh=True)
        both = KeyRing(KEYS | {"vpp-2025": new.public})
        new.key_id = KEY_ID
        assert reason(new.signed(CONTENT), both) == "bad_signature"

    @pytest.mark.parametrize("alg", ["none", "HS256", "ES256", "RS256", "Ed448", "", None, 7, ["Ed25519"], "ed25519"])
    def test_any_other_algorithm_even_over_a_signature_that_holds(self, alg):
        assert reason(CLOUD.with_header({"alg": alg, "kid": KEY_ID}, CONTENT)) == "bad_signature"

    def test_the_public_key_taken_for_a_shared_secret(self):
        import hashlib
        import hmac

        head = b64(b'{"alg":"HS256","kid":"' + KEY_ID.encode() + b'"}') + b"." + b64(CONTENT)
        forged = head + b"." + b64(hmac.new(raw(PUBLIC), head, hashlib.sha256).digest())
        assert reason(forged) == "bad_signature"

    @pytest.mark.parametrize("more", [{"crit": ["exp"], "exp": 1}, {"b64": False, "crit": ["b64"]}, {"b64": True}])
    def test_extensions_that_change_the_meaning(self, more):
        assert reason(CLOUD.with_header({"alg": "Ed25519", "kid": KEY_ID, **more}, CONTENT)) == "bad_signature"

    @pytest.mark.parametrize(
        "header", [b"", b"[]", b"{", b"\xff", b"[" * 300, b'{"alg":' * 40, b'"Ed25519"', b"7" * 300]
    )
    def test_a_header_that_is_none(self, header):
        assert reason(b"e" + CLOUD.with_header(header, CONTENT)) in {"bad_signature", "unsigned"}
        if header.startswith(b"{"):
            assert reason(CLOUD.with_header(header, CONTENT)) == "bad_signature"

    def test_a_header_that_is_long(self):
        long = {"alg": "Ed25519", "kid": KEY_ID, "x": "y" * 400}
        assert reason(CLOUD.with_header(long, CONTENT)) == "bad_signature"

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_any_part_of_another_message(self, part):
        one, other = CLOUD.signed(CONTENT).split(b"."), CLOUD.signed(document(version=18), typ="x").split(b".")
        one[part] = other[part]
        assert reason(b".".join(one)) == "bad_signature"

    def test_padding_line_breaks_and_other_spellings_of_the_same_bytes(self):
        signed = CLOUD.signed(CONTENT)
        assert reason(signed + b"==") == "bad_signature"
        assert reason(signed + b"\n") == "bad_signature"
        assert reason(signed[:-1] + bytes([signed[-1] + 1])) == "bad_signature", "unused bits of the last character"
        head, content, signature = signed.split(b".")
        assert reason(b".".join([head, content[:40] + b"\n" + content[40:], signature])) == "bad_signature"

    def test_one_too_large_is_not_looked_at(self):
        assert reason(CLOUD.signed(b"x" * MAX_SIGNED_BYTES)) == "too_large"

    def test_the_largest_document_that_the_contract_takes_fits(self):
        largest = b"x" * 1024 * 1024
        assert RING.opened(CLOUD.signed(largest)) == largest

    def test_the_refusal_says_which_key_was_asked_for_in_clean_text(self):
        refused = RING.opened(CLOUD.with_header({"alg": "Ed25519", "kid": "a\x1b[2J" + "k" * 200}, CONTENT))
        assert "\x1b" not in refused.detail
        assert len(refused.detail) < 200
        assert KEY_ID in refused.detail


class TestAnyBytes:
    @given(st.binary(max_size=300))
    def test_never_raise_and_are_never_taken(self, payload):
        assert isinstance(RING.opened(payload), Refused)

    @given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=70))
    def test_in_three_parts_neither(self, header, content, signature):
        payload = b"e" + b64(header) + b"." + b64(content) + b"." + b64(signature)
        assert isinstance(RING.opened(payload), Refused)

    @given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
    def test_one_byte_changed_anywhere_is_noticed(self, place, change):
        signed = bytearray(CLOUD.signed(CONTENT))
        signed[place % len(signed)] ^= change
        assert isinstance(RING.opened(bytes(signed)), Refused)


class TestByHand:
    def test_what_an_operator_brings_need_not_be_signed(self):
        assert RING.brought(CONTENT) == Arrived(CONTENT, CONTENT)

    def test_but_a_signature_that_is_there_must_hold(self):
        signed = CLOUD.signed(CONTENT)
        assert RING.brought(signed) == Arrived(signed, CONTENT)
        forged = Signer(fresh=True).signed(CONTENT)
        assert RING.brought(forged).content.reason == "bad_signature"


class TestContract:
    """The worked example of docs/contract.md."""

    TEXT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text().split("## Signatures")[1].split("\n## ")[0]

    def vector(self):
        block = self.TEXT.split("```text\n")[1].split("```")[0]
        parts = {line[:20].strip() or "payload": "" for line in block.splitlines()}
        for line in block.splitlines():
            parts[line[:20].strip() or "payload"] += line[20:].strip()
        return parts

    def test_the_test_vector_is_believed_with_its_public_key(self):
        parts = self.vector()
        ring = KeyRing({"example-2024": raw(parts["public key"])})
        assert ring.opened(parts["payload"].encode()) == parts["content"].encode()

    def test_another_library_signs_to_the_same_bytes(self):
        parts = self.vector()
        assert parts["private key (seed)"] == PRIVATE
        assert Signer("example-2024").signed(parts["content"].encode()).decode() == parts["payload"]
        assert (
            Signer("example-2024").with_header(parts["header"].encode(), parts["content"].encode()).decode()
            == parts["payload"]
        )

    def test_the_signer_in_the_text_works(self):
        import base64
        import json

        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        scope = {"base64": base64, "json": json, "Ed25519PrivateKey": Ed25519PrivateKey}
        exec(self.TEXT.split("```py\n")[1].split("```")[0], scope)
        parts = self.vector()
        key = Ed25519PrivateKey.from_private_bytes(raw(PRIVATE))
        assert scope["signed"](parts["content"].encode(), key, "example-2024").decode() == parts["payload"]

    def test_the_section_of_the_site_file_is_usable(self):
        import tomllib

        from agent.site_file.cloud_keys import SigningKeySection

        stated = tomllib.loads(self.TEXT.split("```toml\n")[1].split("```")[0])["cloud"]["signing_key"][0]
        assert SigningKeySection(**stated).raw == raw(self.vector()["public key"])


class TestOtherKeys:
    """The keys are changed while the agent runs."""

    def test_what_changed_is_told(self):
        old, newer = Signer(), Signer("vpp-2025", fresh=True)
        ring = KeyRing({old.key_id: old.public})
        change = ring.replace({old.key_id: old.public, newer.key_id: newer.public})
        assert (change.believed, change.no_longer, change.required) == (("vpp-2025",), (), True)
        assert ring.replace({newer.key_id: newer.public, old.key_id: old.public}) is None
        change = ring.replace({newer.key_id: newer.public})
        assert str(change) == "no longer believed: vpp-2024"

    def test_another_key_under_the_same_id_is_believed_and_the_first_is_not(self):
        first, second = Signer(fresh=True), Signer(fresh=True)
        ring = KeyRing({first.key_id: first.public})
        change = ring.replace({second.key_id: second.public})
        assert str(change) == "believed from now on: vpp-2024; no longer believed: vpp-2024"
        assert ring.opened(second.signed(b"{}")) == b"{}"
        assert ring.opened(first.signed(b"{}")).reason == "bad_signature"

    def test_no_key_at_all_is_told_loudly(self):
        ring = KeyRing(KEYS)
        assert "NO key is left" in str(ring.replace({}))
        assert ring.opened(b"{}") == b"{}"

    def test_what_is_no_key_changes_nothing(self):
        ring = KeyRing(KEYS)
        with pytest.raises(ValueError):
            ring.replace({"short": b"123"})
        assert ring.opened(Signer().signed(b"{}")) == b"{}"
