#!/bin/bash
# A worker of an Aethelos operator on the bus for short work: it counts the bytes of input.text and answers at once. bash alone, no other program.
#   worker.sh OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
# Run as many as you like; each call goes to one of them. Asked about a run, or given it again, it answers what it has answered while it lives.
set -uf
export LC_ALL=C # lengths are bytes
operator=${1:-} url=${2:-} user=${3:-} password_file=${4:-}
if [[ -z $operator || -z $url || -z $user || ! -r $password_file ]]; then
  echo "usage: worker.sh OPERATOR NATS_URL USER PASSWORD_FILE" >&2
  exit 2
fi
address=${url#nats://}
exec 3<> "/dev/tcp/${address%:*}/${address##*:}" || exit 1
printf 'CONNECT {"user":"%s","pass":"%s","verbose":false,"pedantic":false,"headers":true,"lang":"bash","version":"1"}\r\n' \
  "$user" "$(< "$password_file")" >&3
printf 'SUB aethelos.operator.%s %s 1\r\nSUB aethelos.operator.%s.status 2\r\n' "$operator" "$operator" "$operator" >&3
declare -A answers

while read -r -u 3 -a word; do
  case ${word[0]:-} in
    PING) printf 'PONG\r\n' >&3 ;;
    -ERR) echo "${word[*]}" >&2 && exit 1 ;;
    MSG | HMSG) # subject, subscription, where to answer; the last number is the length of all; in HMSG the one before is that of the headers
      length=${word[-1]%$'\r'} skip=0
      [[ ${word[0]} == HMSG ]] && skip=${word[-2]}
      IFS= read -r -N "$length" -u 3 call
      call=${call:skip}
      run='' answer=''
      [[ $call =~ \"run_id\":\"([0-9a-f-]*)\" ]] && run=${BASH_REMATCH[1]} answer=${answers[$run]:-}
      if [[ -n $answer || ${word[2]} == 2 ]]; then
        [[ -n $answer ]] || continue # a question about a run of another worker
      elif [[ $call =~ \"input\":\{\"text\":\"([^\"\\]*)\"\} ]]; then
        answer="{\"status\":\"done\",\"output\":{\"bytes\":${#BASH_REMATCH[1]}}}"
      else
        answer='{"status":"failed","error":"a text without quotes and backslashes is wanted","refused":true}'
      fi
      answers[$run]=$answer
      printf 'PUB %s %d\r\n%s\r\n' "${word[3]}" "${#answer}" "$answer" >&3
      ;;
  esac
done
