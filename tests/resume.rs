//! Long measurements that end early: what they have found is kept, and the same command goes on from there.
#![cfg(feature = "cli")]

mod common;

use common::golden::fixture;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn hired(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hired")).args(words).output().unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `bench` at sixty budgets, each a row of some milliseconds.
fn bench(out: &Path, more: &[&str]) -> Vec<String> {
    let budgets: Vec<String> = (1..60).map(|budget| budget.to_string()).collect();
    let fixed = "bench --synthetic tiny --device cpu --batch 1 --new-tokens 2 --prompt-tokens 8";
    let image = fixture("images/plain-26x51.bmp");
    let mut words: Vec<String> = fixed.split(' ').map(String::from).collect();
    words.extend(["--budgets".into(), format!("full,{}", budgets.join(","))]);
    words.extend(["--image".into(), image.to_str().unwrap().into()]);
    words.extend(["--out".into(), out.to_str().unwrap().into()]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

#[cfg(unix)]
#[test]
fn bench_goes_on_where_ctrl_c_ended_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rows.jsonl");
    let words = bench(&out, &["--reps", "3"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_hired"))
        .args(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    // Rows are printed while others are still to come.
    while !seen.contains("\n| 1 | 1 |") {
        assert_ne!(stdout.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    stdout.read_to_string(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let rows = seen.lines().filter(|line| line.starts_with("| ") && !line.contains("budget"));
    let before = lines(&out);
    assert_eq!(before.len(), 1 + rows.count());
    assert!((3..61).contains(&before.len()), "{}", before.len());

    let text: Vec<&str> = words.iter().map(String::as_str).collect();
    let again = hired(&[&text[..], &["--format", "json"]].concat());
    assert!(again.status.success(), "{}", told(&again));
    let after = lines(&out);
    assert_eq!((after.len(), &after[..before.len()]), (61, &before[..]));
    // What is printed is the whole, as it was measured.
    let printed = String::from_utf8(again.stdout).unwrap();
    let printed: Vec<Value> = printed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let key = |rows: &[Value], key: &str| rows.iter().map(|r| r[key].clone()).collect::<Vec<_>>();
    for name in ["budget", "kept", "newlines", "prefill", "peak_memory"] {
        assert_eq!(key(&printed[1..], name), key(&after[1..], name), "{name}");
    }
    assert!(printed[1..].iter().all(|row| row["ttft_vs_full"].is_number()));
}

#[test]
fn results_of_other_settings_are_not_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rows.jsonl");
    let words = |reps: &str| bench(&out, &["--reps", reps, "--format", "json"]);
    let run = |words: Vec<String>| hired(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(run(words("1")).status.success());
    let before = std::fs::read(&out).unwrap();
    let other = run(words("2"));
    assert_eq!(other.status.code(), Some(1));
    assert!(told(&other).contains("reps was 1, now it is 2"), "{}", told(&other));
    assert!(other.stdout.is_empty());
    assert_eq!(std::fs::read(&out).unwrap(), before);
    // Nothing is measured again: the file stays as it is.
    assert!(run(words("1")).status.success());
    assert_eq!(std::fs::read(&out).unwrap(), before);
    // A row that failed is tried again.
    let mut rows = lines(&out);
    rows[1]["failure"] = "no memory".into();
    std::fs::write(&out, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    assert!(run(words("1")).status.success());
    let after = lines(&out);
    assert_eq!(after.len(), rows.len() + 1);
    assert_eq!(
        (&after[after.len() - 1]["budget"], &after[after.len() - 1]["failure"]),
        (&json!("full"), &Value::Null)
    );
}

/// Four questions about two images.
fn questions(dir: &Path) -> String {
    let mut text = String::new();
    for (index, image) in
        ["plain-26x51.bmp", "street-640x427.png"].iter().cycle().take(4).enumerate()
    {
        let image = fixture(format!("images/{image}"));
        let (prompt, id) = (format!("Question {index}?"), format!("q{index}"));
        let line = json!({"image": image, "prompt": prompt, "answer": ["x", "y"], "id": id});
        text += &format!("{line}\n");
    }
    let path = dir.join("questions.jsonl");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn eval_asks_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path());
    let out = dir.path().join("predictions.jsonl");
    let model = fixture("models/next-hub");
    let eval = |more: &[&str]| {
        let fixed = ["eval", "--model", model.to_str().unwrap(), "--questions", &file, "--json"];
        let rest = ["--device", "cpu", "--max-new-tokens", "4", "--budgets", "full,20%"];
        hired(&[&fixed[..], &rest, more].concat())
    };
    let kept = |more: &[&str]| eval(&[&["--predictions", out.to_str().unwrap()], more].concat());
    let rows = |output: Output| {
        assert!(output.status.success(), "{}", told(&output));
        serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap()
    };
    let whole = rows(eval(&["--methods", "hired,full"]));

    // Two questions of one image and one of the other, then the last one, then a method more.
    assert_eq!(rows(kept(&["--limit", "3"]))[0]["questions"], 3);
    let first = lines(&out);
    assert_eq!(first.len(), 1 + 3 * 2);
    let second = kept(&[]);
    assert!(told(&second).contains("has 6 of 8 predictions already"), "{}", told(&second));
    assert_eq!(rows(second), whole[..2]);
    let third = rows(kept(&["--methods", "hired,full"]));
    assert_eq!(third, whole);
    let all = lines(&out);
    assert_eq!((all.len(), &all[..first.len()]), (1 + 4 * 3, &first[..]));
    let line = all.iter().find(|line| line["line"] == 3 && line["budget"] == "20%").unwrap();
    let expected = json!(["q2", "Question 2?", ["x", "y"], "hired", "exact", 0.0]);
    let keys = ["id", "prompt", "answer", "method", "rule", "score"];
    assert_eq!(json!(keys.map(|key| line[key].clone())), expected);
    assert!(line["prediction"].is_string() && line["visual_tokens"].as_u64() > Some(0));

    // What the file says is believed, so it is not asked anew.
    let mut changed = all.clone();
    changed[1]["prediction"] = "X".into();
    let write = |lines: &[Value]| {
        std::fs::write(&out, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    };
    write(&changed);
    let again = rows(kept(&["--methods", "hired,full"]));
    let better = (0..3).filter(|&i| again[i]["accuracy"].as_f64() > whole[i]["accuracy"].as_f64());
    assert_eq!(better.count(), 1);
    assert_eq!(lines(&out), changed);

    let other = kept(&["--metric", "anls"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(told(&other).contains("metric was exact, now it is anls"), "{}", told(&other));
    changed[1]["prompt"] = "another".into();
    write(&changed);
    let other = kept(&[]);
    assert!(
        told(&other).contains("line 2: line ") && told(&other).contains("a different question"),
        "{}",
        told(&other)
    );
}

/// What was answered before Ctrl-C is kept, and counted in a table that says that it is not all.
#[cfg(unix)]
#[test]
fn eval_shows_what_it_has_when_ctrl_c_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let [pipe, out, file] =
        ["pipe", "out.jsonl", "questions.jsonl"].map(|name| dir.path().join(name));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let image = fixture("images/plain-26x51.bmp");
    let line = |image: &Path| json!({"image": image, "prompt": "Why?", "answer": "x"});
    std::fs::write(&file, format!("{}\n{}\n", line(&image), line(&pipe))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hired"))
        .args(["eval", "--device", "cpu", "--max-new-tokens", "4", "--budgets", "20%"])
        .arg("--model")
        .arg(fixture("models/next-hub"))
        .arg("--questions")
        .arg(&file)
        .arg("--predictions")
        .arg(&out)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The second image is one that somebody still has to write.
    let begin = std::time::Instant::now();
    while !out.exists() || lines(&out).len() < 2 {
        assert!(begin.elapsed().as_secs() < 60, "nothing was answered");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::write(&pipe, std::fs::read(&image).unwrap()).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(text.contains("Interrupted: only 1 of 2 images are counted"), "{text}");
    assert_eq!(lines(&out).len(), 2);
}
