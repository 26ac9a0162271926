# What infra/run, infra/stop and infra/test share. Sourced; expects `set -euo pipefail` and $root.

note() { printf '%s\n' "$*" >&2; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$1" >&2; exit "${2:-1}"; }

# Prints the comment block at the top of the script that was called, as its help.
show_help() { sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"; }

# The data folder, absolute, made when missing.
data_folder() {
  local folder=${ONBOARD_DATA_DIR:-$root/.data}
  # 0711: the private PostgreSQL's user passes through; what lies in it is closed by its own mode.
  [[ -d $folder ]] || { mkdir -p "$folder" && chmod 711 "$folder"; } || fail "cannot make the data folder $folder"
  (cd "$folder" && pwd)
}

# The pid of the onboardd that this data folder's pid file names, if it is alive and really that server: after a reboot the
# number may be that of another folder's. One that was killed and is not yet reaped has no command line.
server_pid() {
  local pid argument command=()
  pid=$(cat "$1/onboardd.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ && -r /proc/$pid/cmdline ]] || return 1
  mapfile -d '' -t command 2>/dev/null <"/proc/$pid/cmdline" || return 1
  [[ ${command[0]:-} == */onboardd ]] || return 1
  for argument in "${command[@]}"; do [[ $argument != "$1" ]] || { printf '%s' "$pid"; return 0; }; done
  return 1
}

# configure_and_build BUILD_FOLDER [cmake option …] -- TARGET …
configure_and_build() {
  local folder=$1 options=()
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do options+=("$1"); shift; done
  shift
  if [[ ! -f $folder/build.ninja ]]; then
    note "configuring $(basename "$folder") …"
    mkdir -p "$folder"
    cmake -S "$root" -B "$folder" -G Ninja "${options[@]}" >"$folder/configure.log" 2>&1 ||
      { tail -n 30 "$folder/configure.log" >&2; fail "cmake failed; the whole output is in $folder/configure.log"; }
  fi
  note "building $(basename "$folder") …"
  if [[ -t 2 ]]; then
    ninja -C "$folder" "$@" >&2 || fail "the build failed"
  else
    ninja -C "$folder" "$@" >"$folder/build.log" 2>&1 || { tail -n 60 "$folder/build.log" >&2; fail "the build failed"; }
  fi
}
