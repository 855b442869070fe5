#!/usr/bin/env bash
# Builds `marconi` and `marconi-server` for those who hand them out: laid out by a profile of what the server does
# under the load of `marconi bench` (PGO). Takes two builds and a minute of load. Needs, besides the toolchain, a
# llvm-profdata that reads its profiles: `rustup component add llvm-tools`, or one that is installed (LLVM_PROFDATA
# names another).
#
#   tools/release.sh                 # into target/release-by-profile/
#   tools/release.sh FOLDER          # into FOLDER, which is made
#   LOAD_TIME=5m tools/release.sh    # a longer look at what it does
#   TARGET_CPU=x86-64-v3 tools/release.sh   # in 5 % fewer instructions, and on no processor without AVX2;
#                                    # native: for processors like this machine's
#
# A profile is of one compiler and one state of the source, so none is kept.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
work=$top/target/by-profile
case ${1:-$top/target/release-by-profile} in
  -*)
    sed -n '2,13s/^# \{0,1\}//p' "$top/tools/release.sh"
    exit
    ;;
  /*) out=${1:-$top/target/release-by-profile} ;;
  *) out=$PWD/$1 ;;
esac
cd "$top"
host=$(rustc -vV | sed -n 's/^host: //p')
# Without one any processor of the platform runs it.
flags="${RUSTFLAGS:-} ${TARGET_CPU:+-Ctarget-cpu=$TARGET_CPU}"

profdata=${LLVM_PROFDATA:-}
if [ -z "$profdata" ]; then
  for tool in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
    $(compgen -c llvm-profdata | sort -Vru); do
    if command -v "$tool" > /dev/null; then
      profdata=$tool
      break
    fi
  done
fi
if [ -z "$profdata" ]; then
  echo 'release.sh: no llvm-profdata was found; get it by: rustup component add llvm-tools' >&2
  exit 1
fi

# With --target, flags are for what is built and not for what builds it. The two builds differ in nothing else.
build() { # flags
  RUSTFLAGS="$flags $1" cargo build --release --locked --target "$host" --target-dir "$work/build" \
    --package marconi-tools --package marconi-server --bins
}

# A server that runs already is loaded: then nothing is simulated, which would outweigh all else in the profile. It is
# asked to stop, since a program that is killed leaves no counts.
load() { # program, time
  local address=
  # Made here, since the loop may look before the server is there.
  : > "$work/load/served"
  "$1" serve --folder "$work/load/data" --listen 127.0.0.1:0 --admin-listen off > "$work/load/served" &
  server=$!
  trap 'kill "$server" 2> /dev/null || true' EXIT
  while [ -z "$address" ]; do
    kill -0 "$server"
    address=$(sed -n 's|.* serves \(http://[^ ]*\) .*|\1|p' "$work/load/served")
    sleep 0.1
  done
  "$1" bench --url "$address" --time "$2" --out "$work/load/report" > "$work/load/report.txt"
  kill "$server"
  wait "$server"
  trap - EXIT
}

rm -rf "$work/counts" "$work/load"
mkdir -p "$work/load"
echo '== 1 of 4: a build that counts'
build "-Cprofile-generate=$work/counts"
echo "== 2 of 4: the load, ${LOAD_TIME:-60s}"
load "$work/build/$host/release/marconi" "${LOAD_TIME:-60s}"
rm -rf "$work/load/data"
echo "== 3 of 4: the profile, by $profdata"
"$profdata" merge --output "$work/profile" "$work/counts"
echo '== 4 of 4: the build by the profile'
build "-Cprofile-use=$work/profile"

mkdir -p "$out"
cp "$work/build/$host/release/marconi" "$work/build/$host/release/marconi-server" "$out/"
"$out/marconi-server" --version
echo "Both programs are in $out"
