#!/usr/bin/env bash
# The tests of the work in C under GCC's sanitizers, warnings being errors: bash tests/sanitize.sh
# First for addresses and undefined behaviour, then for threads. PYTHON is the interpreter, with what the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tests="tests/engines/test_extension.py tests/engines/test_native_products.py tests/engines/test_native_convolutions.py
    tests/engines/test_sums.py tests/engines/test_pooling_kernels.py tests/engines/test_native.py
    tests/plan/test_compiled_loops.py tests/io/test_ctf.py"

under() { # under SANITIZERS LIBRARIES TESTS...: builds a copy of the tree with them, and runs the tests
    local kinds=$1 libraries="" library
    for library in $2; do libraries+="$(gcc -print-file-name="$library") "; done
    shift 2
    echo "== $kinds"
    mkdir "$scratch/$kinds"
    git ls-files -z | xargs -0 tar -c | tar -x -C "$scratch/$kinds"
    (
        cd "$scratch/$kinds"
        CC=gcc CFLAGS="-O1 -g -Werror -fno-omit-frame-pointer -fsanitize=$kinds -fno-sanitize-recover=all" \
            LDFLAGS="-fsanitize=$kinds" "$python" setup.py -q build_ext --inplace
        # Python and NumPy are not instrumented: what they never free is none of ours, and how OpenBLAS's
        # threads wait for one another is not seen: it has one, until a test asks for more.
        echo race:openblas >known-races
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
            TSAN_OPTIONS="halt_on_error=1 die_after_fork=0 suppressions=$PWD/known-races" \
            OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=4 LD_PRELOAD="$libraries" \
            "$python" -m pytest -q -p no:cacheprovider --capture=sys "$@"
    )
}

# shellcheck disable=SC2086
under address,undefined "libasan.so libubsan.so" $tests
# shellcheck disable=SC2086
under thread libtsan.so $tests tests/engines/test_forks.py
