//! `hired bench`: what it prints, what it draws, and what it says of kernels against counts by hand.

mod costs;
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[path = "../support/emulator.rs"]
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
