//! The script that measures the paper's tables and figures, on tiny checkpoints: that it understands what `hired`
//! prints, goes on where it was, and scores as the benchmarks do.
#![cfg(feature = "cli")]

mod common;

use common::golden::fixture;
use std::path::Path;
use std::process::{Command, Output};

fn python(arguments: &[&str], extra: &[&Path]) -> Option<Output> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(root).args(arguments).args(extra);
    let run = command.output().ok();
    if run.is_none() {
        eprintln!("skipped: no python3");
    }
    run
}

/// Files of two questions each for benchmarks of three ways of scoring.
fn data(folder: &Path) {
    for (task, answers) in
        [("docvqa", ["red", "two"]), ("mme", ["Yes", "No"]), ("signs", ["red", "blue"])]
    {
        let mut lines = String::new();
        for answer in answers {
            let image = fixture("images/street-640x427.png");
            let line = serde_json::json!({
                "image": image, "prompt": "Which colour?", "answer": answer, "category": "colour",
            });
            lines += &format!("{line}\n");
        }
        std::fs::write(folder.join(format!("{task}.jsonl")), lines).unwrap();
    }
}

#[test]
fn each_table_is_made_of_what_hired_prints() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let (work, page) = (dir.path().join("work"), dir.path().join("out/paper.md"));
    let study = || {
        let program = ["tools/paper", "--hired", env!("CARGO_BIN_EXE_hired"), "--device", "cpu"];
        let sizes = ["--samples", "1", "--reps", "1", "--work"];
        let (next, single) = (fixture("models/next-hub"), fixture("models/llava15"));
        let extra = [&work, Path::new("--page"), &page, Path::new("--data"), dir.path()];
        let models = [Path::new("--model"), next.as_ref(), Path::new("--single"), single.as_ref()];
        python(&[&program[..], &sizes[..]].concat(), &[&extra[..], &models[..]].concat())
    };
    let Some(run) = study() else { return };
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{}\n{said}", String::from_utf8_lossy(&run.stdout));
    assert!(said.contains("== hired bench") && said.contains("== hired attention"), "{said}");
    let text = std::fs::read_to_string(&page).unwrap();
    let starts = [
        "| Table 2 | where the most attended visual tokens come from | next-hub, 1 question",
        "| Table 6 | a model of one partition | llava15, 2 × DocVQA |",
        "| Tables 2 to 5, 7 | the paper's models | waits for weights of LLaVA-Next-7B and LLaVA-Next-13B |",
        "| share of attention, % |",
        "| here | DocVQA | MME | signs |",
        "| HiRED, 20% |",
        "| hired, 20% |",
        "| 0.5 |",
        "| equal |",
        "| one head |",
    ];
    for start in starts {
        assert!(text.lines().any(|line| line.starts_with(start)), "no line {start} in\n{text}");
    }
    assert!(
        !text.contains(env!("CARGO_MANIFEST_DIR")) && !text.contains(dir.path().to_str().unwrap()),
        "{text}"
    );
    for drawing in
        ["next-hub-attention.svg", "next-hub-class_attention.png", "next-hub-token_counts.svg"]
    {
        assert!(text.contains(&format!("(paper/{drawing})")), "{text}");
        let drawn = std::fs::read(page.with_extension("").join(drawing)).unwrap();
        assert!(
            !String::from_utf8_lossy(&drawn).contains(env!("CARGO_MANIFEST_DIR")),
            "{drawing} names a folder"
        );
    }
    // All is kept: nothing is asked again, and the page is the same.
    let again = study().unwrap();
    assert!(again.status.success());
    assert!(
        !String::from_utf8_lossy(&again.stderr).contains("== hired"),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    assert_eq!(std::fs::read_to_string(&page).unwrap(), text);
}

#[test]
fn points_are_counted_as_the_benchmarks_count() {
    let code = "
import sys; sys.path.insert(0, 'tools')
from paper_study.measure import contains, pairs
said = lambda *texts: [{'prediction': text} for text in texts]
ask = lambda image, answer, category='a': {'image': image, 'answer': answer, 'category': category}
asked = [ask('1', ['CAFE', 'bar']), ask('2', 'x'), ask('3', 'two words')]
print(contains(asked, said('at the cafe', 'y', 'Two\\nwords')))
asked = [ask('1', 'Yes'), ask('1', 'No'), ask('2', 'Yes'), ask('2', 'No'), ask('3', 'No', 'b'), ask('3', 'Yes', 'b')]
print(pairs(asked, said('Yes.', 'no', 'yes, it is', 'Yes', 'No', 'yes')))
";
    let Some(run) = python(&["-c", code], &[]) else { return };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Two of three; 100 × (3/4 + 1/2) + 100 × (1 + 1).
    let lines: Vec<f64> =
        String::from_utf8_lossy(&run.stdout).lines().map(|line| line.parse().unwrap()).collect();
    assert!((lines[0] - 2000.0 / 3.0).abs() < 1e-9 && lines[1] == 325.0, "{lines:?}");
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let program = ["tools/paper", "--hired", env!("CARGO_BIN_EXE_hired"), "--data"];
    let Some(run) = python(&program, &[dir.path()]) else { return };
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && said.contains("no *.jsonl there"), "{said}");
    let Some(run) = python(&["tools/paper", "--parts", "table8"], &[]) else { return };
    assert!(
        String::from_utf8_lossy(&run.stderr)
            .contains("--parts table8: give some of attention,table3")
    );
}

/// The demo's study, a few questions of each kind: minutes, so only in `tools/test --full`.
#[test]
fn the_demo_model_has_every_table_but_those_that_wait() {
    if std::env::var_os("HIRED_FULL").is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("paper.md");
    let asked = std::fs::read_to_string(root.join("demo/questions.jsonl")).unwrap();
    for line in asked.lines() {
        let mut question: serde_json::Value = serde_json::from_str(line).unwrap();
        question["image"] =
            root.join("demo").join(question["image"].as_str().unwrap()).to_str().unwrap().into();
        let file = dir.path().join(format!("{}.jsonl", question["kind"].as_str().unwrap()));
        let old = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, format!("{old}{question}\n")).unwrap();
    }
    let program =
        ["tools/paper", "--hired", env!("CARGO_BIN_EXE_hired"), "--device", "cpu", "--work"];
    let Some(run) = python(
        &program,
        &[&dir.path().join("work"), Path::new("--page"), &page, Path::new("--data"), dir.path()],
    ) else {
        return;
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read_to_string(&page).unwrap();
    for name in [
        "Figure 2", "Table 2", "Figure 3", "Table 3", "Figure 5", "Table 4", "Table 5", "Figure 6",
        "Table 7",
    ] {
        assert!(text.contains(&format!("\n## {name}: ")), "no {name} in\n{text}");
    }
}
