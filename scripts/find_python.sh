#!/bin/sh
# Print the newest Python that MedVL is tried with and that can make a virtual environment, or say in one sentence what is missing.
# A command that exists is not enough: pyenv leaves shims for versions that are not active, Debian packages Python without venv.
without_venv=""
for python in python3.13 python3.12 python3.11; do
    if "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        echo "$python"
        exit 0
    elif "$python" -c '' >/dev/null 2>&1; then
        without_venv=$python
    fi
done
if [ -n "$without_venv" ]; then
    echo "$without_venv is here, but its venv module is missing: on Debian and Ubuntu, apt install $without_venv-venv." >&2
else
    echo "No Python 3.11, 3.12 or 3.13 is on the PATH: install one of them (python3.11, python3.12 or python3.13)." >&2
fi
exit 1
