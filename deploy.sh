#!/usr/bin/env bash
# Usage: ./deploy.sh [-c CONFIG] [COMMAND]
#
#   bootstrap      create or update everything in AWS, then invoke "bootstrap" (the default)
#   build REPO [--function F]... [--ref R] [--subdirectory D] [--publish] [--alias A]
#         [--test-event FILE] [--dry-run] [--force]
#                  build a project and deploy it; F is REPO's last part unless given
#   rollback FUNCTION [--to COMMIT|VERSION|DIGEST] [--alias A] [--test-event FILE]
#                  put back a package that was deployed before; by default, what ran before this one
#   history FUNCTION
#                  show who builds a function now, and its last builds
#   doctor         say what is missing or wrong, here and in AWS; change nothing
#   local [--keep] [REPO]
#                  the whole thing on this machine, without an AWS account: an embedded AWS,
#                  bootstrap, build an example (or REPO), run what was built; --keep goes on serving
#   test [PYTEST ARGS]
#                  set up and run the test suite
#   help           print this
#
# Settings come from config.ini, or from CONFIG (see config.ini.example); the AWS environment
# variables (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...) count more.  Needed are bash and
# Python 3.11 or newer; the rest is installed into .venv, the AWS CLI too if there is none.
#
# Exit status: 0 done, 1 failed, 2 wrong usage.  YO_DAWG_TRACE=1 prints each command.
set -euo pipefail
[[ -z ${YO_DAWG_TRACE-} ]] || set -x

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly here venv=$here/.venv

# --- Words -----------------------------------------------------------------------------------

say() {
  printf -- '-----> %s\n' "$*" >&2
}

warn() {
  printf 'Warning: %s\n' "$*" >&2
}

abort() {
  printf 'deploy.sh: %s\n' "$*" >&2
  exit 1
}

misuse() {
  printf 'deploy.sh: %s\nTry "./deploy.sh help".\n' "$*" >&2
  exit 2
}

# The help is the comment at the top of this file.
cmd_help() {
  local line
  while IFS= read -r line; do
    [[ $line == '#!'* ]] && continue
    [[ $line == '#'* ]] || break
    line=${line#'#'}
    printf '%s\n' "${line# }"
  done <"$here/deploy.sh"
}

# --- Tools: Python, .venv, the AWS CLI -----------------------------------------------------------

readonly recent='import sys; sys.exit(sys.version_info < (3, 11))'

# Print the first usual name of Python that passes a test.  A name on PATH proves nothing: it may be
# an old version, or a version manager's shim for one that is not there.
python_that_can() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$name" -c "$1" </dev/null >/dev/null 2>&1; then
      printf '%s\n' "$name"
      return 0
    fi
  done
  return 1
}

# Set python, for the parts of this script in local/deploy.py.
find_python() {
  python=$venv/bin/python
  "$python" -c "$recent" </dev/null >/dev/null 2>&1 && return
  python=$(python_that_can "$recent") || abort "no Python 3.11 or newer runs here (tried python3 and" \
    "python3.11 to python3.14). Install one, e.g. from https://www.python.org/downloads/."
}

helper() {
  # -P: nothing in the directory that this was started from may pass for a module.
  PYTHONPATH=$here "$python" -P -m local.deploy "$@"
}

# Make .venv if it is missing or broken, and install the requirement files that it does not hold yet.
ensure_venv() {
  if ! "$venv/bin/python" -c "import pip; $recent" </dev/null >/dev/null 2>&1; then
    make_venv
  fi
  local file
  for file in "$@"; do
    install_requirements "$file"
  done
}

make_venv() {
  local base
  base=$(python_that_can "import ensurepip, venv; $recent") || abort "no Python 3.11 or newer here can make" \
    "a virtualenv: its modules venv and ensurepip are missing. On Debian and Ubuntu: apt install python3-venv."
  say "make .venv with $("$base" -c 'import platform; print("Python", platform.python_version())')"
  "$base" -m venv --clear "$venv" >&2 || abort "could not make $venv."
}

install_requirements() {
  # A copy of what was installed last: the same again needs no pip, and so no time.
  local stamp=$venv/.installed-${1//\//-}
  if [[ -e $stamp && $(<"$stamp") == "$(<"$here/$1")" ]]; then
    return
  fi
  say "install $1 into .venv"
  # --no-deps: the file names all that there is.  Where one requirement asks for another's extra, pip 23 would take
  # that other's newest release, which is not the one that is pinned, and fail.
  PIP_USER=0 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --no-deps --require-hashes -r "$here/$1" >&2 || abort "pip could not install $1. Is the package index reachable?"
  cp -- "$here/$1" "$stamp"
}

# Set aws to an AWS CLI that runs: the first such on PATH, else the one in .venv.
find_aws() {
  local candidate
  while IFS= read -r candidate; do
    if try_aws "$candidate"; then
      return
    fi
  done < <(type -aP aws)
  try_aws "$venv/bin/python" -P -m awscli
}

try_aws() {
  local said
  said=$("$@" --version 2>&1 </dev/null) || return 1
  [[ $said =~ aws-cli/([0-9]+)\.([0-9]+)\.[0-9.]+ ]] || return 1
  # Older ones, such as that of Ubuntu 22.04, know neither S3's checksums nor the size of /tmp.
  ((BASH_REMATCH[1] > 2 || BASH_REMATCH[2] >= (BASH_REMATCH[1] == 1 ? 25 : 7))) || return 1
  # Older ones, such as that of Debian 12, do not know AWS_ENDPOINT_URL, and would ask the real AWS.
  local endpoints=("${!AWS_ENDPOINT_URL@}")
  ((${#endpoints[@]} == 0 || BASH_REMATCH[1] > 2 || BASH_REMATCH[2] >= (BASH_REMATCH[1] == 1 ? 29 : 13))) || return 1
  aws=("$@") aws_version=${BASH_REMATCH[0]}
  # Version 2 takes a payload for base64 unless told otherwise; version 1 does not know the option.
  payload_is_json=()
  [[ ${BASH_REMATCH[1]} == 1 ]] || payload_is_json=(--cli-binary-format raw-in-base64-out)
}

ensure_aws() {
  find_aws && return
  ensure_venv requirements.txt
  find_aws || abort "no AWS CLI runs, not even the one in $venv. Remove that folder and try again."
}

call() {
  "${aws[@]}" "$@"
}

# Print the one line of the AWS CLI's words that says what happened: AWS's own, else the last one.
reason() {
  local line last=''
  while IFS= read -r line; do
    [[ -z $line ]] || last=$line
    [[ $line != *'An error occurred'* ]] || break
  done <<<"$1"
  printf '%s' "${last#'aws: [ERROR]: '}"
}

# --- Settings ------------------------------------------------------------------------------------

# Set what config.ini says, and let the AWS environment have the last word.
read_settings() {
  scratch=$(mktemp -d)
  trap 'rm -rf -- "$scratch"' EXIT
  find_python
  helper settings "$config" >"$scratch/settings"
  local pair
  while IFS= read -r -d '' pair; do
    case ${pair%%=*} in
      aws_profile) aws_profile=${pair#*=} ;;
      aws_region) aws_region=${pair#*=} ;;
      deployment_bucket) bucket=${pair#*=} ;;
      function_name) function_name=${pair#*=} ;;
      stack_name) stack_name=${pair#*=} ;;
      timeout) timeout=${pair#*=} ;;
      secrets) secrets=${pair#*=} ;;
    esac
  done <"$scratch/settings"
  export_aws_settings
}

export_aws_settings() {
  local given=${AWS_PROFILE-}${AWS_DEFAULT_PROFILE-}${AWS_ACCESS_KEY_ID-}${AWS_WEB_IDENTITY_TOKEN_FILE-}
  given+=${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI-}${AWS_CONTAINER_CREDENTIALS_FULL_URI-}
  # An empty AWS_PROFILE would be looked up as a profile without a name.
  [[ -n ${AWS_PROFILE-} ]] || unset AWS_PROFILE
  if [[ -z $given && -n $aws_profile ]]; then
    export AWS_PROFILE=$aws_profile
  fi
  region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$aws_region}}
  # Version 1 of the CLI reads only the second one, version 2 prefers the first.
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region
  export AWS_PAGER='' AWS_DEFAULT_OUTPUT=json
}

know_account() {
  account=$(call sts get-caller-identity --query Account --output text) ||
    abort "AWS does not know who you are. Run \"aws configure\" (or \"aws sso login\"), or set AWS_PROFILE."
  say "account $account, region $region, function $function_name"
}

# --- bootstrap -----------------------------------------------------------------------------------

cmd_bootstrap() {
  (($# == 0)) || misuse "bootstrap takes no arguments, but got: $*"
  read_settings
  ensure_venv requirements.txt
  python=$venv/bin/python
  ensure_aws
  know_account
  changed=''
  ensure_bucket
  upload_code
  ensure_stack
  settle_function
  [[ -n $changed ]] || say "bucket, code, stack and function are as they should be: nothing was changed"
  say 'invoke "bootstrap"'
  invoke action=bootstrap
}

ensure_bucket() {
  local said
  if said=$(call s3api head-bucket --bucket "$bucket" --expected-bucket-owner "$account" 2>&1); then
    check_bucket
    return
  fi
  case $said in
    *'(404)'* | *NoSuchBucket*) make_bucket ;;
    *'(403)'*) abort "$(bucket_refused)" ;;
    *'(301)'*) abort "$(bucket_elsewhere)" ;;
    *) abort "cannot look at the bucket $bucket: $(reason "$said")" ;;
  esac
}

bucket_refused() {
  printf '%s' "the bucket $bucket belongs to somebody else, or you may not use it: S3 answers 403. " \
    "Choose another deployment_bucket in $config (names are unique in the world)."
}

bucket_elsewhere() {
  printf '%s' "the bucket $bucket is not in $region, where Lambda needs it. " \
    "Choose another deployment_bucket or aws_region in $config."
}

bucket_region() {
  local where
  where=$(call s3api get-bucket-location --bucket "$bucket" --expected-bucket-owner "$account" \
    --query LocationConstraint --output text) || return 1
  case $where in
    None | null | '') echo us-east-1 ;;
    EU) echo eu-west-1 ;;
    *) echo "$where" ;;
  esac
}

check_bucket() {
  local where
  where=$(bucket_region) || abort "cannot tell in which region the bucket $bucket is."
  [[ $where == "$region" ]] || abort "$(bucket_elsewhere)"
  bucket_is_closed || warn "$(bucket_is_open)"
}

bucket_is_closed() {
  local blocks
  blocks=$(call s3api get-public-access-block --bucket "$bucket" --expected-bucket-owner "$account" \
    --query 'PublicAccessBlockConfiguration.[BlockPublicAcls,IgnorePublicAcls,BlockPublicPolicy,RestrictPublicBuckets]' \
    --output text 2>/dev/null) && [[ $blocks != *[Ff]alse* && $blocks != *None* ]]
}

bucket_is_open() {
  printf '%s' "the bucket $bucket does not block public access; it was there before, so it is left as it is. " \
    "Close it with: aws s3api put-public-access-block --bucket $bucket --public-access-block-configuration " \
    "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
}

make_bucket() {
  say "make the bucket $bucket: encrypted, public access blocked"
  local where=()
  [[ $region == us-east-1 ]] || where=(--create-bucket-configuration "LocationConstraint=$region")
  call s3api create-bucket --bucket "$bucket" ${where[@]+"${where[@]}"} >/dev/null ||
    abort "could not make the bucket $bucket. Names are unique in the world: if it is taken, choose" \
      "another deployment_bucket in $config."
  changed=yes
  call s3api put-public-access-block --bucket "$bucket" --expected-bucket-owner "$account" \
    --public-access-block-configuration \
    BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true ||
    abort "$(bucket_is_open)"
  call s3api put-bucket-encryption --bucket "$bucket" --expected-bucket-owner "$account" \
    --server-side-encryption-configuration \
    'Rules=[{ApplyServerSideEncryptionByDefault={SSEAlgorithm=AES256}}]' ||
    abort "could not turn on the encryption of the bucket $bucket."
}

# Set code_key and code_sha256.  The key is the content's digest: what is there need not be sent again.
upload_code() {
  local digests
  digests=$(helper package "$scratch/function.zip")
  code_key=$function_name/function/${digests% *}.zip
  code_sha256=${digests#* }
  # Its name alone proves nothing: whoever may write there could have put something else.
  local stored
  stored=$(call s3api head-object --bucket "$bucket" --key "$code_key" --expected-bucket-owner "$account" \
    --checksum-mode ENABLED --query ChecksumSHA256 --output text 2>/dev/null) || stored=''
  [[ $stored != "$code_sha256" ]] || return 0
  say "upload the builder's code to s3://$bucket/$code_key"
  call s3api put-object --bucket "$bucket" --key "$code_key" --body "$scratch/function.zip" \
    --checksum-sha256 "$code_sha256" --content-type application/zip --expected-bucket-owner "$account" \
    >/dev/null || abort "could not upload the builder's code."
  changed=yes
}

ensure_stack() {
  check_stack
  local pair parameters=()
  helper parameters "$config" "$code_key" >"$scratch/parameters"
  while IFS= read -r -d '' pair; do
    parameters+=("$pair")
  done <"$scratch/parameters"
  say "create or update the stack $stack_name"
  if ! call cloudformation deploy --template-file "$here/template.yaml" --stack-name "$stack_name" \
    --parameter-overrides "${parameters[@]}" --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
    --tags "yo-dawg=$function_name" >"$scratch/stack" 2>&1; then
    abort "the stack $stack_name could not be created or updated:"$'\n'"$(stack_reasons)"
  fi
  [[ $(<"$scratch/stack") == *'No changes to deploy'* ]] || changed=yes
}

# Print the stack's state and the name of its function, or nothing if there is no such stack.
stack_state() {
  call cloudformation describe-stacks --stack-name "$stack_name" --output text --query \
    "Stacks[0].[StackStatus, Parameters[?ParameterKey=='FunctionName'].ParameterValue | [0]]" \
    2>"$scratch/error" && return
  [[ $(<"$scratch/error") == *'does not exist'* ]] || abort "cannot look at the stack: $(reason "$(<"$scratch/error")")"
}

check_stack() {
  local state advice
  state=$(stack_state)
  advice=$(stack_advice "$state")
  [[ -z $advice ]] || abort "$advice"
}

# Say what is wrong with a stack in this state ("STATUS FUNCTION_NAME"), if anything is.
stack_advice() {
  local status name
  read -r status name <<<"$1"
  case $status in
    '' | REVIEW_IN_PROGRESS) return ;;
    ROLLBACK_COMPLETE | ROLLBACK_FAILED | CREATE_FAILED | DELETE_FAILED)
      echo "the stack $stack_name was never created whole ($status), and cannot be updated. Delete it, then run" \
        "this again: aws cloudformation delete-stack --region $region --stack-name $stack_name"
      ;;
    UPDATE_ROLLBACK_FAILED)
      echo "the last update of the stack $stack_name could not be rolled back. Look at it in the console, and run:" \
        "aws cloudformation continue-update-rollback --region $region --stack-name $stack_name"
      ;;
    *_IN_PROGRESS) echo "the stack $stack_name is being changed just now ($status). Wait, then run this again." ;;
    *)
      [[ $name == "$function_name" ]] || echo "there is a stack $stack_name that is not this builder's" \
        "(its function is: $name). Choose another function_name in $config."
      ;;
  esac
}

stack_reasons() {
  if call cloudformation describe-stack-events --stack-name "$stack_name" --max-items 100 \
    >"$scratch/events.json" 2>/dev/null; then
    helper failures "$scratch/events.json"
  fi
  cat -- "$scratch/stack"
}

# Compare the function with what was asked for, and mend what differs: a change made by hand, or what
# an imitation of CloudFormation does not know.
settle_function() {
  local before after
  before=$(function_differences)
  [[ -n $before ]] || return 0
  say "update the function:"$'\n'"$before"
  update_function code update-function-code
  update_function configuration update-function-configuration
  after=$(function_differences)
  [[ $after == "$before" ]] || changed=yes
  [[ $after != *CodeSha256* ]] || abort "the function $function_name does not run the uploaded code: $after"
  [[ -z $after ]] || warn "the function $function_name took the update, but still: $after"
}

function_differences() {
  call lambda get-function-configuration --function-name "$function_name" >"$scratch/function.json" ||
    abort "there is no function $function_name, although the stack $stack_name is there. If somebody deleted" \
      "it, delete the stack too, then run this again."
  helper differences "$config" "${code_key-}" "${code_sha256-}" "$scratch"
}

update_function() {
  [[ -e $scratch/$1.json ]] || return 0
  call lambda wait function-updated --function-name "$function_name" ||
    abort "an earlier update of the function $function_name does not end; look at it in the Lambda console."
  call lambda "$2" --cli-input-json "file://$scratch/$1.json" >/dev/null ||
    abort "could not update the function $function_name."
  call lambda wait function-updated --function-name "$function_name" ||
    abort "the function $function_name did not come out of its update; look at it in the Lambda console."
}

# --- build, rollback, history ----------------------------------------------------------------------

cmd_build() {
  local subject='' functions=() event=()
  read_event build REPO 'function|ref|subdirectory|alias|test-event' 'publish|dry-run|force' "$@"
  read_settings
  ensure_aws
  say "build $subject"
  ((${#functions[@]})) || functions=("function=${subject##*/}")
  invoke action=build "${functions[@]}" "repo_name=$subject" ${event[@]+"${event[@]}"}
}

cmd_rollback() {
  local subject='' functions=() event=()
  read_event rollback FUNCTION 'to|alias|test-event' '' "$@"
  read_settings
  ensure_aws
  say "roll back $subject"
  invoke action=rollback "function=$subject" ${event[@]+"${event[@]}"}
}

# Read the arguments of COMMAND into the caller's subject, functions and event.  It takes one SUBJECT,
# options with a VALUE, and FLAGS.  Usage: read_event COMMAND SUBJECT VALUED FLAGS [ARGUMENT...]
read_event() {
  local command=$1 wanted=$2 valued="^--($3)\$" flags="^--($4)\$" name
  shift 4
  while (($#)); do
    name=${1%%=*}
    if [[ $1 != -* ]]; then
      [[ -z $subject ]] || misuse "$command takes one $wanted, but got $subject and $1"
      subject=$1
    elif [[ $1 != -- && $1 =~ $flags ]]; then
      add_field "${1#--}"
    elif [[ ! $name =~ $valued ]]; then
      misuse "$command does not know the option $1"
    elif [[ $1 == *=* ]]; then
      add_field "${name#--}" "${1#*=}"
    else
      (($# >= 2)) || misuse "$1 wants a value"
      add_field "${name#--}" "$2"
      shift
    fi
    shift
  done
  [[ -n $subject ]] || misuse "$command wants a $wanted"
}

# Add an option's value to the event that read_event puts together.
add_field() {
  case $1 in
    function) functions+=("function+=$2") ;;
    test-event)
      [[ -r $2 ]] || abort "there is no file $2 to read the test event from."
      event+=("test_event:=@$2") # not its content, which may be larger than an argument can be
      ;;
    publish | dry-run | force) event+=("${1//-/_}:=true") ;;
    *) event+=("$1=$2") ;;
  esac
}

cmd_history() {
  (($# == 1)) || misuse 'history wants a FUNCTION, and nothing else'
  [[ $1 != -* ]] || misuse "history does not know the option $1"
  read_settings
  ensure_aws
  local key=$function_name/locks/${1##*:}
  if ! call s3api get-object --bucket "$bucket" --key "$key" "$scratch/ledger.json" >/dev/null 2>"$scratch/error"; then
    case $(<"$scratch/error") in
      *NoSuchKey* | *'(404)'*) abort "nothing was built for $1 yet: there is no s3://$bucket/$key." ;;
      *) abort "cannot read s3://$bucket/$key: $(reason "$(<"$scratch/error")")" ;;
    esac
  fi
  helper history "$scratch/ledger.json"
}

# Invoke the function, once, show its stages as they happen, and print its answer.  A client that loses
# patience, or tries again, would have to wait for the first build: so no retries, and more patience
# than the function has time.
invoke() {
  local token=$RANDOM$RANDOM$RANDOM invocation follower
  helper payload "$@" >"$scratch/event.json"
  local context
  context=$(helper context "${USER:-${LOGNAME:-somebody}}@${HOSTNAME:-somewhere}" "$token")
  # Each is the process itself, not a shell around it: so it can be ended.
  (AWS_MAX_ATTEMPTS=1 exec "${aws[@]}" lambda invoke --function-name "$function_name" \
    --invocation-type RequestResponse --log-type Tail --payload "file://$scratch/event.json" \
    --client-context "$context" --cli-read-timeout "$((timeout + 60))" ${payload_is_json[@]+"${payload_is_json[@]}"} \
    "$scratch/answer.json" >"$scratch/invocation.json" 2>"$scratch/error" </dev/null) &
  invocation=$!
  (PYTHONPATH=$here exec "$python" -P -m local.deploy follow "$token" "/aws/lambda/$function_name" "${aws[@]}" \
    >&2 </dev/null) &
  follower=$!
  local status=0
  trap 'interrupted INT "$invocation" "$follower"' INT
  trap 'interrupted TERM "$invocation" "$follower"' TERM
  wait "$invocation" || status=$?
  trap - INT TERM
  stop "$follower"
  ((status == 0)) || abort "$(invoke_advice "$(<"$scratch/error")")"
  helper reply "$scratch"
}

# End processes of ours, without the shell's words about it.
stop() {
  kill "$@" 2>/dev/null || true
  wait "$@" 2>/dev/null || true
}

# What Ctrl-C, or a CI that cancels, ends, and what not.  Usage: interrupted SIGNAL PID...
interrupted() {
  stop "${@:2}"
  printf '\n' >&2
  warn "what was asked for goes on in AWS, for at most $timeout s; only the waiting for it has ended." \
    "Run the same command again to get its answer, or \"./deploy.sh history FUNCTION\" to see what became of it." \
    "Its log is in CloudWatch, /aws/lambda/$function_name."
  rm -rf -- "$scratch"
  trap - INT TERM
  kill "-$1" $$ # so that who started this knows
}

invoke_advice() {
  reason "$1"
  echo
  case $1 in
    *ResourceNotFoundException*)
      echo "There is no function $function_name in $region. Run \"./deploy.sh bootstrap\" first."
      ;;
    *timeout* | *'timed out'* | *'Connection was closed'*)
      echo "It may be running all the same: the same command again waits for it and gets its answer." \
        "Its log is /aws/lambda/$function_name."
      ;;
  esac
}

# --- doctor ----------------------------------------------------------------------------------------

cmd_doctor() {
  (($# == 0)) || misuse "doctor takes no arguments, but got: $*"
  sick=''
  doctor_here
  if doctor_config && doctor_identity; then
    doctor_bucket
    doctor_stack
    doctor_secrets
  fi
  [[ -z $sick ]]
}

finding() {
  printf '%-3s %-11s %s\n' "$1" "$2" "${*:3}"
}

well() {
  finding ok "$@"
}

# What is not there yet, and will be made.
note() {
  finding '--' "$@"
}

wrong() {
  finding '!!' "$@"
  sick=yes
}

doctor_here() {
  find_python
  well python "$("$python" -c 'import sys; print(sys.version.split()[0], "at", sys.executable)')"
  if "$venv/bin/python" -c "import pip; $recent" </dev/null >/dev/null 2>&1; then
    well .venv "is there"
  else
    note .venv 'is not there yet; "./deploy.sh bootstrap" makes it'
  fi
  if find_aws; then
    well aws "$aws_version at ${aws[0]}"
  else
    wrong aws 'no AWS CLI runs here, so AWS is not looked at; "./deploy.sh bootstrap" installs one into .venv'
  fi
}

doctor_config() {
  local faults line
  if faults=$(helper settings "$config" 2>&1 >/dev/null); then
    read_settings
    well config "$config"
    well region "$region"
    return
  fi
  while IFS= read -r line; do
    wrong config "$line"
  done <<<"$faults"
  return 1
}

doctor_identity() {
  [[ -n ${aws_version-} ]] || return 1
  local said
  if said=$(quick sts get-caller-identity --query '[Account, Arn]' --output text 2>&1); then
    read -r account said <<<"$said"
    well identity "account $account, $said"
    return
  fi
  local advice='run "aws configure" or "aws sso login", or set AWS_PROFILE'
  [[ $said != *connect* ]] || advice='is the network up, is AWS_ENDPOINT_URL right?'
  wrong identity "$(reason "$said"); $advice"
  return 1
}

# Someone waits at the terminal, and asking twice changes nothing.
quick() {
  AWS_MAX_ATTEMPTS=2 call "$@" --cli-connect-timeout 5 --cli-read-timeout 20
}

doctor_bucket() {
  local said
  if ! said=$(quick s3api head-bucket --bucket "$bucket" --expected-bucket-owner "$account" 2>&1); then
    case $said in
      *'(404)'*) note bucket "$bucket is not there yet; \"./deploy.sh bootstrap\" makes it" ;;
      *'(403)'*) wrong bucket "$(bucket_refused)" ;;
      *'(301)'*) wrong bucket "$(bucket_elsewhere)" ;;
      *) wrong bucket "$(reason "$said")" ;;
    esac
  elif [[ $(bucket_region) != "$region" ]]; then
    wrong bucket "$(bucket_elsewhere)"
  elif ! bucket_is_closed; then
    wrong bucket "$(bucket_is_open)"
  else
    well bucket "$bucket, in $region, closed to the public"
  fi
}

doctor_stack() {
  local state advice
  if ! state=$(stack_state 2>&1); then
    wrong stack "$(reason "$state")"
    return
  fi
  advice=$(stack_advice "$state")
  if [[ -z $state ]]; then
    note stack "$stack_name is not there yet; \"./deploy.sh bootstrap\" makes it"
  elif [[ -n $advice ]]; then
    wrong stack "$advice"
  else
    well stack "$stack_name, ${state%%[[:space:]]*}"
    doctor_function
  fi
}

doctor_function() {
  local said line
  if ! said=$(function_differences 2>&1); then
    wrong function "${said##*deploy.sh: }"
    return
  fi
  if [[ -z $said ]]; then
    well function "$function_name is as $config asks"
    doctor_inside
  fi
  while IFS= read -r line; do
    [[ -z $line ]] || wrong function "$line; run \"./deploy.sh bootstrap\""
  done <<<"$said"
}

# What it looks like from inside of Lambda, where the builds run.
doctor_inside() {
  local mark name text
  helper payload action=doctor >"$scratch/event.json"
  if ! AWS_MAX_ATTEMPTS=1 call lambda invoke --function-name "$function_name" --log-type Tail \
    --payload "file://$scratch/event.json" ${payload_is_json[@]+"${payload_is_json[@]}"} --cli-read-timeout 120 \
    "$scratch/answer.json" >"$scratch/invocation.json" 2>"$scratch/error"; then
    wrong inside "$(reason "$(<"$scratch/error")")"
    return
  fi
  if ! helper findings "$scratch" >"$scratch/findings" 2>"$scratch/error"; then
    wrong inside "$(<"$scratch/error")"
    return
  fi
  while IFS=$'\t' read -r mark name text; do
    case $mark in
      ok) well "$name" "$text" ;;
      *) wrong "$name" "$text" ;;
    esac
  done <"$scratch/findings"
}

doctor_secrets() {
  local secret
  for secret in $secrets; do # names without spaces: config.ini is checked
    doctor_secret "$secret"
  done
}

doctor_secret() {
  local secret=$1 said
  if said=$(quick secretsmanager describe-secret --secret-id "$secret" --query ARN --output text 2>&1); then
    well secret "$said"
  else
    wrong secret "$secret: $(reason "$said"); make it with: aws secretsmanager create-secret --region $region" \
      "--name $secret --secret-string file://FILE"
  fi
}

# --- local, test -----------------------------------------------------------------------------------

cmd_local() {
  ensure_venv requirements.txt local/requirements.txt
  export PYTHONPATH=$here
  exec "$venv/bin/python" -P -m local "$@"
}

cmd_test() {
  ensure_venv requirements.txt local/requirements.txt tests/requirements.txt
  cd -- "$here"
  exec "$venv/bin/python" -m pytest "$@"
}

# --- Dispatch --------------------------------------------------------------------------------------

main() {
  config=$here/config.ini
  while [[ ${1-} == -* ]]; do
    case $1 in
      -c)
        (($# >= 2)) || misuse '-c wants a file'
        config=$2
        shift 2
        ;;
      -h | --help) set -- help ;;
      *) misuse "there is no option $1" ;;
    esac
  done
  local command=${1-bootstrap}
  (($# == 0)) || shift
  case $command in
    bootstrap) cmd_bootstrap "$@" ;;
    build) cmd_build "$@" ;;
    rollback) cmd_rollback "$@" ;;
    history) cmd_history "$@" ;;
    doctor) cmd_doctor "$@" ;;
    local) cmd_local "$@" ;;
    test) cmd_test "$@" ;;
    help) cmd_help ;;
    *) misuse "there is no command $command" ;;
  esac
}

main "$@"
