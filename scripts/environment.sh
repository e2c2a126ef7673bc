# Makes the virtual environment in .venv once, with the extras given; sourced by the other scripts.
# Uses uv when it is there, pip when not. Needs Python 3.11 or newer and 8 GB of free disk.

make_environment() {
    extras=$1
    # An environment holds the absolute path of the project: after a move it is made again.
    project="$PWD $(cksum < pyproject.toml)"
    # "cpu,test" holds all that "cpu" asks for.
    made=$(cat .venv/complete 2> /dev/null || true)
    case "$made" in "$project $extras"*) return ;; esac
    if [ ! -e .venv/complete ] && [ "$(df -Pk . | awk 'NR == 2 {print $4}')" -lt 8000000 ]; then
        echo "The environment needs 8 GB of free disk in $PWD, but there is less. Free some." >&2
        exit 2
    fi
    python=$(find_python)
    case "$made" in "$PWD "*) ;; *) rm -rf .venv ;; esac
    echo "Making the environment in .venv with $python (some minutes, once) ..."
    if command -v uv > /dev/null; then
        [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
        uv pip install --quiet --python .venv/bin/python --editable ".[$extras]"
    else
        [ -x .venv/bin/pip ] || "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    fi
    echo "$project $extras" > .venv/complete
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed, but none was found. Install it, or set PYTHON=/path/to/python3." >&2
    exit 2
}
