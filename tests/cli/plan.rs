//! `plan`: what a card can do, without the card.

use super::{failure, json, on_model, path, printed, words};
use serde_json::Value;
use std::fs;

const SEVEN: &str = "llava-v1.6-vicuna-7b";

/// The rows of a plan for a preset.
fn plan(preset: &str, rest: &str) -> Vec<Value> {
    let all = json(&words(&format!("plan --json --preset {preset} {rest}")));
    all.as_array().unwrap().clone()
}

fn bytes(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key}: {row}"))
}

fn seconds(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"))
}

#[test]
fn every_card_has_a_plan() {
    for (gpu, fitting) in [("p40", 5), ("t4", 4), ("orin-nx-16", 0), ("rtx-3060", 0), ("h200", 5)] {
        let rows = plan(SEVEN, &format!("--gpu {gpu}"));
        let budgets: Vec<&str> = rows.iter().map(|row| row["budget"].as_str().unwrap()).collect();
        assert_eq!(budgets, ["full", "40%", "30%", "20%", "10%"]);
        let visual: Vec<u64> = rows.iter().map(|row| bytes(row, "visual_tokens")).collect();
        assert_eq!(visual, [2928, 1152, 864, 576, 288]);
        for pair in rows.windows(2) {
            // Fewer tokens: less memory, sooner, faster, more together.
            assert!(bytes(&pair[0], "peak") > bytes(&pair[1], "peak"), "{gpu}");
            assert!(seconds(&pair[0], "ttft_floor") > seconds(&pair[1], "ttft_floor"), "{gpu}");
            assert!(seconds(&pair[0], "decode_floor") > seconds(&pair[1], "decode_floor"), "{gpu}");
            assert!(bytes(&pair[0], "largest_batch") <= bytes(&pair[1], "largest_batch"), "{gpu}");
        }
        for row in &rows {
            let parts = bytes(row, "weights") + bytes(row, "kv") + bytes(row, "workspace");
            assert_eq!(bytes(row, "peak"), parts, "{gpu}");
            let fits = row["fits"].as_bool().unwrap();
            assert_eq!(fits, bytes(row, "peak") <= bytes(row, "usable"), "{gpu}");
            assert_eq!(fits, bytes(row, "largest_batch") > 0, "{gpu}");
            assert!(seconds(row, "ttft_floor") < seconds(row, "ttft_expected"), "{gpu}");
            assert!(row["limit"].is_null());
        }
        let fit = rows.iter().filter(|row| row["fits"] == true).count();
        assert_eq!(fit, fitting, "{gpu}");
    }
}

#[test]
fn every_name_of_the_table_is_known() {
    let message = failure(&words("plan --preset tiny --gpu p100"), 2);
    assert!(message.contains("--gpu") && message.contains("p100"), "{message}");
    let (_, names) = message.split_once("[possible values: ").unwrap();
    let (names, _) = names.split_once(']').unwrap();
    assert!(names.split(", ").count() >= 20, "{message}");
    for name in names.split(", ") {
        let rows = plan("llava-1.5-7b", &format!("--gpu {name} --budgets full"));
        assert_eq!(bytes(&rows[0], "visual_tokens"), 576, "{name}");
    }
}

/// What a preset needs is known before it is written, and is what its files then need.
#[test]
fn a_preset_needs_what_its_checkpoint_needs() {
    for rest in [
        "",
        "--dtype f32",
        "--dtype q8 --quantize all",
        "--dtype q4 --group 32",
        "--gemm cublas",
        "--final-layer -1 --newlines all",
    ] {
        let rest = format!("--gpu t4 {rest}");
        let mut rows = plan("tiny", &rest);
        rows.iter_mut().for_each(|row| row["preset"] = Value::Null);
        assert_eq!(json(&on_model("plan", &format!("--json {rest}"))), Value::from(rows), "{rest}");
    }
    // As inspect has it for a device, whatever --device says to plan.
    let inspected = json(&on_model("inspect", "--json --device cuda --gemm own"));
    let rows = plan("tiny", "--gpu p40 --device cpu -q");
    for (need, row) in inspected["budgets"].as_array().unwrap().iter().zip(rows) {
        for key in ["budget", "visual_tokens", "weights", "mapped", "kv", "workspace", "peak"] {
            assert_eq!(need[key], row[key], "{key}");
        }
    }
}

/// One table for whoever has not bought one yet; each row is what that GPU's own plan has.
#[test]
fn all_of_them_make_one_table() {
    let all = plan(SEVEN, "--gpu all --budgets full,20%");
    let names: Vec<&str> = all.iter().map(|row| row["gpu"].as_str().unwrap()).collect();
    assert!(names.len() >= 40 && names[0] == names[1] && names[1] != names[2], "{names:?}");
    let of =
        |gpu: &str| -> Vec<Value> { all.iter().filter(|row| row["gpu"] == gpu).cloned().collect() };
    assert_eq!(of("t4"), plan(SEVEN, "--gpu T4 --budgets full,20%"));
    let text = printed(&words(&format!("plan --gpu ALL --preset {SEVEN} --budgets full,20%")));
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        line("t4 ").contains(" - ") && line("t4 ").contains("ms") && line("GPU").contains("20%")
    );
    // What no budget keeps is a row too.
    let limited = plan(SEVEN, "--gpu all --max-ttft 0.5");
    assert_eq!(limited.len() * 2, names.len());
    let row = |gpu: &str| limited.iter().find(|row| row["gpu"] == gpu).unwrap();
    assert_eq!((&row("p4")["fits"], row("p4")["refused"].is_string()), (&Value::from(false), true));
    assert_eq!(row("h200")["budget"], plan(SEVEN, "--gpu h200 --max-ttft 0.5")[0]["budget"]);
}

/// Which GPU takes which format at which budget, of one model and of all.
#[test]
fn formats_and_models_make_tables() {
    let thirteen = "llava-v1.6-vicuna-13b";
    let formats = "--formats f16,q8,q4 --budgets full,20%";
    let all = plan(thirteen, &format!("--gpu p40,t4 {formats}"));
    let fits: Vec<(&str, &str, &str, bool)> = all
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap();
            (text("gpu"), text("dtype"), text("budget"), row["fits"].as_bool().unwrap())
        })
        .collect();
    // 26.7, 14.0 and 7.8 GB of weights and 2.5 or 0.5 GB of cache: a T4 takes int8 where tokens are dropped.
    let gpus = [
        ("p40", [false, false, true, true, true, true]),
        ("t4", [false, false, false, true, true, true]),
    ];
    let expected: Vec<_> = gpus
        .into_iter()
        .flat_map(|(gpu, fits)| {
            let cells =
                ["f16", "q8", "q4"].into_iter().flat_map(|t| ["full", "20%"].map(|b| (t, b)));
            cells
                .zip(fits)
                .map(move |((dtype, budget), fits)| (gpu, dtype, budget, fits))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(fits, expected);
    // Each row is what the plan of its own has.
    for dtype in ["q8", "q4"] {
        let own = plan(thirteen, &format!("--gpu t4 --dtype {dtype} --budgets full,20%"));
        let of: Vec<_> = all.iter().filter(|r| r["gpu"] == "t4" && r["dtype"] == dtype).collect();
        assert_eq!(of, own.iter().collect::<Vec<_>>());
    }
    let text = printed(&words(&format!("plan --gpu p40,t4 --preset {thirteen} {formats}")));
    let heads: Vec<&str> = text
        .lines()
        .find(|l| l.starts_with("GPU"))
        .unwrap()
        .split("  ")
        .map(str::trim)
        .filter(|h| !h.is_empty())
        .collect();
    assert_eq!(
        heads,
        ["GPU", "memory", "f16, full", "f16, 20%", "q8, full", "q8, 20%", "q4, full", "q4, 20%"]
    );

    let every = plan("all", &format!("--gpu t4 {formats}"));
    let of = |row: &Value| row["preset"].as_str().unwrap().to_owned();
    let names: std::collections::BTreeSet<String> = every.iter().map(of).collect();
    assert!(names.len() >= 9 && names.contains(thirteen) && !names.contains("tiny"), "{names:?}");
    let own = plan(thirteen, &format!("--gpu t4 {formats}"));
    assert_eq!(every.iter().filter(|row| of(row) == thirteen).cloned().collect::<Vec<_>>(), own);
    let text = printed(&words(&format!("plan --gpu p40,t4 --preset all {formats}")));
    let line = text.lines().filter(|line| line.starts_with(thirteen)).nth(1).unwrap();
    assert!(
        line.contains(" q8 ") && line.contains("2928 → 576") && line.ends_with("→ t4"),
        "{line}"
    );
    assert!(
        text.contains("q8 or q4, groups of 128") && text.contains("none was measured"),
        "{text}"
    );
    let refused = failure(&words("plan --gpu t4 --preset all --max-ttft 1"), 1);
    assert!(refused.contains("name one preset"), "{refused}");
}

#[test]
fn names_are_taken_as_people_write_them() {
    for (typed, name) in [
        ("T4", "t4"),
        ("Tesla~T4", "t4"),
        ("RTX~4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("NVIDIA~GeForce~RTX~4090", "rtx-4090"),
        ("GTX~1080~Ti", "gtx-1080-ti"),
        ("A100-80GB", "a100-80"),
        ("V100~16~GB", "v100-16"),
        ("H100~PCIe", "h100-pcie"),
        ("RTX~4060~Ti~16GB", "rtx-4060-ti-16"),
        ("Jetson~Orin~NX~16~GB", "orin-nx-16"),
        ("L40S", "l40s"),
    ] {
        let line = format!("plan --json --preset tiny --budgets full --gpu {typed}");
        assert_eq!(json(&words(&line))[0]["gpu"], name, "{typed}");
    }
}

#[test]
fn options_that_change_the_work_change_the_plan() {
    let one = |rest: &str| plan(SEVEN, &format!("--budgets 20% {rest}")).remove(0);
    let base = one("--gpu t4");
    let double = one("--gpu t4 --dtype f32");
    // Matrices twice as wide on eight times slower arithmetic.
    assert!(bytes(&double, "weights") > 19 * bytes(&base, "weights") / 10);
    assert!(seconds(&double, "ttft_floor") > 7.0 * seconds(&base, "ttft_floor"));
    // Weights stay integers, the cache is twice as wide; its tables of pages are as they were.
    let half = one("--gpu t4 --dtype q8");
    let parity = one("--gpu t4 --dtype q8 --activations f32");
    assert!((199..=200).contains(&(100 * bytes(&parity, "kv") / bytes(&half, "kv"))));
    assert!(bytes(&parity, "weights") < 2 * bytes(&half, "weights"));
    // cuBLAS takes a buffer for the gate but none for products in parts, and knows Volta's tensor cores.
    let [own, cublas] = ["own", "cublas"].map(|gemm| one(&format!("--gpu v100-16 --gemm {gemm}")));
    assert_ne!(bytes(&cublas, "workspace"), bytes(&own, "workspace"));
    assert!(seconds(&own, "ttft_floor") > 4.0 * seconds(&cublas, "ttft_floor"));
    let newlines = one("--gpu t4 --newlines all");
    assert_eq!(bytes(&newlines, "visual_tokens"), 576 + 48);
    let typed = plan(SEVEN, "--gpu t4 --budgets 20.00%,576");
    assert_eq!([&typed[0]["budget"], &typed[1]["budget"]], ["20.00%", "576"]);
    assert_eq!(typed[0]["peak"], typed[1]["peak"]);
}

/// What the largest budget promises is kept, and one token more would break it.
#[test]
fn limits_are_kept_to_the_token() {
    let gib = 1u64 << 30;
    let cases = [
        ("p40", "--max-memory 14GiB", "max-memory"),
        ("p40", "--max-ttft 2.0", "max-ttft"),
        ("p40", "--max-ttft 2.0 --max-memory 15GiB", "max-ttft"),
        ("p40", "--max-ttft 4.0 --max-memory 14GiB", "max-memory"),
        ("t4", "--max-ttft 5", "card"),
        ("t4", "--max-memory 100GiB", "card"),
        ("h200", "--max-ttft 0.1", "max-ttft"),
    ];
    for (gpu, limits, bound) in cases {
        let rows = plan(SEVEN, &format!("--gpu {gpu} {limits}"));
        let [row] = rows.as_slice() else { panic!("{gpu} {limits}: {rows:?}") };
        assert_eq!(row["limit"], bound, "{gpu} {limits}");
        let count: u64 = row["budget"].as_str().unwrap().parse().unwrap();
        assert_eq!(bytes(row, "visual_tokens"), count);
        let limit = |name: &str| {
            let mut words = limits.split(' ').skip_while(|word| *word != name);
            words.nth(1).map(|value| value.trim_end_matches("GiB").parse::<f64>().unwrap())
        };
        let keeps = |row: &Value| {
            let memory = limit("--max-memory").map_or(u64::MAX, |g| (g * gib as f64) as u64);
            [
                bytes(row, "peak") <= memory,
                row["fits"] == true,
                seconds(row, "ttft_expected") <= limit("--max-ttft").unwrap_or(f64::INFINITY),
            ]
        };
        assert_eq!(keeps(row), [true; 3], "{gpu} {limits}: {row}");
        // As a budget of its own it is the same row.
        let again = plan(SEVEN, &format!("--gpu {gpu} --budgets {count},{}", count + 1));
        for key in ["weights", "kv", "workspace", "peak", "ttft_expected", "largest_batch"] {
            assert_eq!(again[0][key], row[key], "{gpu} {limits}: {key}");
        }
        let broken = ["max-memory", "card", "max-ttft"].iter().position(|b| *b == bound).unwrap();
        assert!(!keeps(&again[1])[broken], "{gpu} {limits}: {}", again[1]);
    }
    // Everything there is keeps a generous limit, and nothing bounds it.
    let row = plan(SEVEN, "--gpu h200 --max-ttft 100 --budgets 10% -q").remove(0);
    assert_eq!((row["budget"].as_str(), row["limit"].is_null()), (Some("2880"), true));
}

#[test]
fn what_no_budget_keeps_fails_with_the_numbers() {
    for (line, told) in [
        (format!("--gpu t4 --preset {SEVEN} --max-memory 13GiB"), "more than the limit"),
        (format!("--gpu p40 --preset {SEVEN} --max-ttft 0.2"), "the limit is 0.2 s"),
        (format!("--gpu orin-nx-16 --preset {SEVEN} --max-ttft 9"), "the orin-nx-16 has"),
        ("--gpu t4 --preset llava-v1.6-vicuna-13b --max-ttft 9".into(), "a smaller model"),
        (format!("--gpu p40 --preset {SEVEN} --max-ttft 9 --dtype f32"), "--dtype f16"),
        ("--gpu h200 --preset tiny --max-ttft 1 --method full".into(), "method full"),
        ("--gpu h200 --preset tiny --budgets 0.1%".into(), "0.1%"),
        ("--gpu h200 --preset tiny --gemm cublas --dtype f32".into(), "--gemm own"),
        ("--gpu h200 --preset tiny --init-layer 9".into(), "init layer 9"),
        ("--gpu h200 --model no/such/folder".into(), "no/such/folder"),
    ] {
        for json in ["", "--json"] {
            let message = failure(&words(&format!("plan {line} {json}")), 1);
            assert!(message.contains(told), "{line}: {message}");
        }
    }
}

/// A prompt that the model has no positions for is no plan, and bounds the largest budget.
#[test]
fn positions_are_a_limit_too() {
    let short = super::folder().join("short");
    fs::create_dir_all(&short).unwrap();
    for entry in fs::read_dir(path("model")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), short.join(entry.file_name())).unwrap();
    }
    let config = short.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let fewer =
        text.replace("\"max_position_embeddings\": 4096", "\"max_position_embeddings\": 256");
    assert_ne!(text, fewer);
    fs::write(&config, fewer).unwrap();
    let short = short.to_str().unwrap();
    let on = |rest: &str| words(&format!("plan --model {short} --gpu t4 --json {rest}"));
    assert!(failure(&on(""), 1).contains("256 positions"));
    let row = &json(&on("--max-memory 1GiB"))[0];
    // 256 positions hold 60 tokens of text and 128 new ones too.
    assert_eq!((row["budget"].as_str(), row["limit"].as_str()), (Some("68"), Some("model")));
}

#[test]
fn a_plan_for_people_says_what_it_assumes() {
    let text = printed(&words(&format!("plan --gpu orin-nx-16 --preset {SEVEN}")));
    for told in [
        "compute capability 8.7",
        "672×672",
        "60 tokens of text",
        "2.0 GiB for the system",
        "hired's own kernels",
        "none was measured on a GPU",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let rows: Vec<&str> = text.lines().filter(|line| line.contains('%')).collect();
    assert!(rows.iter().any(|row| row.starts_with("20%") && row.contains(" no ")), "{text}");
    let text =
        printed(&words(&format!("plan --gpu t4 --preset {SEVEN} --max-ttft 0.3 --gemm cublas")));
    assert!(text.contains("would exceed --max-ttft") && text.contains("cuBLAS"), "{text}");
}

#[test]
fn the_command_line_is_checked() {
    for (line, told) in [
        ("--preset tiny", "--gpu"),
        ("--gpu t4", "--preset"),
        ("--gpu t4 --preset tiny --model m", "cannot be used with"),
        ("--gpu t4 --preset llava-2", "llava-2"),
        ("--gpu A100 --preset tiny", "A100"),
        ("--gpu t4 --preset tiny --budgets full,auto", "auto"),
        ("--gpu t4 --preset tiny --budgets 20%,,full", "--budgets"),
        ("--gpu t4 --preset tiny --budgets 0", "keeps no token"),
        ("--gpu t4 --preset tiny --max-memory lots", "lots"),
        ("--gpu t4 --preset tiny --max-ttft 0", "--max-ttft"),
        ("--gpu t4 --preset tiny --alpha 2", "--alpha"),
        ("--gpu t4 --preset tiny --formats f16,int8", "int8"),
        ("--gpu t4 --preset tiny --formats q8 --dtype q4", "cannot be used with"),
        ("--gpu t4 --preset tiny --formats q8 --max-ttft 1", "cannot be used with"),
    ] {
        let message = failure(&words(&format!("plan {line}")), 2);
        assert!(message.contains(told), "{line}: {message}");
        assert!(message.ends_with("; try 'hired plan --help'"), "{message}");
    }
}
