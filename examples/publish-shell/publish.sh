#!/bin/bash
# Publishes the job in a file to Aethelos over NATS and waits for its receipt. bash alone, no other program.
#   publish.sh FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
# A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.
set -uf
export LC_ALL=C # lengths are bytes
file=${1:-} url=${2:-${NATS_URL:-}} user=${3:-${NATS_USER:-}} password_file=${4:-${NATS_PASSWORD_FILE:-}}
if [[ ! -r $file || -z $url || -z $user || ! -r $password_file ]]; then
  echo "usage: publish.sh FILE [NATS_URL USER PASSWORD_FILE]" >&2
  exit 2
fi
read -r key < /proc/sys/kernel/random/uuid
key=${KEY:-$key}
[[ $key =~ ^[A-Za-z0-9_-]{1,128}$ ]] || { echo "a key is 1 to 128 of A-Z a-z 0-9 _ -" >&2 && exit 2; } # nobody would be answered under another
job=$(< "$file")
echo "key $key" >&2
address=${url#nats://}
exec 3<> "/dev/tcp/${address%:*}/${address##*:}" || exit 1

head=$'NATS/1.0\r\nIdempotency-Key: '$key$'\r\nContent-Type: application/json\r\n\r\n'
printf 'CONNECT {"user":"%s","pass":"%s","verbose":false,"pedantic":false,"headers":true,"lang":"bash","version":"1"}\r\n' \
  "$user" "$(< "$password_file")" >&3
# Listening begins before the first submission, or a quick receipt would be missed.
printf 'SUB aethelos.receipt.default.%s 1\r\n' "$key" >&3

for wait in 1 2 4 8 16 32; do
  printf 'HPUB aethelos.job.submit.default %d %d\r\n%s%s\r\n' ${#head} $((${#head} + ${#job})) "$head" "$job" >&3
  until=$((SECONDS + wait))
  while ((SECONDS <= until)) && read -r -t "$wait" -u 3 -a word; do
    case ${word[0]:-} in
      PING) printf 'PONG\r\n' >&3 ;;
      -ERR) echo "${word[*]}" >&2 && exit 1 ;;
      MSG | HMSG) # the last number is the length of all; in HMSG the one before is that of the headers
        length=${word[-1]%$'\r'} skip=0
        [[ ${word[0]} == HMSG ]] && skip=${word[-2]}
        IFS= read -r -N "$length" -u 3 receipt
        receipt=${receipt:skip}
        printf '%s\n' "$receipt"
        [[ $receipt =~ \"status\":\ ?\"accepted\" ]]
        exit
        ;;
    esac
  done
done
echo "no receipt yet; run it again with KEY=$key" >&2
exit 1
