//! What the records of a bench say of kernels, against counts by hand.

use super::*;

/// Calls, FLOP and bytes of a kernel in a stage, over all lines whose name begins so.
fn told(lines: &[Value], name: &str, stage: &str) -> (u64, u64, u64) {
    let of = |line: &&Value| {
        line["kernel"].as_str().is_some_and(|k| k.starts_with(name)) && line["stage"] == stage
    };
    lines.iter().filter(of).fold((0, 0, 0), |(calls, flops, bytes), line| {
        let number = |key: &str| line[key].as_u64().unwrap();
        (calls + number("calls"), flops + number("flops"), bytes + number("bytes"))
    })
}

/// The preset `tiny` on a picture of one column and two rows of sub-images, at 10% with a prompt of 8 tokens: small
/// enough for the emulator.
mod tiny {
    use hired::config::ModelConfig;

    pub const PARTITIONS: u64 = 3;
    /// A tenth of 3 · 64.
    pub const KEPT: u64 = 19;
    pub const PROMPT: u64 = 8 + KEPT;
    pub const ARGUMENTS: [&str; 10] = [
        "--image",
        "tests/fixtures/images/plain-26x51.bmp",
        "--budgets",
        "10%",
        "--batch",
        "1",
        "--prompt-tokens",
        "8",
        "--kernels",
        "--format=json",
    ];
    /// Decode steps of a profile: three tokens.
    pub const STEPS: u64 = 2;

    pub struct Sizes {
        pub vision: u64,
        pub vision_inner: u64,
        pub blocks: u64,
        pub width: u64,
        pub inner: u64,
        pub layers: u64,
        pub kv: u64,
        pub vocabulary: u64,
        pub tokens: u64,
    }

    pub fn sizes(config: &ModelConfig) -> Sizes {
        let (v, t) = (&config.vision, &config.text);
        let of = |n: usize| n as u64;
        Sizes {
            vision: of(v.hidden),
            vision_inner: of(v.intermediate),
            blocks: of(config.feature_blocks),
            width: of(t.hidden),
            inner: of(t.intermediate),
            layers: of(t.layers),
            kv: of(t.kv_heads * t.head_dim),
            vocabulary: of(t.vocab),
            tokens: of(v.patches()) + 1,
        }
    }
}

/// FLOP of the matrix products by hand: vision, projector, prompt, steps.
fn products() -> [u64; 4] {
    use tiny::{KEPT, PARTITIONS, PROMPT, STEPS, sizes};
    let config = hired::checkpoint::synth::Preset::Tiny.config().unwrap();
    let s = sizes(&config);
    let linear = |rows: u64, to: u64, from: u64| 2 * rows * to * from;
    let rows = PARTITIONS * s.tokens;
    let whole = 4 * linear(rows, s.vision, s.vision) + 2 * linear(rows, s.vision_inner, s.vision);
    // Keys and values of all rows, the rest of kept ones; the class queries that score.
    let last = 2 * linear(rows, s.vision, s.vision)
        + 2 * linear(KEPT, s.vision, s.vision)
        + 2 * linear(KEPT, s.vision_inner, s.vision)
        + linear(1 + PARTITIONS, s.vision, s.vision);
    let patches = linear(PARTITIONS * (s.tokens - 1), s.vision, 3 * 14 * 14);
    let projector = linear(KEPT, s.width, s.vision) + linear(KEPT, s.width, s.width);
    let qkv = |n| linear(n, s.width + 2 * s.kv, s.width);
    let rest = |n| linear(n, s.width, s.width) + 3 * linear(n, s.inner, s.width);
    let head = linear(1, s.vocabulary, s.width);
    [
        patches + (s.blocks - 1) * whole + last,
        projector,
        s.layers * qkv(PROMPT) + (s.layers - 1) * rest(PROMPT) + rest(1) + head,
        STEPS * (s.layers * (qkv(1) + rest(1)) + head),
    ]
}

/// FLOP of attention by hand: vision, prompt, steps.
fn attention() -> [u64; 3] {
    use tiny::{KEPT, PARTITIONS, PROMPT, STEPS, sizes};
    let config = hired::checkpoint::synth::Preset::Tiny.config().unwrap();
    let s = sizes(&config);
    let vision = (s.blocks - 1) * PARTITIONS * s.tokens + KEPT;
    let pairs = PROMPT * (PROMPT + 1) / 2;
    let steps = STEPS * PROMPT + STEPS * (STEPS + 1) / 2;
    [
        4 * vision * s.tokens * s.vision,
        s.layers * 4 * pairs * s.width,
        s.layers * 4 * steps * s.width,
    ]
}

const STAGES: [&str; 4] = ["vision", "project", "prefill", "decode"];

#[test]
fn operations_cost_what_a_hand_counts() {
    let lines = lines(&text(&[&QUICK[..], &tiny::ARGUMENTS].concat()));
    let flops = |name, stage| told(&lines, name, stage).1;
    assert_eq!(STAGES.map(|stage| flops("linear", stage)), products());
    let expected = attention();
    assert_eq!(flops("vision_attention", "vision"), expected[0]);
    assert_eq!(["prefill", "decode"].map(|stage| flops("attention", stage)), expected[1..]);
    // An RMSNorm before q, k and v and one before the MLP of each layer, and the last one; a row is read and written.
    let s = tiny::sizes(&hired::checkpoint::synth::Preset::Tiny.config().unwrap());
    let rows = tiny::PROMPT * (2 * s.layers - 1) + 1 + 1;
    let (calls, none, bytes) = told(&lines, "rms_norm", "prefill");
    assert_eq!((calls, none, bytes), (2 * s.layers + 1, 0, rows * s.width * 8));
    for line in lines.iter().filter(|line| line["kernel"].is_string()) {
        assert!(line["time"].as_f64().unwrap() > 0.0, "{line}");
    }
}

/// The same on the emulator: what each launch says of itself, also where kernels are fused.
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
mod emulated {
    use super::*;
    use crate::emulator::{Build, Emulator};

    #[test]
    fn kernels_cost_what_a_hand_counts() {
        let folder = Emulator::build(Build::Plain, &[]).folder().to_owned();
        let output = Command::new(env!("CARGO_BIN_EXE_hired"))
            .args(["bench", "--synthetic", "tiny", "--device", "cuda", "--dtype", "f32"])
            .args(["--gemm", "own", "--new-tokens", "3", "--reps", "1"])
            .args(tiny::ARGUMENTS)
            .env("LD_LIBRARY_PATH", folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = lines(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(lines[0]["device"]["kind"], "cuda");
        assert!(lines[0]["device"]["clock_mhz"].as_u64().unwrap() > 0);
        // docs/json.md tells of every key; a note comes only where cuBLAS is there and does not serve.
        let page =
            include_str!("../../docs/json.md").split("\n## device of a GPU\n").nth(1).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys = lines[0]["device"].as_object().unwrap().keys().map(String::as_str);
        let (mut rows, mut keys): (Vec<&str>, Vec<&str>) = (rows.collect(), keys.collect());
        rows.sort_unstable();
        keys.sort_unstable();
        assert_eq!(keys, rows);
        assert_eq!(lines[1]["peak_memory"], lines[1]["predicted_peak"]);

        let flops = |name, stage| told(&lines, name, stage).1;
        let made = STAGES.map(|stage| flops("gemm_", stage) + flops("gemv_", stage));
        assert_eq!(made, products());
        let expected = attention();
        assert_eq!(flops("attention_vision", "vision"), expected[0]);
        assert_eq!(flops("attention_prefill", "prefill"), expected[1]);
        assert_eq!(flops("attention_decode", "decode"), expected[2]);
        // Pixels, once: three bytes each of every partition, and the table that normalises them.
        let pixels = tiny::PARTITIONS * 3 * 112 * 112;
        let (calls, _, bytes) = told(&lines, "copy to the device", "upload");
        assert_eq!((calls, bytes), (2, pixels + 3 * 256 * 4));
        // A step reads every weight of the decoder once; q, k and v are one launch, the norms are part of the products.
        let s = tiny::sizes(&hired::checkpoint::synth::Preset::Tiny.config().unwrap());
        let (calls, ..) = told(&lines, "gemv_", "decode");
        assert_eq!(calls, tiny::STEPS * (4 * s.layers + 1));
        assert_eq!(told(&lines, "rms_norm", "decode").0, 0);
    }
}
