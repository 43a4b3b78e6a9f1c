"""The one way out: MQTT topics, messages, documents and the session that drains the outbox."""
