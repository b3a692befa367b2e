//! `fidelity`: how far a number format moves the demo model. The bounds are three times what was measured for the rounding
//! rules by independent code; a new format gets a line in [`it_keeps_the_bounds_of_each_format`].

use super::{failure, json, printed, words};
use hired::quant::{Scheme, Scope, quantize};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn line(rest: &str) -> Vec<String> {
    let model = format!("--model {ROOT}/demo/model --questions {ROOT}/demo/questions.jsonl");
    words(&format!("fidelity {model} --device cpu {rest}"))
}

fn rows(rest: &str) -> Vec<Value> {
    json(&line(&format!("--json {rest}"))).as_array().unwrap().clone()
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap()
}

#[test]
fn a_model_is_its_own_twin() {
    let rest = format!("--reference {ROOT}/demo/model --dtype f32 --limit 4");
    for row in rows(&rest) {
        assert_eq!((number(&row, "kl_max"), number(&row, "top1_agreement")), (0.0, 1.0));
        assert_eq!(
            (number(&row, "kept_jaccard"), &row["lost"], &row["gained"]),
            (1.0, &0.into(), &0.into())
        );
        assert_eq!(row["accuracy"], row["reference_accuracy"]);
        // An answer has a token at least for each question, and its end.
        assert!(row["questions"] == 4 && number(&row, "tokens") >= 8.0);
    }
}

#[test]
fn it_keeps_the_bounds_of_each_format() {
    for (format, mean, most, kept) in [
        ("q8", 9e-5, 1.1e-3, 1.0),
        ("q8 --quantize all", 4.5e-4, 6e-3, 0.95),
        ("q4 --group 32", 7.8e-3, 1.4e-1, 1.0),
        ("q4 --group 64", 2.4e-3, 3e-2, 1.0),
        ("q4 --group 128", 1.44e-2, 2.4e-1, 1.0),
    ] {
        let rows = rows(&format!("--budgets full,20% --dtype {format}"));
        let full = &rows[0];
        assert_eq!(full["questions"], 20);
        let [was_mean, was_most] = ["kl_mean", "kl_max"].map(|key| number(full, key));
        assert!(was_mean > 0.0 && was_mean <= mean && was_most <= most, "{format}: {full}");
        // The reference measured one answer of twenty that groups of 32 change.
        let alike = if format.ends_with("32") { 0.95 } else { 1.0 };
        assert!(number(full, "top1_agreement") >= alike, "{format}: {full}");
        // Only where the vision tower is quantised can other patches be kept.
        let jaccard = number(&rows[1], "kept_jaccard");
        assert!(jaccard >= kept && jaccard <= 1.0, "{format}: {jaccard}");
        assert!((jaccard < 1.0) == format.contains("all"), "{format}: {jaccard}");
    }
}

#[test]
fn a_quantised_folder_is_compared_with_the_one_it_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (Path::new(ROOT).join("demo/model"), dir.path().join("q4"));
    let go = &mut |_, _| ControlFlow::Continue(());
    quantize(&model, &out, Scheme::Q4 { group: 64 }, Scope::Llm, go).unwrap();
    let asked = format!("fidelity --device cpu --questions {ROOT}/demo/questions.jsonl --limit 3");
    let folder = format!("{asked} --model {}", out.display());
    let message = failure(&words(&folder), 1);
    assert!(message.contains("q4, groups of 64") && message.contains("--reference"), "{message}");
    let stored = json(&words(&format!("{folder} --reference {} --json", model.display())));
    let made = rows("--dtype q4 --group 64 --limit 3");
    for (stored, made) in stored.as_array().unwrap().iter().zip(&made) {
        for key in ["kl_mean", "kl_max", "kept_jaccard", "accuracy", "tokens"] {
            assert_eq!(stored[key], made[key], "{key}");
        }
        assert_eq!((&stored["dtype"], &made["dtype"]), (&"q4, groups of 64".into(), &"q4".into()));
    }
}

#[test]
fn what_compares_nothing_is_refused() {
    for rest in ["", "--dtype f32"] {
        let message = failure(&line(rest), 2);
        assert!(message.contains("--dtype f16, q8 or q4"), "{message}");
    }
    let message = failure(&line("--dtype q8 --max-new-tokens 1000000000"), 1);
    assert!(message.contains("GiB") && message.contains("--limit"), "{message}");
    let other = format!("{ROOT}/tests/fixtures/models/next-hub");
    let message = failure(&line(&format!("--limit 1 --reference {other}")), 1);
    assert!(message.contains("vocabular"), "{message}");
}

#[test]
fn the_table_names_weights_and_budget() {
    let table = printed(&line("--dtype q4 --group 32 --limit 2 --budgets 20%"));
    assert!(table.contains("| q4, groups of 32, llm | 20% | 2 |"), "{table}");
}
