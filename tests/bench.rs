//! `hired bench`: what it prints, what it draws, and what it says of kernels against counts by hand.

#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[path = "support/emulator.rs"]
mod emulator;

use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
    command.arg("bench").args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed.
fn text(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const QUICK: [&str; 8] =
    ["--synthetic", "tiny", "--device", "cpu", "--new-tokens", "3", "--reps", "2"];

fn quick(more: &[&str]) -> Vec<Value> {
    lines(&text(&[&QUICK[..], &["--format", "json"], more].concat()))
}

/// Many clients: every one is answered, and pictures that were asked about before are known.
#[test]
fn clients_of_one_engine() {
    let few =
        ["--synthetic", "tiny", "--device", "cpu", "--new-tokens", "3", "--prompt-tokens", "9"];
    let load = ["--serve", "--budgets", "20%", "--clients", "1,3", "--requests", "8"];
    let repeated = ["--repeated", "0%,50%"];
    let run = |more: &[&str]| text(&[&few[..], &load, &repeated, more].concat());
    let rows = lines(&run(&["--format", "json"])).split_off(1);
    let kinds: Vec<_> = rows.iter().map(|row| (&row["repeated"], &row["clients"])).collect();
    assert_eq!(
        format!("{kinds:?}"),
        format!(
            "{:?}",
            [
                (Value::from(0.0), Value::from(1)),
                (Value::from(0.0), Value::from(3)),
                (Value::from(0.5), Value::from(1)),
                (Value::from(0.5), Value::from(3)),
            ]
            .iter()
            .map(|(a, b)| (a, b))
            .collect::<Vec<_>>()
        )
    );
    for row in &rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
        let (seconds, requests) = (number("seconds"), number("requests"));
        assert_eq!(requests, 8.0);
        assert!((number("requests_per_second") - requests / seconds).abs() < 1e-9);
        assert!((number("tokens_per_second") - 3.0 * requests / seconds).abs() < 1e-9);
        for what in ["ttft", "gap"] {
            let [half, most] = ["p50", "p99"].map(|share| number(&format!("{what}_{share}")));
            assert!(0.0 < half && half <= most && most < seconds, "{what} of {row}");
        }
        assert_eq!(row["images_known"], row["repeated"], "{row}");
        assert_eq!(number("tokens_known") > 0.0, number("repeated") > 0.0, "{row}");
    }
    let off = lines(&run(&["--cache-memory", "0", "--format", "json"])).split_off(1);
    assert!(off.iter().all(|row| row["images_known"] == 0.0), "{off:?}");
    let table = run(&["--format", "md"]);
    assert_eq!(table.lines().filter(|line| line.starts_with("| 20%")).count(), 4, "{table}");
    let refused = bench(&["--synthetic", "tiny", "--clients", "2"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--serve"));
}

/// The contract's keys.
const KEYS: [&str; 13] = [
    "method",
    "budget",
    "visual_tokens",
    "batch",
    "ttft",
    "preprocess",
    "vision",
    "select",
    "prefill",
    "decode_tokens_per_second",
    "throughput_with_prefill",
    "peak_memory",
    "predicted_peak",
];

#[test]
fn every_budget_and_batch_is_a_line_with_its_ratios() {
    let lines = quick(&["--budgets", "full,20%,7", "--batch", "1,2"]);
    let first = &lines[0];
    assert_eq!(first["device"]["kind"], "cpu");
    assert!(first["build"].as_str().unwrap().starts_with("hired "));
    let rows = &lines[1..];
    let asked: Vec<_> = rows.iter().map(|r| (r["budget"].as_str().unwrap(), &r["batch"])).collect();
    let expected = [("full", 1), ("full", 2), ("20%", 1), ("20%", 2), ("7", 1), ("7", 2)];
    for ((budget, batch), expected) in asked.iter().zip(expected) {
        assert_eq!((*budget, batch.as_u64().unwrap()), expected);
    }
    for row in rows {
        for key in KEYS {
            assert!(!row[key].is_null(), "{key} of {row}");
        }
        assert_eq!(row["peak_memory"], row["predicted_peak"]);
        let parts = ["preprocess", "upload", "vision", "select", "project", "prefill"];
        let sum: f64 = parts.iter().map(|key| row[*key].as_f64().unwrap()).sum();
        let ttft = row["ttft"].as_f64().unwrap();
        // Medians of the parts need not add up to the median of the whole, but nothing large is missing.
        assert!(sum > 0.5 * ttft && sum < 2.0 * ttft, "{sum} of {ttft}");
        for key in ["ttft", "prefill", "decode_tokens_per_second", "peak_memory"] {
            let full = rows.iter().find(|r| r["budget"] == "full" && r["batch"] == row["batch"]);
            let expected = row[key].as_f64().unwrap() / full.unwrap()[key].as_f64().unwrap();
            let ratio = row[format!("{key}_vs_full")].as_f64().unwrap();
            assert!((ratio - expected).abs() < 1e-9, "{key}: {ratio}, not {expected}");
        }
    }
    // 672×672 is a grid of two by two here: five partitions of 64 patches, 16 rows of the canvas.
    assert_eq!(rows[0]["visual_tokens"], 5 * 64 + 16);
    assert_eq!((&rows[2]["asked"], &rows[2]["kept"]), (&64.into(), &64.into()));
    assert_eq!((&rows[4]["asked"], &rows[4]["visual_tokens"]), (&7.into(), &7.into()));
}

#[test]
fn methods_are_measured_beside_each_other() {
    let methods =
        ["--methods", "hired,visionzip,prumerge", "--budgets", "full,20%", "--batch", "1"];
    let lines = quick(&methods);
    let rows = &lines[1..];
    let asked: Vec<_> = rows.iter().map(|r| [&r["method"], &r["budget"]]).collect();
    // The full budget once.
    let expected = [["hired", "full"], ["hired", "20%"], ["visionzip", "20%"], ["prumerge", "20%"]];
    assert_eq!(asked, expected);
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap();
        let ratio = number("select_of_vision");
        assert!((ratio - number("select") / number("vision")).abs() < 1e-9, "{row}");
        let full = &rows[0];
        let times = number("ttft_vs_full") * full["ttft"].as_f64().unwrap();
        assert!((times - number("ttft")).abs() < 1e-9, "{row}");
        assert!(number("peak_memory") <= number("predicted_peak"), "{row}");
        assert_eq!(row["host_round_trip"], false);
    }
    assert_eq!((&rows[2]["visual_tokens"], &rows[2]["merged"].as_u64()), (&64.into(), &Some(14)));
    assert!(rows[3]["visual_tokens"].as_u64() < Some(64));
    // Of other methods it is the same work: what is chosen and predicted says so.
    let alone = quick(&["--method", "visionzip", "--budgets", "20%", "--batch", "1"]);
    for key in ["method", "visual_tokens", "kept", "merged", "predicted_peak"] {
        assert_eq!(alone[1][key], rows[2][key], "{key}");
    }

    let table = text(&[&QUICK[..], &methods].concat());
    for part in [
        "| method | budget | batch |",
        "| visionzip | 20% | 1 | 64 |",
        "| speed-up |",
        "### What selecting costs",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let heads = table.lines().filter(|line| line.starts_with("| method "));
    let columns = |line: &str| line.matches('|').count();
    assert_eq!(heads.map(columns).collect::<Vec<_>>(), [13, 12]);
    let lines = table.lines().filter(|line| line.starts_with("| prumerge "));
    assert_eq!(lines.map(columns).collect::<Vec<_>>(), [13, 12]);
    let table = text(&[&QUICK[..], &["--format", "csv"], &methods].concat());
    let rows = csv::Reader::from_reader(table.as_bytes()).into_records().count();
    assert_eq!(rows, 4);
}

#[test]
fn without_a_full_row_there_are_no_ratios() {
    let lines = quick(&["--budgets", "20%", "--batch", "1", "--method", "full"]);
    assert!(lines[1]["ttft_vs_full"].is_null());
    assert_eq!(lines[1]["method"], "full");
    assert_eq!(lines[1]["kept"], 320);
}

#[test]
fn nothing_is_printed_when_nothing_could_be_measured() {
    let more = ["--budgets", "full,20%", "--batch", "1", "--prompt-tokens", "4090"];
    let output = bench(&[&QUICK[..], &more].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && told.contains("positions"), "{told}");
}

#[test]
fn tables_for_spreadsheets_and_for_people() {
    let arguments = [&QUICK[..], &["--budgets", "full,10%", "--batch", "1"]].concat();
    let table = text(&[&arguments[..], &["--format", "csv"]].concat());
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let head = reader.headers().unwrap().clone();
    for key in KEYS.into_iter().chain(["build", "model", "device"]) {
        assert!(head.iter().any(|column| column == key), "{key}");
    }
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 2);
    let cell = |row: usize, key: &str| {
        let at = head.iter().position(|column| column == key).unwrap();
        rows[row][at].to_owned()
    };
    assert_eq!([cell(0, "budget"), cell(1, "budget")], ["full", "10%"]);
    // Commas and all.
    assert!(cell(1, "device").contains("cores"));
    let table = text(&arguments);
    assert!(table.contains("| full | 1 | 320+16 |"), "{table}");
    let speed_up = |budget: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("| {budget} "))).unwrap();
        row.split('|').map(str::trim).find(|cell| cell.ends_with('×')).unwrap().to_owned()
    };
    assert_eq!(speed_up("full"), "1.00×");
    assert_ne!(speed_up("10%"), "1.00×");
    // Without a full budget there is nothing to compare with.
    let alone = [&QUICK[..], &["--budgets", "10%", "--batch", "1"]].concat();
    assert!(!text(&alone).contains("speed-up"));
}

#[test]
fn a_terminal_of_120_characters_has_room() {
    let methods = ["--methods", "hired,visionzip", "--budgets", "full,20%", "--batch", "1,2"];
    let table = text(&[&QUICK[..], &methods, &["--kernels", "--format", "table"]].concat());
    for line in table.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
    // Aligned: every row of the first table ends where its head does.
    let rows: Vec<&str> =
        table.lines().skip_while(|line| !line.starts_with("method ")).take(5).collect();
    assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()), "{table}");
    assert!(rows[0].ends_with("memory") && rows[1].ends_with("iB"), "{table}");
}

#[test]
fn drawings_and_peers() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (plot, timeline, peers) = (path("plot.svg"), path("timeline.svg"), path("peers.jsonl"));
    let peer = r#"{"engine":"another","budget":"full","batch":1,"visual_tokens":300,"ttft":0.5,"throughput_with_prefill":9}"#;
    std::fs::write(&peers, format!("{{\"torch\":\"2\"}}\n{peer}\n")).unwrap();
    let more = ["--budgets", "full,20%", "--batch", "1", "--peers", &peers];
    let drawn = ["--plot", &plot, "--timeline", &timeline];
    let lines = quick(&[&more[..], &drawn].concat());
    assert_eq!(lines.last().unwrap()["engine"], "another");
    assert!(lines[1]["ttft_floor"].as_f64().unwrap() > 0.0);
    assert!(lines[1]["ttft_floor"].as_f64() > lines[2]["ttft_floor"].as_f64());
    let plot = std::fs::read_to_string(plot).unwrap();
    for word in ["hired, batch 1", "lower bound, batch 1", "another", "seconds to the first token"]
    {
        assert!(plot.contains(word), "{word}");
    }
    let timeline = std::fs::read_to_string(timeline).unwrap();
    for word in ["vision", "prefill", "decode", "linear_add", "full, batch 1", "time, ms"] {
        assert!(timeline.contains(word), "{word}");
    }
    std::fs::write(&peers, "{\n").unwrap();
    let output = bench(&[&QUICK[..], &more].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1 is not JSON"));
}

#[test]
fn a_wrong_command_line_is_told_before_any_work() {
    for (arguments, word) in [
        (&["--device", "cpu"][..], "--model"),
        (&["--synthetic", "tiny", "--model", "x"], "--model"),
        (&["--synthetic", "none"], "tiny"),
        (&["--synthetic", "tiny", "--budgets", "full,0"], "0"),
        (&["--synthetic", "tiny", "--batch", "0"], "0"),
        (&["--synthetic", "tiny", "--format", "xml"], "xml"),
        (&["--synthetic", "tiny", "--methods", "magic"], "magic"),
        (&["--synthetic", "tiny", "--methods", "scope", "--method", "scope"], "--methods"),
    ] {
        let output = bench(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(word) && output.stdout.is_empty(), "{arguments:?}: {told}");
    }
}

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
    use super::emulator::{Build, Emulator};
    use super::*;

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
        let page = include_str!("../docs/json.md").split("\n## device of a GPU\n").nth(1).unwrap();
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
