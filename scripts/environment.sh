# Makes a virtual environment once, with the extras given; sourced by the other scripts.
# Uses uv when it is there, pip when not. Needs Python 3.11 or newer and 8 GB of free disk.

# Behind some networks certificates are only known to the system, which pip asks and uv may.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"

# make_environment EXTRAS [pinned|newest|lowest]: names it in $environment. Each of the three has a
# folder of its own: .venv with the versions of scripts/constraints.txt, .venv-newest and
# .venv-lowest with the newest and the lowest that pyproject.toml admits today.
make_environment() {
    extras=$1
    versions=${2:-pinned}
    case "$versions" in pinned) environment=.venv ;; *) environment=.venv-$versions ;; esac
    # An environment holds the absolute path of the project: after a move it is made again.
    project="$PWD $(cat pyproject.toml scripts/constraints.txt | cksum)"
    # What is newest changes from day to day.
    [ "$versions" != newest ] || project="$project $(date +%F)"
    # "cpu,test" holds all that "cpu" asks for.
    made=$(cat "$environment/complete" 2> /dev/null || true)
    case "$made" in "$project $extras"*) return ;; esac
    if [ ! -e "$environment/complete" ] && [ "$(df -Pk . | awk 'NR == 2 {print $4}')" -lt 8000000 ]; then
        echo "The environment needs 8 GB of free disk in $PWD, but there is less. Free some." >&2
        exit 2
    fi
    python=$(find_python)
    case "$made" in "$PWD "*) ;; *) rm -rf "$environment" ;; esac
    echo "Making the environment in $environment with $python (some minutes, once) ..."
    if command -v uv > /dev/null; then
        [ -x "$environment/bin/python" ] || uv venv --quiet --python "$python" "$environment"
    else
        [ -x "$environment/bin/pip" ] || "$python" -m venv "$environment"
    fi
    "install_$versions"
    echo "$project $extras" > "$environment/complete"
}

install_pinned() { install_within scripts/constraints.txt; }
install_newest() { install_resolved highest; }
install_lowest() { install_resolved lowest-direct; }

# Installs the project with versions that a file of constraints names, its build system's included.
install_within() {
    if command -v uv > /dev/null; then
        uv pip install --quiet --python "$environment/bin/python" --constraint "$1" \
            --build-constraint "$1" --editable ".[$extras]"
    else
        # Newer versions of pip read the second name where they build, older ones the first.
        PIP_CONSTRAINT=$PWD/$1 PIP_BUILD_CONSTRAINT=$PWD/$1 \
            "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
            --editable ".[$extras]"
    fi
}

# pip knows no lowest versions: without uv it first puts uv into the environment.
install_resolved() {
    resolver=$(command -v uv || true)
    if [ -z "$resolver" ]; then
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check uv
        resolver=$environment/bin/uv
    fi
    # Old versions that were not built for this Python yet are not what anybody installs.
    # shellcheck disable=SC2086
    "$resolver" pip compile --quiet --upgrade --resolution "$1" --only-binary :all: \
        --python "$environment/bin/python" --extra ${extras//,/ --extra } --group build \
        --output-file "$environment/constraints.txt" pyproject.toml > /dev/null
    install_within "$environment/constraints.txt"
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
