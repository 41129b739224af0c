# Sourced by the scripts beside it: .venv with castore in it, made once, and brought up to date when what it needs changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=.venv/bin

# The first Python of 3.10 or newer that runs; $PYTHON has the first word.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "castore needs Python 3.10 or newer, and none is on the PATH; install one, or name it: PYTHON=/path/to/python $0" >&2
    return 1
}

# install [EXTRA]: castore, editable, with an extra of pyproject.toml.
install() {
    local extra=${1:-} wanted python quiet=
    # An environment is tied to the place of the checkout and the files that say what belongs in it.
    wanted=$(printf '%s\n' "$PWD" "$extra" | cat - pyproject.toml constraints.txt | cksum)
    if [ -x "$bin/python" ] && [ "$(cat ".venv/installed${extra:+-$extra}" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! "$bin/python" -c '' 2>/dev/null; then
        python=$(find_python)
        if ! "$python" -m venv --clear .venv; then
            echo "could not make .venv; Debian and Ubuntu keep what it takes in the package python3-venv" >&2
            return 1
        fi
    fi
    echo "Installing castore and what it needs into .venv (torch is large: the first time can take minutes)."
    [ -t 1 ] || quiet=--quiet
    "$bin/python" -m pip install --disable-pip-version-check $quiet -c constraints.txt -e ".${extra:+[$extra]}"
    echo "$wanted" >".venv/installed${extra:+-$extra}"
}
