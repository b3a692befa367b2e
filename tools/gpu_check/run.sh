# How tools/gpu-check runs its steps: in order of importance, each with its limit, until the total time is over.
# Sourced, not run.
#
# OUT/steps/NAME has the result in words, the seconds that the step took and the seconds that it was given, separated by
# tabs. OUT/steps/NAME.log has the command and its whole output. A step without OUT/steps/NAME is waiting.

names=()
declare -A about=() limits=() makers=() tried=()

# plan NAME ABOUT LIMIT MAKER...: registers a step; steps are planned in order of importance. ABOUT: expected seconds on
# an H200. MAKER is called when the step's turn comes; it sets the array `command`, or `why` if the step cannot run.
plan() {
    names+=("$1")
    about[$1]=$(($2 * patience))
    limits[$1]=$(($3 * patience))
    # Times mean nothing with small shapes.
    [ -z "$small" ] || about[$1]=1
    makers[$1]=${*:4}
}

wanted() { # STEP
    case ",$skip," in *",$1,"*) return 1 ;; esac
    [ -z "$only" ] && return 0
    case ",$only," in *",$1,"*) return 0 ;; esac
    return 1
}

# look STEP: sets `became` to the step's result ("running" or "waits" if it has none), `spent` to its seconds, and `had`
# to the seconds it was given. It starts no process, because a report looks at every step.
look() {
    became=waits spent='' had=0
    if [ "${current:-}" = "$1" ]; then
        became=running
    elif [ -e "$out/steps/$1" ]; then
        IFS=$'\t' read -r became spent had <"$out/steps/$1"
    fi
}

# Whether a step need not run again. A step that was stopped early or lacked something must.
is_done() { # STEP
    look "$1"
    case $became in ok | failed* | stopped*) return 0 ;; esac
    return 1
}

note() { # STEP RESULT SECONDS HAD
    printf '%s\t%s\t%s\n' "$2" "$3" "$4" >"$out/steps/$1.new"
    mv "$out/steps/$1.new" "$out/steps/$1"
    say "$1: $2 ($3 s)"
    report
}

# Seconds until the end.
left() { say $((seconds == 0 ? 1000000 : seconds - SECONDS)); }

# Seconds that must be left to start a step: its expected time, and more than it had in an earlier failed attempt.
needs() {
    local needed=${about[$1]}
    look "$1"
    case $became in cut*) [ "$had" -lt "$needed" ] || needed=$((had + 1)) ;; esac
    say "$needed"
}

step() { # NAME
    local name=$1 log=$out/steps/$1.log start=$SECONDS most rc result
    command=() why="no reason given"
    ${makers[$name]}
    if [ ${#command[@]} = 0 ]; then
        note "$name" "skipped: $why" 0 0
        return
    fi
    most=$(left)
    [ "$most" -lt "${limits[$name]}" ] || most=${limits[$name]}
    rm -f "$out/steps/$name"
    # If the machine is taken away during the step, the report says that it was running.
    current=$name
    report
    say "$name: running, at most $most s"
    say "\$ ${command[*]}" >"$log"
    timeout -k 5 "$most" "${command[@]}" >>"$log" 2>&1 </dev/null
    rc=$?
    current=
    case $rc in
    0) result=ok ;;
    *) result="failed with $rc" ;;
    esac
    if [ "$rc" = 124 ] || { [ "$rc" = 137 ] && [ $((SECONDS - start)) -ge "$most" ]; }; then
        result="stopped after $most s, its limit"
        [ "$most" -ge "${limits[$name]}" ] || result="cut off after $most s, at the end of the time"
    fi
    # A test that finds no device passes on machines that have none; here that proves nothing.
    if [ $rc = 0 ] && grep -q '^skipped: ' "$log"; then result="failed: it was skipped"; fi
    # Neither does a name that matches no test.
    if [ $rc = 0 ] && grep -q '^running 0 tests' "$log"; then result="failed: there is no such test"; fi
    note "$name" "$result" $((SECONDS - start)) "$most"
}

# pass fitting | any: starts the waiting steps in order; `fitting`: only those expected to finish in time.
pass() {
    local name
    for name in "${names[@]}"; do
        wanted "$name" && [ -z "${tried[$name]:-}" ] && ! is_done "$name" || continue
        # Too little time to start any program.
        [ "$(left)" -ge 2 ] || return
        [ "$1" = any ] || [ "$(needs "$name")" -le "$(left)" ] || continue
        tried[$name]=1
        step "$name"
    done
}

# Identity of the results: other programs, another GPU or other sizes give other results.
belonging() {
    cat "$dir/commit"
    say "$card_line"
    say "${small:-whole}"
}

# The device's line in `hired devices --json`, and its name and compute capability.
find_card() {
    card_line=$("$bin/hired" devices --json 2>/dev/null | grep -o '"kind":"cuda"[^}]*' | head -1)
    card_name=$(sed -n 's/.*"name":"\([^"]*\)".*/\1/p' <<<"$card_line")
    capability=$(sed -n 's/.*"compute_capability":\([0-9]*\).*/\1/p' <<<"$card_line")
    [ -n "$capability" ] || die "no CUDA device here: $("$bin/hired" devices 2>&1 | grep '^cuda' | tail -1)"
    if [ -z "$card" ]; then
        card=h200
        [ "$capability" -ge 80 ] || card=p40
    fi
    patience=1 reps=3
    if [ "$card" = p40 ]; then patience=6 reps=2; fi
    seconds=${seconds:-$([ "$card" = p40 ] && say 0 || say 480)}
}

# cuBLAS is optional, and often installed where the loader does not search, under its full name only.
find_cublas() {
    local newest=99 found
    # cuBLAS 13 does not support Pascal and Volta.
    [ "$capability" -ge 75 ] || newest=12
    found=$(find /usr/local /opt /usr/lib -name 'libcublas.so.[0-9]*' ! -path '*/stubs/*' -exec realpath {} + 2>/dev/null | sort -u |
        sed -n 's|.*/libcublas\.so\.\([0-9.]*\)$|\1\t&|p' | awk -v newest="$newest" '$1 + 0 < newest + 1' | sort -V | tail -1 | cut -f2)
    if [ -n "$found" ] && ! ldconfig -p 2>/dev/null | grep -q 'libcublas\.so '; then
        ln -s "$found" "$work/libcublas.so"
        export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$work:$(dirname "$found")
    fi
    export HIRED_FOUND_CUBLAS=${found:-none}
}

run() {
    local name
    find_card
    make_plan
    if [ -n "${listed:-}" ]; then
        for name in "${names[@]}"; do printf '%-22s about %4s s, at most %4s s\n' "$name" "${about[$name]}" "${limits[$name]}"; done
        return
    fi
    for name in ${only//,/ } ${skip//,/ }; do
        case " ${names[*]} " in *" $name "*) ;; *) die "there is no step $name (--list names them)" ;; esac
    done
    if [ -d "$out/steps" ] && { [ "$(belonging)" != "$(cat "$out/belonging" 2>/dev/null)" ] || [ -n "$again" -a -z "$only" ]; }; then
        say "what $out holds is of another pack or card, or to be made anew: it goes to $out/steps.old"
        rm -rf "$out/steps.old"
        mv "$out/steps" "$out/steps.old"
    fi
    mkdir -p "$out/steps" || die "cannot write to $out"
    belonging >"$out/belonging"
    if [ -n "$again" ]; then
        for name in ${only//,/ }; do rm -f "$out/steps/$name"; done
    fi
    date -u '+%F %H:%M UTC' >"$out/date"
    find_cublas
    # Tests use the folder in which they were built; here the files are elsewhere.
    export HIRED_FIXTURES=$dir/tests/fixtures HIRED_REQUIRE_GPU=1 RUST_BACKTRACE=1
    # Lets the driver cache compiled PTX for all processes and calls. Otherwise each process compiles it for a dozen
    # seconds.
    export CUDA_CACHE_DISABLE=0 CUDA_CACHE_MAXSIZE=2147483648 CUDA_CACHE_PATH=$scratch/hired-gpu-check/compiled
    mkdir -p "$CUDA_CACHE_PATH" || die "cannot write to $scratch: --scratch"

    pass fitting
    # Steps that were expected to take longer than the time left: the expectation may be wrong.
    pass any

    report
    local ok=0 skipped=0 waiting=0 failed=
    for name in "${names[@]}"; do
        wanted "$name" || continue
        look "$name"
        case $became in
        ok) ok=$((ok + 1)) ;;
        skipped*) skipped=$((skipped + 1)) ;;
        failed* | stopped*) failed+=" $name" ;;
        *) waiting=$((waiting + 1)) ;;
        esac
    done
    say "after $SECONDS s: $ok ok, $(wc -w <<<"$failed") failed, $skipped skipped, $waiting wait; the report is $out/report.md"
    if [ -n "$failed" ]; then
        echo "gpu-check: FAILED:$failed" >&2
        exit 1
    fi
    if [ "$waiting" -gt 0 ]; then
        say "the same command goes on with what waits"
        exit 3
    fi
}
