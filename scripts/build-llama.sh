#!/usr/bin/env bash
# Builds llama.cpp's tools for this machine, from the source package of
# llama-cpp-python on PyPI, into DIR. With `avx2` as second argument they are
# built without AVX-512. Takes some ten minutes on two cores, and nothing where
# they are built already. Prints the folder of the tools.
set -euo pipefail
dir=$1 isa=${2:-native}
version=0.3.36
tools=(llama-bench llama-batched-bench llama-quantize)

bin=$dir/bin-$isa
for t in "${tools[@]}"; do
	[[ -x $bin/$t ]] || missing=1
done
if [[ -z ${missing:-} ]]; then
	echo "$bin"
	exit
fi

flags=(-DGGML_NATIVE=ON)
if [[ $isa == avx2 ]]; then
	flags=(-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON)
fi
mkdir -p "$dir/dl"
cd "$dir"
if [[ ! -d llama.cpp ]]; then
	python3 -m pip download -q --no-deps --no-binary :all: -d dl "llama-cpp-python==$version" >&2
	tar xzf "dl/llama_cpp_python-$version.tar.gz"
	ln -sfn "llama_cpp_python-$version/vendor/llama.cpp" llama.cpp
fi
cmake -S llama.cpp -B "build-$isa" -DCMAKE_BUILD_TYPE=Release "${flags[@]}" -DLLAMA_CURL=OFF \
	-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DBUILD_SHARED_LIBS=OFF >"configure-$isa.log" 2>&1
cmake --build "build-$isa" -j"$(nproc)" --target "${tools[@]}" >"build-$isa.log" 2>&1
ln -sfn "build-$isa/bin" "bin-$isa"
echo "$bin"
