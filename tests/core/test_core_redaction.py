"""What is known to be secret, or looks like it, is in no cleaned text."""

import base64
import json
from urllib.parse import quote

import pytest

from agent.core.redaction import REMOVED, Redactor, user_info

SECRET = 'p@ss "wörd"/4711'


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
    ],
    ids=["plain", "json", "json in utf-8", "url", "base64"],
)
def test_a_known_secret_is_found_however_it_is_spelt(spelt):
    text, count = Redactor([SECRET]).cleaned(f"before {spelt} between {spelt} after")
    assert "4711" not in text
    assert spelt not in text
    assert count == 2
    assert text.startswith("before ")
    assert text.endswith(" after")


def test_a_secret_within_another_does_not_leave_the_rest_of_it():
    text, _ = Redactor(["hunter", "hunter2-and-more"]).cleaned("it is hunter2-and-more")
    assert text == f"it is {REMOVED}"


def test_what_is_too_short_to_be_told_from_words_is_not_looked_for():
    assert Redactor(["abc", ""]).cleaned("abc is abc") == ("abc is abc", 0)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("mqtt://user:canary@broker:1883 failed", f"mqtt://{REMOVED}@broker:1883 failed"),
        ('"url": "http://canary@proxy:3128"', f'"url": "http://{REMOVED}@proxy:3128"'),
        ("-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----\nrest", f"{REMOVED}\nrest"),
        ("-----BEGIN PRIVATE KEY-----\ncanary, cut off", REMOVED),
        ("Proxy-Authorization: Basic canary== next", f"Proxy-Authorization: {REMOVED} next"),
        ("sent 'Authorization': 'Bearer canary.x'", f"sent 'Authorization': '{REMOVED}'"),
        ("bearer canary123 was refused", f"bearer {REMOVED} was refused"),
        ("password=canary and more", f"password={REMOVED} and more"),
        ('{"token": "canary", "a": 1}', f'{{"token": {REMOVED}, "a": 1}}'),
        ("api_key: 'canary with spaces'", f"api_key: {REMOVED}"),
        ("jwt eyJhbGciOiJFZERTQSJ9.Y2FuYXJ5.c2ln end", f"jwt {REMOVED} end"),
    ],
)
def test_what_looks_like_a_secret_goes(text, cleaned):
    assert Redactor(()).cleaned(text) == (cleaned, 1)


@pytest.mark.parametrize(
    "text",
    [
        'password_file = "/etc/ems-agent/broker.password"',
        "tokens are no secret, nor is a password file",
        "mqtts://broker.example:8883 answers",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "user@example.com wrote at 10:00",
    ],
)
def test_what_is_no_secret_stays(text):
    assert Redactor(()).cleaned(text) == (text, 0)


def test_users_and_passwords_of_addresses_are_found():
    assert user_info('a = "mqtt://ann:hunter2@h:1"\nb = "http://h"\nc = "http://bob@p"') == [
        "ann:hunter2",
        "hunter2",
        "bob",
    ]
