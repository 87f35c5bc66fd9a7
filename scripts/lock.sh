#!/bin/sh
# Writes requirements.lock and requirements-dev.lock: every installed distribution with its exact version, nothing else.
set -eu
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pin() { # $1: extras, $2: file
    "$python" -m venv "$work/$2"
    "$work/$2/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$1"
    {
        echo "# Exact versions for $3. Made by \`make lock\`; do not edit."
        "$work/$2/bin/python" -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools
    } >"$2"
}
pin "" requirements.lock "running tracemill"
pin "[archive,dev,peers,postgres,privacy,quality,scale,server,tfrecord,tokens]" requirements-dev.lock "its tests"
