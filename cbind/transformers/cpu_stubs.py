"""Stand-ins for the CUDA libraries that torch's wheel on PyPI is linked with.

usage: cpu_stubs.py SITE_PACKAGES

The wheel names them as needed, so it doesn't load without them, and never calls them on a
CPU. The real ones take 2.5 GB. Each stand-in has the symbols, with their versions, that torch's
libraries ask for; a function that is called after all says its name and aborts. Where a real library is
installed it is left alone.
"""

import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

# What may be stood in for, and how its functions begin: most have no symbol version to go by.
PREFIXES = {
    "libcublas": r"cublas(?!Lt)",
    "libcublasLt": "cublasLt",
    "libcudnn": "cudnn",
    "libcufft": "cufft",
    "libcufile": "cuFile",
    "libcusolver": "cusolver",
    "libcusparse": "cusparse(?!Lt)",
    "libcusparseLt": "cusparseLt",
    "libnccl": "nccl",
    "libnvJitLink": "nvJitLink",
    "libnvrtc": "nvrtc",
    "libnvshmem_host": "nvshmem",
}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def stem(library):
    return library.split(".so")[0]


def needed(libraries, there):
    found = set()
    for lib in libraries:
        for name in re.findall(r"NEEDED.*\[(.*?)\]", output("readelf", "-dW", lib)):
            if stem(name) in PREFIXES and name not in there:
                found.add(name)
    return found


def versions(libraries, wanted):
    """Which library a symbol version belongs to."""
    owner = {}
    for lib in libraries:
        current = None
        for line in output("readelf", "-VW", lib).splitlines():
            if m := re.search(r"Version: \d+\s+File: (\S+)\s+Cnt", line):
                current = m[1]
            elif (m := re.search(r"Name: (\S+)\s+Flags", line)) and current in wanted:
                owner.setdefault(m[1], current)
    return owner


def symbols(libraries, wanted, owner):
    """The functions of each wanted library, by version; "" for none."""
    found = {so: collections.defaultdict(set) for so in wanted}
    for lib in libraries:
        for line in output("nm", "-D", "--undefined-only", "--with-symbol-versions", lib).splitlines():
            kind, _, symbol = line.strip().partition(" ")
            name, _, version = symbol.strip().partition("@")
            version = version.lstrip("@")
            if kind != "U":
                continue
            if version in owner:
                found[owner[version]][version].add(name)
            elif not version:
                for so in wanted:
                    if re.match(PREFIXES[stem(so)], name):
                        found[so][""].add(name)
    for version, so in owner.items():
        found[so][version]  # torch's loader looks for the version itself, too
    return found


SOURCE = """#include <stdio.h>
#include <stdlib.h>
static void die(const char *name) {
  fprintf(stderr, "%s was called, and there is no CUDA here: torch is to compute on the CPU\\n", name);
  abort();
}
"""


def build(path, by_version):
    names = sorted(set().union(*by_version.values()))
    with tempfile.TemporaryDirectory() as d:
        c, script = os.path.join(d, "stub.c"), os.path.join(d, "versions")
        with open(c, "w") as f:
            f.write(SOURCE + "".join(f'void {n}(void) {{ die("{n}"); }}\n' for n in names))
        command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", "-o", path, c, f"-Wl,-soname,{os.path.basename(path)}"]
        named = [v for v in sorted(by_version) if v]
        if named:
            with open(script, "w") as f:
                for v in named:
                    # Symbols without a version go to the first one.
                    all_names = by_version[v] | (by_version.get("", set()) if v == named[0] else set())
                    f.write(f"{v} {{ global: {' '.join(n + ';' for n in sorted(all_names))} }};\n")
            command.append(f"-Wl,--version-script={script}")
        subprocess.run(command, check=True)


def main(site):
    lib = os.path.join(site, "torch", "lib")
    libraries = glob.glob(os.path.join(lib, "*.so*"))
    real = glob.glob(os.path.join(site, "nvidia", "**", "*.so*"), recursive=True)
    wanted = needed(libraries, {os.path.basename(p) for p in libraries + real})
    for so, by_version in symbols(libraries, wanted, versions(libraries, wanted)).items():
        build(os.path.join(lib, so), by_version)


if __name__ == "__main__":
    main(sys.argv[1])
