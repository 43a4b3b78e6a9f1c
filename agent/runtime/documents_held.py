"""Which documents of the cloud are in force after a start."""

from __future__ import annotations

from agent.cloud.wire import document_parser
from agent.core.orders import OrderDocument, OrderDocuments
from agent.core.plan import Plans
from agent.core.records import DOCUMENT_KINDS
from agent.store import Held


def documents_held(held: Held, site_id: str) -> tuple[Plans, OrderDocuments]:
    """Of each kind the newest document on disk that still reads well."""
    parse = document_parser(site_id)
    plans, orders = Plans(), OrderDocuments()
    for kind in DOCUMENT_KINDS:
        documents = [document for document in held.documents if document.kind == kind.value]
        # Of another version than its row says: the row was damaged, and may come before newer ones.
        found = next((read for d in documents if (read := parse(kind, d.document)) and read.version == d.version), None)
        if isinstance(found, OrderDocument):
            orders = orders.replaced(found)
        elif found is not None:
            plans = plans.replaced(found)
    return plans, orders
