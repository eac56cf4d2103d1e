#!/usr/bin/env bash
# Makes what package cbind needs, in the directory that DUNLIN_BRIDGE names or
# dunlin/bridge in the user's cache: a virtual environment with Transformers and torch
# for the CPU (1.7 GB, made once), the library over it, and the program that isolates it.
# PYTHON is the interpreter to build with; it must have its headers and its shared library.
set -euo pipefail
cd "$(dirname "$0")/.."
source=cbind/transformers
dir=${DUNLIN_BRIDGE:-${XDG_CACHE_HOME:-$HOME/.cache}/dunlin/bridge}
python=${PYTHON:-/usr/bin/python3}

if [[ $(uname -s) != Linux ]]; then
	echo "the bridge runs on Linux only" >&2
	exit 1
fi

complete() {
	command -v g++ >/dev/null && command -v readelf >/dev/null && "$python" - 2>/dev/null <<'PY'
import ensurepip, os, sysconfig, venv
get = sysconfig.get_config_var
assert os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
assert get("Py_ENABLE_SHARED")
PY
}
if ! complete; then
	packages="python3-dev python3-venv binutils g++"
	if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
		apt-get update -q
		# shellcheck disable=SC2086 # several packages
		apt-get install -y -q --no-install-recommends $packages
	fi
	if ! complete; then
		echo "the bridge needs a C++ compiler, binutils, and a Python with venv, headers and a shared library" >&2
		echo "on Debian: apt-get install $packages; elsewhere set PYTHON" >&2
		exit 1
	fi
fi

mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9 # two builds at once would be in each other's way

key=$(cat $source/requirements.txt $source/cpu_stubs.py <("$python" -VV) | sha256sum | cut -c1-12)
venv=$dir/venv-$key
if [[ ! -e $venv/.complete ]]; then
	echo "making $venv: torch and Transformers, 0.65 GB to fetch"
	rm -rf "$venv"
	"$python" -m venv "$venv"
	# Without dependencies: torch's are 2.5 GB of CUDA, and the list has all others.
	"$venv/bin/pip" install --quiet --no-deps --disable-pip-version-check -r $source/requirements.txt
	site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
	"$venv/bin/python" $source/cpu_stubs.py "$site"
	"$venv/bin/python" -c 'import torch, transformers; assert (torch.ones(9, 9) @ torch.ones(9, 9)).sum() == 729'
	touch "$venv/.complete"
fi
ln -sfn "venv-$key" "$dir/venv"
for old in "$dir"/venv-*; do
	[[ $old == "$venv" ]] || rm -rf "$old"
done

# Each is put in its place whole: a process may have the old one open.
config="$(dirname "$(readlink -f "$python")")/$(basename "$(readlink -f "$python")")-config"
[[ -x $config ]] || config=$python-config
# shellcheck disable=SC2046 # lists of flags
g++ -std=c++17 -O2 -Wall -Wextra -Werror -fPIC -shared -Wa,-I$source $("$config" --includes) $source/transformers.cc \
	-o "$dir/.libtransformers.so" $("$config" --ldflags --embed)
mv -f "$dir/.libtransformers.so" "$dir/libtransformers.so"
CGO_ENABLED=0 go build -trimpath -o "$dir/.dunlin-bridge" ./cmd/dunlin-bridge
mv -f "$dir/.dunlin-bridge" "$dir/dunlin-bridge"
echo "the bridge is in $dir: $("$venv/bin/python" -c 'from importlib.metadata import version as v; print("transformers", v("transformers") + ", torch", v("torch"))')"
