"""Every reason code of the contract, in one list: why a message has no effect, or a command ended without its own.

`Refused` takes no other, and `tests/cloud/test_contract_reasons.py` holds `docs/contract.md` against this list.
"""

from __future__ import annotations

from typing import Final

DOCUMENTS_AND_COMMANDS: Final = frozenset(
    {
        "too_large", "bad_compression", "unsigned", "bad_signature", "unknown_key", "not_json", "schema_unsupported",
        "missing_field", "unknown_field", "bad_value", "wrong_site", "too_long", "beyond_rating", "from_the_future",
        "storage_failed",
    }
)  # fmt: skip
"""A message of any kind may be refused for these."""
DOCUMENTS_ONLY: Final = frozenset(
    {
        "wrong_kind", "wrong_frequency", "unknown_product", "unknown_device", "duplicate_id", "wrong_length", "gap",
        "overlap", "misaligned", "overlap_beyond_rating", "version_old", "version_conflict", "wholly_past",
    }
)  # fmt: skip
"""Plans, awards, curtailments and outages."""
COMMANDS_ONLY: Final = frozenset(
    {
        "unknown_type", "unknown_command", "command_expired", "clock_untrusted", "id_conflict", "record_lost",
        "not_tighter", "too_many", "rate_limited", "read_only", "safe_mode",
    }
)  # fmt: skip
"""A command that is `rejected`."""
COMMAND_ENDS: Final = frozenset({"never_decided", "interrupted", "not_kept", "publish_refused"})
"""A command that is `expired` or `failed`; `bad_value`, `too_many` and `storage_failed` may come here too."""
REASONS: Final = DOCUMENTS_AND_COMMANDS | DOCUMENTS_ONLY | COMMANDS_ONLY | COMMAND_ENDS
