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
        .args(["--formats", "q8,q8:all", "--limit", "2", "--no-attention", "--model"])
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
        "| dtype | budget | questions | visual tokens | accuracy | lost | gained | p |",
    ];
    for line in lines {
        assert!(document.lines().any(|l| l == line), "no line {line} in\n{document}");
    }
    for start in
        ["| 5% | 2 |", "| count | 20% | 1 |", "| 0.25 | 2 |", "| 1 | 2 |", "| q8:all | 20% | 2 |"]
    {
        assert!(document.lines().any(|l| l.starts_with(start)), "no row {start} in\n{document}");
    }
    assert!(!document.contains("not yet done"), "{document}");
    let picture = read("accuracy.svg");
    assert!(picture.contains("<svg") && picture.contains("tests/fixtures/models/next-hub"));
    assert!(!picture.contains(env!("CARGO_MANIFEST_DIR")), "it names a folder of this machine");
    let study: serde_json::Value = serde_json::from_str(&read("accuracy.json")).unwrap();
    let rows = |study: &serde_json::Value| study["rows"].as_array().unwrap().len();
    let rows: Vec<usize> = study["studies"].as_array().unwrap().iter().map(rows).collect();
    // Methods × budgets; kinds × methods × budgets; budgets × rules; alphas; layers, twice; budgets × newlines; formats, of
    // which f32 is one, × budgets.
    assert_eq!(rows, [2 * 6, 2 * 2 * 2, 3 * 2, 6, 2, 2, 2 * 2, 3 * 2]);
    let formats = study["studies"].as_array().unwrap().last().unwrap();
    let [first, .., last] = &formats["rows"].as_array().unwrap()[..] else { panic!("{formats}") };
    assert_eq!((&first["dtype"], &last["dtype"]), (&"f32".into(), &"q8:all".into()));
    assert_eq!(["lost", "gained"].map(|key| first[key].as_u64()), [Some(0); 2]);
    let calls = formats["commands"].to_string();
    assert!(calls.contains("--dtype q8 --quantize all --predictions"), "{calls}");
}

/// Answers that turn are counted in pairs, by question.
#[test]
fn turned_answers_are_counted_in_pairs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, right: [u8; 4]| {
        let mut lines = String::from("{\"settings\": 1}\n");
        // Another budget's lines, and another order, change nothing.
        for (line, score) in right.into_iter().enumerate().rev() {
            lines += &format!("{{\"line\": {line}, \"budget\": \"full\", \"score\": {score}}}\n");
            lines += &format!("{{\"line\": {line}, \"budget\": \"20%\", \"score\": 1}}\n");
        }
        std::fs::write(dir.path().join(name), lines).unwrap();
    };
    write("f32", [1, 1, 1, 0]);
    write("q8", [1, 0, 0, 1]);
    let script = r#"
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import formats
rows = [{"dtype": "q8", "budget": b, "questions": 4} for b in ("full", "20%")]
formats.compare(rows, {n: pathlib.Path(sys.argv[2], n) for n in ("f32", "q8")})
print([(r["lost"], r["gained"], r["p"]) for r in rows])
# Of eight coins at most one on one side: 2 * (1 + 8) / 256.
print(formats.mcnemar(1, 7), formats.mcnemar(7, 1), formats.mcnemar(0, 0), formats.mcnemar(3, 3))
print(formats.listed("q8:all,q4:32"), formats.options("q4:32:all"))
try:
    formats.compare([{"dtype": "q8", "budget": "full", "questions": 5}], {n: pathlib.Path(sys.argv[2], n) for n in ("f32", "q8")})
except ValueError as e:
    print(e)
"#;
    let run = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-c", script])
        .arg(root.join("tools/demo_model"))
        .arg(dir.path())
        .output();
    let Ok(run) = run else {
        eprintln!("skipped: no python3");
        return;
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let told = String::from_utf8(run.stdout).unwrap();
    let expected = "[(2, 1, 1.0), (0, 0, 1.0)]\n0.0703125 0.0703125 1.0 1.0\n\
        ['f32', 'q8:all', 'q4:32'] ['--dtype', 'q4', '--group', '32', '--quantize', 'all']\n\
        q8, full: 4 of 5 predictions\n";
    assert_eq!(told, expected);
}
