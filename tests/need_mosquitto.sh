#!/bin/sh
# The tests talk to a real broker: make sure that mosquitto is there, and say what is done about it.
set -eu
command -v mosquitto >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "The tests need the broker mosquitto. Run this once, then make test again:" >&2
  echo "  sudo apt-get install --no-install-recommends mosquitto" >&2
  exit 1
fi
echo "Installing the broker mosquitto for the tests: apt-get install mosquitto" >&2
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >&2
