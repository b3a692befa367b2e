# The steps of tools/gpu-check, in order of importance. Sourced, not run. A maker sets `command`, or `why` there is
# none.

# Expected seconds and limits are predictions for an H200 with 16 processors: 8 minutes reach the first sanitizers.
make_plan() {
    local path paths=() tool
    # The same GPU can run the code of older architectures.
    if [ "$capability" -ge 75 ]; then paths+=(61); fi
    if [ "$capability" -ge 80 ]; then paths+=(75); fi

    plan facts 3 30 make_facts
    plan modules 5 60 make_test devices every_device_loads_the_code_it_is_said_to_run
    plan whole 15 90 make_whole
    plan half 25 90 make_test half a_card_in_half_is_near_the_cpu
    plan corpus 30 120 make_test ops the_card_agrees_with_the_cpu
    plan real-sizes 40 120 make_test ops the_card_agrees_at_real_sizes
    plan integers 20 120 make_test ops the_card_multiplies_integers_at_real_sizes
    plan kernels 40 120 make_kernels
    plan kernels-q8 15 90 make_kernels --dtype q8
    plan kernels-q4 25 120 make_kernels --dtype q4
    plan 7b-trial 10 60 make_trial
    plan 7b-own 30 120 make_seven --gemm own --kernels
    plan 7b-q8 40 150 make_integers q8
    plan 7b-q4 60 200 make_integers q4
    plan 7b-cublas 30 120 make_cublas
    plan transformers 60 150 make_peers
    # The first process of a code path waits for the driver's compiler.
    for path in "${paths[@]}"; do
        plan "corpus-$path" 45 120 make_forced "$path" make_test ops the_card_agrees_with_the_cpu
        plan "whole-$path" 15 90 make_forced "$path" make_whole
        plan "integers-$path" 30 120 make_forced "$path" make_test ops the_card_multiplies_integers_at_real_sizes
    done
    for tool in memcheck racecheck initcheck synccheck; do
        plan "$tool" 30 90 make_sanitizer "$tool" one
    done
    for path in "${paths[@]}"; do
        plan "half-$path" 25 90 make_forced "$path" make_test half a_card_in_half_is_near_the_cpu
        plan "kernels-$path" 50 120 make_forced "$path" make_kernels
        plan "kernels-q8-$path" 20 90 make_forced "$path" make_kernels --dtype q8
        plan "kernels-q4-$path" 30 120 make_forced "$path" make_kernels --dtype q4
        plan "7b-own-$path" 40 120 make_forced "$path" make_seven --gemm own
    done
    plan 7b-drawing 40 120 make_drawing
    plan 7b-methods 60 150 make_methods
    plan 7b-no-graph 15 60 make_bench --gemm own --budgets 20% --batch 1 --no-graph
    plan 7b-timeline 15 60 make_timeline
    for tool in memcheck racecheck initcheck synccheck; do
        plan "$tool-sample" 60 150 make_sanitizer "$tool" sample
    done
    plan kernels-f32 60 150 make_kernels --dtype f32
    plan 7b-files 90 300 make_files
}

make_facts() { command=(bash "$self" --facts "$bin"); }

make_test() { command=("$bin/$1" --exact "$2" --nocapture); } # PROGRAM TEST

make_whole() {
    make_test cuda a_card_gives_the_tokens_of_transformers
    [ -z "$small" ] || command=("$bin/cuda" --exact child_batch --ignored --nocapture)
}

make_kernels() { command=("$bin/kernels" $small "$@"); }

make_forced() { # PATH MAKER...
    local path=$1
    shift
    "$@"
    [ ${#command[@]} = 0 ] || command=(env "HIRED_FORCE_ARCH=$path" "${command[@]}")
}

# OPTION...: LLaVA-v1.6-vicuna-7b with random weights made on the GPU, in f16 or in the caller's `dtype`.
make_bench() {
    command=("$bin/hired" bench --device cuda --reps "$reps")
    if [ -n "$small" ]; then
        command+=(--synthetic tiny --new-tokens 3 --prompt-tokens 8 --image "$dir/tests/fixtures/images/plain-26x51.bmp")
        [ -z "${dtype:-}" ] || command+=(--dtype "$dtype")
    else
        command+=(--synthetic llava-v1.6-vicuna-7b --dtype "${dtype:-f16}")
    fi
    command+=("$@")
}

# One request, to decide whether this GPU gets all batch sizes.
make_trial() {
    local reps=1
    make_bench --budgets 20% --batch 1 --format json
}

# Seconds of the trial's request; empty if there was none.
trial() {
    look 7b-trial
    [ "$became" = ok ] || return
    # Tokens per second over the whole answer, which had 100 tokens.
    sed -n 's/.*"throughput_with_prefill":\([0-9.]*\).*/\1/p' "$out/steps/7b-trial.log" | awk '$1 > 0 { print 100 / $1; exit }'
}

make_seven() { # OPTION...
    local batches=1,4
    # Where a request takes more than a second, three batch sizes at each budget would take a quarter of an hour.
    [ "$(trial | awk '{ print ($1 <= 1) }')" != 1 ] || batches=1,2,4
    if [ -n "$small" ]; then
        make_bench --budgets 20% --batch 1 "$@"
    else
        # A GPU with 24 GB or less has not enough memory for some; `bench` says which, and measures the others.
        make_bench --budgets full,20% --batch "$batches" "$@"
    fi
}

make_integers() { # q8 | q4
    local dtype=$1
    make_seven --gemm own --kernels
    # Groups of 128 do not divide the rows of the smallest model.
    if [ -n "$small" ] && [ "$dtype" = q4 ]; then command+=(--group 32); fi
}

make_cublas() {
    if [ "$HIRED_FOUND_CUBLAS" = none ]; then
        why="no cuBLAS here"
    else
        make_seven --gemm cublas --kernels
    fi
}

has_torch() { python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2>/dev/null; }

make_peers() {
    if [ -n "$small" ]; then
        why="small shapes"
    elif ! has_torch; then
        why="no python3 with torch, transformers and this card"
    else
        command=(python3 "$dir/tools/compare_transformers.py" --synthetic llava-v1.6-vicuna-7b --device cuda
            --budgets full,20% --reps "$reps" --out "$out/transformers.jsonl")
    fi
}

# Plots all budgets, beside transformers where that was measured.
make_drawing() {
    make_bench --gemm auto --budgets full,40%,30%,20%,10% --batch 1 --plot "$out/plot.svg"
    [ -z "$small" ] || make_bench --gemm auto --budgets full,20% --batch 1 --plot "$out/plot.svg"
    if [ -s "$out/transformers.jsonl" ]; then command+=(--peers "$out/transformers.jsonl"); fi
}

make_timeline() { make_bench --gemm own --budgets 20% --batch 1 --timeline "$out/timeline.svg"; }

make_methods() {
    make_bench --budgets 20% --batch 1 --kernels \
        --methods hired,fastervlm,visionzip,divprune,scope,prumerge,prumerge+,fastv,spatial
}

make_sanitizer() { # TOOL one | sample
    local checked=(compute-sanitizer --tool "$1" --error-exitcode 9)
    if ! command -v compute-sanitizer >/dev/null; then
        why="no compute-sanitizer here"
        return
    elif [ "$card" = p40 ] && [ "$capability" -lt 75 ]; then
        why="compute-sanitizers of today do not know this card"
        return
    fi
    # A memory checker sees one allocation as one array.
    case $1 in memcheck | initcheck) checked=(env HIRED_SEPARATE_BUFFERS=1 "${checked[@]}") ;; esac
    if [ "$2" = one ]; then
        command=("${checked[@]}" "$bin/hired" run --device cuda --gemm own --dtype f16 --model "$dir/tests/fixtures/models/next-odd"
            --image "$dir/tests/fixtures/images/square-96x96.png" --prompt "What is it?" --budget 20% --max-new-tokens 3 --json)
    else
        # Some thousand cases in all, each of which takes a hundred times as long as without the checker.
        command=(env HIRED_EVERY=31 "${checked[@]}" "$bin/ops" --exact child_sample --ignored --nocapture)
    fi
}

# `load` contains the time to copy the files to the GPU. With two images, the second finds all kernels loaded.
make_files() {
    local model=$scratch/hired-gpu-check/synth-7b image=$dir/tests/fixtures/images/square-96x96.png free
    if [ -n "$small" ]; then
        why="small shapes"
        return
    fi
    free=$(df -Pk "$scratch" | awk 'NR == 2 { print int($4 / 1000000) }')
    if [ ! -e "$model.done" ] && [ "${free:-0}" -lt 16 ]; then
        why="16 GB are needed in $scratch, there are ${free:-0}: --scratch"
        return
    fi
    # A file that was only partly written is written again.
    command=(bash -c '[ -e "$2.done" ] || { rm -rf "$2" && "$1" synth --preset llava-v1.6-vicuna-7b --out "$2" && touch "$2.done"; } &&
        "$1" run --device cuda --dtype f16 --model "$2" --prompt "What is shown in this image?" --budget 20% --json \
            --image "$3" --image "$3"' files "$bin/hired" "$model" "$image")
}
