#!/usr/bin/env bash
# Lets the vLLM of a Deployment publish its cache events, and its pods be found by kvroute.
#
#   enable-kv-events.sh [-n NAMESPACE] DEPLOYMENT            what would change, as a diff; nothing is written
#   enable-kv-events.sh [-n NAMESPACE] DEPLOYMENT --apply    change it; its pods are replaced, as by every change of a pod template
#   enable-kv-events.sh [-n NAMESPACE] DEPLOYMENT --undo     what taking it back would change; with --apply, take it back
#
#   --container NAME      the engine's container, where several may be it
#   --model NAME          the model as clients name it, where labels and arguments do not say it
#   --events-port PORT    where rank 0 publishes (5557); rank r does on PORT + r
#   --replay-port PORT    where rank 0 replays (5558; with several ranks, 100 after the events)
#   --buffer-steps N      batches that the engine keeps for replays (100000)
#   --context NAME        kubectl's context
#
# Done a second time, it changes nothing; done with other ports, it changes those. What was done stands in the annotation
# kvroute.io/enable-kv-events of the Deployment, which --undo goes by. What cannot be changed safely is refused, with the reason.
# Nothing is written over a change that somebody else makes meanwhile.
#
# Needs kubectl (or what KUBECTL names) and jq. Ends with 0; 1 if it is refused or fails; 64 for bad usage.
set -euo pipefail

usage() {
  echo "enable-kv-events.sh: $1" >&2
  echo "usage: enable-kv-events.sh [-n NAMESPACE] DEPLOYMENT [--apply] [--undo] [--container NAME] [--model NAME]" >&2
  echo "       [--events-port PORT] [--replay-port PORT] [--buffer-steps N] [--context NAME]" >&2
  exit 64
}

number() {
  [[ "$2" =~ ^[1-9][0-9]{0,7}$ ]] || usage "$1: $2 is no whole number above 0"
}

port() {
  number "$1" "$2"
  [ "$2" -le 65535 ] || usage "$1: $2 is no port"
}

deployment="" apply=false undo=false container="" model="" events=5557 replay=0 steps=100000
kubectl=("${KUBECTL:-kubectl}")
while [ $# -gt 0 ]; do
  case "$1" in
    --apply) apply=true ;;
    --undo) undo=true ;;
    -n | --namespace | --container | --model | --events-port | --replay-port | --buffer-steps | --context)
      [ $# -ge 2 ] || usage "$1 wants a value"
      case "$1" in
        -n | --namespace) kubectl+=(--namespace "$2") ;;
        --container) container="$2" ;;
        --model) model="$2" ;;
        --events-port) port "$1" "$2" && events="$2" ;;
        --replay-port) port "$1" "$2" && replay="$2" ;;
        --buffer-steps) number "$1" "$2" && steps="$2" ;;
        --context) kubectl+=(--context "$2") ;;
      esac
      shift
      ;;
    -*) usage "$1 is unknown" ;;
    *)
      [ -z "$deployment" ] || usage "one Deployment at a time, not $deployment and $1"
      deployment="${1#deployment/}"
      deployment="${deployment#deployment.apps/}"
      ;;
  esac
  shift
done
[ -n "$deployment" ] || usage "which Deployment?"
for tool in "${kubectl[0]}" jq; do
  command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done

# Taking back what is noted, and doing it. In goes the Deployment, out come the new one, or why not, and notes.
read -r -d '' program <<'JQ' || true
def flag: "--kv-events-config";
def noted: "kvroute.io/enable-kv-events";
def template: .spec.template;
def without_empty(path): if getpath(path) == {} or getpath(path) == [] then delpaths([path]) else . end;

# --- The engine's words ---

def words: (.command // []) + (.args // []);
def is_vllm: (words | any(test("(^|[ /=])vllm( |$)|vllm[.]entrypoints"))) or ((.image // "") | test("vllm"));
def is_sglang: (words | any(test("sglang"))) or ((.image // "") | test("sglang"));

# Where a shell's script stands, or null if no shell runs the engine.
def script:
  if ((.command // [])[0] // "" | test("^(.*/)?(sh|bash|dash|ash)$")) | not then null
  else (.command | length) as $split | words as $words
    | ($words | map(test("^-[a-z]*c$")) | index(true)) as $c
    | if $c == null or ($words | length) <= $c + 1 then error("a shell runs a file: add the flag to that file by hand")
      elif $c + 1 < $split then {list: "command", at: ($c + 1)}
      else {list: "args", at: ($c + 1 - $split)} end
  end;

# The value of an option among words, or null: the last one counts.
def option($names):
  . as $words
  | [range(length) as $at | $words[$at] as $word
     | ($names[] | select($word == .) | $words[$at + 1]),
       ($names[] | . + "=" | . as $start | select($word | startswith($start)) | $word[($start | length):])]
  | last;

# A script that is one plain command; its words, as far as no quotes are needed to tell them apart.
def plain:
  gsub("\\\\\n"; " ") | sub("\\s+$"; "")
  | if test("[;&|<>()#`\n]") then error("the shell's script is more than one plain command: add the flag by hand")
    elif ([scan("vllm(?: serve|[.]entrypoints)")] | length) != 1 then error("the shell's script does not start vLLM once: add the flag by hand")
    elif (([scan("'")] | length) % 2 == 1) or (([scan("\"")] | length) % 2 == 1) or test("\\\\") then
      error("the quotes of the shell's script are not plain: add the flag by hand")
    else [splits("\\s+")] | map(select(. != "")) end;

def engine_words:
  script as $script
  | if $script != null then .[$script.list][$script.at] | plain
    elif (words | length) == 0 then error("the container has neither command nor args: what its image runs is not known here")
    elif words | any(test("^--[^ =]+\\s")) then error("an argument holds several options: \(words | map(select(test("^--[^ =]+\\s")))[0])")
    else words end;

# --- Taking back ---

def take_back:
  (.metadata.annotations[noted] // null) as $text
  | if $text == null then . else
    ($text | fromjson) as $done
    | (template.spec.containers | map(.name) | index($done.container)) as $at
    | if $at == null then error("the container \($done.container), which was changed, is gone: take the rest back by hand") else . end
    | .spec.template.spec.containers[$at] |= (
        if $done.list == null then .
        elif $done.script then
          " \(flag) '\($done.value)'" as $added
          | (.[$done.list][$done.at] // "" | split($added)) as $parts
          | if ($parts | length) == 2 then .[$done.list][$done.at] = ($parts | join(""))
            elif words | any(contains(flag)) then error("the script was changed since: take the flag out by hand")
            # A manifest without the flag has taken the place of what was changed: it is out already.
            else . end
        else
          (.[$done.list] // []) as $words
          | ([range($words | length) | select($words[.] == flag and $words[. + 1] == $done.value)] | last) as $found
          | if $found != null then (.[$done.list] |= .[:$found] + .[$found + 2:]) | without_empty([$done.list])
            elif words | any(contains(flag)) then error("the arguments were changed since: take the flag out by hand")
            else . end
        end
        | if .ports then .ports |= map(select(.name as $name | $done.ports | index($name) | not)) | without_empty(["ports"]) else . end)
    # What somebody has changed since stays.
    | reduce (["labels", "annotations"][] as $kind | $done[$kind] | to_entries[] | {$kind} + .) as $was (.;
        if .spec.template.metadata[$was.kind][$was.key] != $was.value.new then .
        elif $was.value.old == null then delpaths([["spec", "template", "metadata", $was.kind, $was.key]])
        else .spec.template.metadata[$was.kind][$was.key] = $was.value.old end)
    | without_empty(["spec", "template", "metadata", "labels"])
    | without_empty(["spec", "template", "metadata", "annotations"])
    | delpaths([["metadata", "annotations", noted]])
    | without_empty(["metadata", "annotations"])
  end;

# --- Doing it ---

def engine_at:
  template.spec.containers as $all
  | if $container != "" then
      ($all | map(.name) | index($container)) // error("there is no container \($container), but \($all | map(.name) | join(", "))")
    else
      [range($all | length) as $at | select($all[$at] | is_vllm) | $at] as $found
      | if ($found | length) == 1 then $found[0]
        elif ($found | length) > 1 then error("several containers may be vLLM: say --container, one of \([$found[] as $at | $all[$at].name] | join(", "))")
        elif $all | any(is_sglang) then error("that is SGLang, whose flag and block size are other ones: see deploy/samples/sglang.yaml")
        else error("no container names vLLM: say --container if one of them is") end
    end;

def value($events; $replay):
  {enable_kv_cache_events: true, publisher: "zmq", endpoint: "tcp://*:\($events)", replay_endpoint: "tcp://*:\($replay)", buffer_steps: $steps} | tojson;

# The ports of a flag that is there already.
def ports_of($text):
  # In a list: an error further on is none of this one's.
  ([try ($text | fromjson) catch null] | first) as $given
  | if $given == null then error("its \(flag) is no JSON that can be read here: \($text)") else . end
  | def port_of($key): ($given[$key] // "") | (capture("^tcp://([*]|0[.]0[.]0[.]0|\\[?::\\]?):(?<port>[1-9][0-9]*)$") // error("its \(flag) has the \($key) \(.), which is no port of all addresses: change it by hand")) | .port | tonumber;
  if $given.enable_kv_cache_events != true or $given.publisher != "zmq" then error("its \(flag) publishes nothing: take it out, or change it by hand: \($text)")
  elif $given.replay_endpoint == null then error("its \(flag) has no replay_endpoint, without which nothing missed can be had: add it by hand")
  else {events: port_of("endpoint"), replay: port_of("replay_endpoint")} end;

def number_of($what): if . == null then null elif test("^[1-9][0-9]*$") then tonumber else error("\($what) is \(.): what that comes to is not known here") end;

def set_word($kind; $key; $new):
  .spec.template.metadata[$kind][$key] as $old
  | if $old == $new then . else
      (.done[$kind][$key] = {old: $old, new: $new}) | .spec.template.metadata[$kind][$key] = $new
    end;

def model_of($words; $at):
  ($words | option(["--served-model-name", "--served_model_name"])) //
  ($words | option(["--model"])) //
  (($words | index("serve")) as $serve
    | if $serve != null then $words[$serve + 1]
      elif ($words | length) > 0 and ($words[0] | test("^-|/(ba|da|a)?sh$|^(ba|da|a)?sh$|python|vllm") | not) then $words[0]
      else null end);

def migrate:
  engine_at as $at
  | template.spec.containers[$at] as $engine
  | if ($engine | is_sglang) then error("that is SGLang, whose flag and block size are other ones: see deploy/samples/sglang.yaml") else . end
  | ($engine | script) as $script
  | ($engine | engine_words) as $words
  | ($words | map(select(test("^--?no-enable-prefix-caching$|^--enable-prefix-caching=([Ff]alse)$"))) | first) as $off
  | if $off != null then error("\($off): without prefix caching there are no events") else . end
  | ($words | map(select(test("^--(headless|node-rank|data-parallel-(size-local|address|rank|start-rank|hybrid-lb|external-lb))(=|$)"))) | first) as $nodes
  | if $nodes != null then error("\($nodes): its ranks are in several pods; do it by hand") else . end
  | (($words | option(["--data-parallel-size", "-dp"]) | number_of("--data-parallel-size")) // 1) as $ranks
  | ($words | option(["--port"]) | number_of("--port")) as $http
  | ($words | map(select(startswith("--kv-events-config.") or startswith("--kv_events"))) | first) as $dotted
  | if $dotted != null then error("\($dotted): it has \(flag) in another form; change it by hand") else . end
  | ($words | option([flag])) as $given
  | if $given != null and $script != null then error("the shell's script has a \(flag) of its own: change it by hand") else . end
  | (if $given != null then ports_of($given)
     else {events: $events, replay: (if $replay != 0 then $replay elif $ranks > 1 then $events + 100 else $events + 1 end)} end) as $ports
  | ($ports.replay - $ports.events | fabs) as $apart
  | if $apart < $ranks then error("ports \($ports.events) and \($ports.replay) are closer than \($ranks) ranks, each of which has the next port of both") else . end
  | [$ports.events, $ports.replay | range(.; . + $ranks)] as $taken
  | if [$http // 8000] - $taken == [] then error("port \($http // 8000) is where it takes requests: say --events-port, --replay-port") else . end
  | ([template.spec.containers[] | select(.name != $engine.name) | (.ports // [])[] | .containerPort | select([.] - $taken == [])] | first) as $other
  | if $other != null then error("port \($other) is another container's of this pod: say --events-port, --replay-port") else . end
  | .done = {container: $engine.name, list: null, script: false, at: null, value: null, ports: [], labels: {}, annotations: {}}
  # The flag.
  | value($ports.events; $ports.replay) as $value
  | if $given != null then .
    elif $script != null then
      .done += {list: $script.list, script: true, at: $script.at, value: $value}
      | .spec.template.spec.containers[$at][$script.list][$script.at] |= (capture("^(?<text>.*?)(?<end>\\s*)$"; "p") | "\(.text) \(flag) '\($value)'\(.end)")
    else
      (if ($engine.args // []) == [] and ($engine.command // []) != [] then "command" else "args" end) as $list
      | .done += {list: $list, value: $value}
      | .spec.template.spec.containers[$at][$list] += [flag, $value]
    end
  # The ports, for whoever reads the Deployment.
  | reduce ({name: "kv-events", port: $ports.events}, {name: "kv-replay", port: $ports.replay}) as $port (.;
      (.spec.template.spec.containers[$at].ports // []) as $have
      | if $have | any(.containerPort == $port.port) then .
        elif $have | any(.name == $port.name) then error("the container has a port \($port.name) already, which is not \($port.port)")
        else .done.ports += [$port.name]
          | .spec.template.spec.containers[$at].ports += [{name: $port.name, containerPort: $port.port, protocol: "TCP"}] end)
  # The words that kvroute goes by.
  | (.spec.selector.matchLabels // {}) as $selector
  | if $selector["model.aibrix.ai/kv-events-enabled"] // "true" != "true" then error("the Deployment selects its pods by model.aibrix.ai/kv-events-enabled, which cannot be changed") else . end
  | set_word("labels"; "model.aibrix.ai/kv-events-enabled"; "true")
  | (template.metadata.labels["model.aibrix.ai/name"]) as $found_by
  | if $found_by != null and $model == "" then . else
      (if $model != "" then $model else model_of($words; $at) end) as $name
      | if $name == null or ($name | test("[$\"']|^-|^$")) then error("which model it serves is not to be seen: say --model, as clients name it") else . end
      | if $name | test("^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$") then set_word("labels"; "model.aibrix.ai/name"; $name)
        else
          # A label cannot hold it: the annotation says it, the label is what pods are found by.
          (if $found_by != null then . else set_word("labels"; "model.aibrix.ai/name"; ($name | gsub("[^-A-Za-z0-9_.]"; "-") | .[-63:] | sub("^[^A-Za-z0-9]+"; "") | sub("[^A-Za-z0-9]+$"; ""))) end)
          | set_word("annotations"; "kvroute.io/model"; $name)
        end
    end
  | if $http != null and $http != 8000 and template.metadata.labels["model.aibrix.ai/port"] == null
      and template.metadata.annotations["kvroute.io/port"] == null
    then set_word("labels"; "model.aibrix.ai/port"; ($http | tostring)) else . end
  | if $ports.events != 5557 or $ports.replay != 5558 or $ranks != 1 then
      set_word("annotations"; "kvroute.io/events-port"; ($ports.events | tostring))
      | set_word("annotations"; "kvroute.io/replay-port"; ($ports.replay | tostring))
      | set_word("annotations"; "kvroute.io/ranks"; ($ranks | tostring))
    else . end
  | .done as $done | del(.done)
  | if $done.list == null and $done.ports == [] and $done.labels == {} and $done.annotations == {} then .
    else .metadata.annotations[noted] = ($done | tojson) end;

del(.status)
| . as $now
| try {now: $now, then: (take_back | if $undo then . else migrate end)} catch {refused: .}
JQ

found="$("${kubectl[@]}" get deployment "$deployment" -o json)"
result="$(jq --arg container "$container" --arg model "$model" --argjson events "$events" --argjson replay "$replay" \
  --argjson steps "$steps" --argjson undo "$undo" "$program" <<<"$found")"
refused="$(jq -r '.refused // empty' <<<"$result")"
if [ -n "$refused" ]; then
  echo "$deployment: refused: $refused" >&2
  exit 1
fi
if [ "$(jq '.now == .then' <<<"$result")" = true ]; then
  echo "$deployment: nothing to do"
  exit 0
fi
# `diff` ends with 1 where there is a difference.
diff -u --label "$deployment, as it is" --label "$deployment, as it would be" \
  <(jq -S .now <<<"$result") <(jq -S .then <<<"$result") || [ $? = 1 ]
if [ "$apply" = false ]; then
  echo "$deployment: nothing was changed; --apply does it, and replaces its pods, whose caches are lost"
  exit 0
fi
# With the version that was read: a change in between is an error, not overwritten. The server checks the fields all the same.
jq .then <<<"$result" | "${kubectl[@]}" replace --validate=false -f - >/dev/null
if [ "$undo" = true ]; then
  echo "$deployment: taken back; its pods are being replaced"
else
  echo "$deployment: changed; its pods are being replaced: ${kubectl[*]} rollout status deployment/$deployment"
fi
