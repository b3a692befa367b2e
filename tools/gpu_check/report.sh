# Writes OUT/report.md of tools/gpu-check from OUT/steps. Sourced, not run.

# output_of STEP: the step's output, without the command.
output_of() { [ ! -e "$out/steps/$1.log" ] || sed 1d "$out/steps/$1.log"; }

facts() {
    command -v nvidia-smi >/dev/null || say "no nvidia-smi"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit,ecc.mode.current,pstate --format=csv 2>/dev/null
    nvidia-smi 2>/dev/null | sed -n 's/.*\(CUDA Version: [0-9.]*\).*/\1/p'
    say "$(uname -sr), $(nproc) processors, $(free -g | awk '/^Mem/ { print $2 }') GB, $(getconf GNU_LIBC_VERSION)"
    "$bin/hired" devices
    say "cuBLAS: ${HIRED_FOUND_CUBLAS:-none}"
    # The steps of these that have run.
    command -v compute-sanitizer ncu nsys 2>/dev/null
    true
}

# verbatim STEP: the tables and lines of a step whose output is meant for reading.
verbatim() {
    say "## $1"
    say
    output_of "$1"
    say
}

# lines STEP PATTERN: matching lines of the step's output, unchanged.
lines() {
    output_of "$1" | grep -qE "$2" || return
    say "## $1"
    say
    output_of "$1" | grep -E "$2" | sed 's/^test [a-z_]* \.\.\. //' | head -150 | sed 's/^/    /'
    say
}

report() {
    local name
    {
        say "# gpu-check: $card_name"
        say
        say "commit $(sed -n 1p "$dir/commit") of $(sed -n 2p "$dir/commit"), run $(cat "$out/date")$([ -z "$small" ] ||
            say ', small shapes: times mean nothing')"
        say
        output_of facts | sed 's/^/    /'
        say
        say "| step | result | s |"
        say "|---|---|---:|"
        for name in "${names[@]}"; do
            look "$name"
            say "| $name | $became | $spent |"
        done
        say
        for name in "${names[@]}"; do
            look "$name"
            case $became in
            failed* | stopped* | cut*)
                say "## the end of $name"
                say
                output_of "$name" | tail -40 | cut -c1-400 | sed 's/^/    /'
                say
                ;;
            ok)
                case $name in
                7b-trial) ;;
                corpus* | real-sizes | integers* | *-sample) lines "$name" 'roundings$|cuBLAS' ;;
                whole* | half*) lines "$name" '^(test [a-z_]* \.\.\. )?(f16|near tie|whole requests|not checked)' ;;
                memcheck | racecheck | initcheck | synccheck) lines "$name" '^=+ ' ;;
                7b-files) lines "$name" '^\{' ;;
                kernels* | 7b* | transformers) verbatim "$name" ;;
                esac
                ;;
            esac
        done
    } >"$out/report.new"
    mv "$out/report.new" "$out/report.md"
}

# Writes the report of an earlier run, on a machine without that GPU too.
again_report() {
    [ -e "$out/belonging" ] || die "$out holds no run"
    card_line=$(grep '"kind":"cuda"' "$out/belonging")
    card_name=$(sed -n 's/.*"name":"\([^"]*\)".*/\1/p' <<<"$card_line")
    capability=$(sed -n 's/.*"compute_capability":\([0-9]*\).*/\1/p' <<<"$card_line")
    if grep -qx -e --small "$out/belonging"; then small=--small; fi
    patience=1
    make_plan
    report
}
