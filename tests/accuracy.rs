//! The script that makes the accuracy study, on a tiny checkpoint: that it and `hired eval` understand each other.
#![cfg(feature = "cli")]

mod common;

use common::golden::fixture;
use std::path::Path;
use std::process::Command;

#[test]
fn the_study_is_made_of_what_eval_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    let mut lines = String::new();
    for (kind, prompt) in [("colour", "Which colour?"), ("count", "How many?")] {
        let image = fixture("images/street-640x427.png");
        let line = serde_json::json!({
            "image": image, "prompt": prompt, "answer": "red", "kind": kind, "signs": 1, "grid": [2, 2],
        });
        lines += &format!("{line}\n\n");
    }
    lines += "what --limit cuts off";
    std::fs::write(&questions, lines).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let run = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root.join("tools/accuracy"))
        .args(["--hired", env!("CARGO_BIN_EXE_hired"), "--device", "cpu", "--layers", "0,1"])
        .args(["--methods", "hired,spatial", "--rules", "exact,equal"])
        .args(["--limit", "2", "--no-attention", "--model"])
        .arg(fixture("models/next-hub"))
        .arg("--questions")
        .arg(&questions)
        .arg("--work")
        .arg(dir.path().join("work"))
        .arg("--out")
        .arg(&out)
        .output();
    let Ok(run) = run else {
        eprintln!("skipped: no python3");
        return;
    };
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}\n{said}", String::from_utf8_lossy(&run.stdout));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let document = read("accuracy.md");
    // Lines of the tables: the commands beside them hold the same words.
    let lines = [
        "| budget | questions | visual tokens | hired | spatial |",
        "| kind | budget | questions | visual tokens | hired | spatial |",
        "| budget | questions | visual tokens | exact | equal |",
        "| budget | questions | visual tokens | all | none |",
    ];
    for line in lines {
        assert!(document.lines().any(|l| l == line), "no line {line} in\n{document}");
    }
    for start in ["| 5% | 2 |", "| count | 20% | 1 |", "| 0.25 | 2 |", "| 1 | 2 |"] {
        assert!(document.lines().any(|l| l.starts_with(start)), "no row {start} in\n{document}");
    }
    assert!(!document.contains("not yet done"), "{document}");
    let picture = read("accuracy.svg");
    assert!(picture.contains("<svg") && picture.contains("tests/fixtures/models/next-hub"));
    assert!(!picture.contains(env!("CARGO_MANIFEST_DIR")), "it names a folder of this machine");
    let study: serde_json::Value = serde_json::from_str(&read("accuracy.json")).unwrap();
    let rows = |study: &serde_json::Value| study["rows"].as_array().unwrap().len();
    let rows: Vec<usize> = study["studies"].as_array().unwrap().iter().map(rows).collect();
    // Methods × budgets; kinds × methods × budgets; budgets × rules; alphas; layers, twice; budgets × newlines.
    assert_eq!(rows, [2 * 6, 2 * 2 * 2, 3 * 2, 6, 2, 2, 2 * 2]);
}
