# Sourced by the benches: their options. options COMMAND NAME LEAST MOST ARGUMENTS...: sets the variable NAME from --NAME N or --NAME=N, and json from --json.
# The caller has usage().
options() {
  local command=$1 name=$2 least=$3 most=$4 value
  shift 4
  while [ $# -gt 0 ]; do
    case $1 in
    "--$name" | "--$name="*)
      if [ "$1" = "--$name" ]; then value=${2:-}; shift $(($# > 1)); else value=${1#*=}; fi
      [[ $value =~ ^[0-9]{1,9}$ ]] && [ "$value" -ge "$least" ] && [ "$value" -le "$most" ] ||
        { echo "aethelos $command: --$name takes a number from $least to $most" >&2; exit 2; }
      printf -v "$name" %s "$value"
      ;;
    --json) json=1 ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
  done
}
