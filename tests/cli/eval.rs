//! `eval`: how often answers are right.

use super::{failure, json, printed, words};
use hired::select::Method;
use serde_json::Value;
use std::fs;
use std::path::Path;

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models/next-hub");

/// A file of two images with three questions, answers given by `answer`.
fn questions(dir: &Path, answer: impl Fn(&str, &str) -> Value) -> String {
    let file = dir.join("questions.jsonl");
    let mut images: Vec<_> = fs::read_dir(IMAGES).unwrap().map(|e| e.unwrap().path()).collect();
    images.sort();
    images.retain(|image| image.extension().is_some_and(|e| e == "png"));
    let mut lines = String::new();
    for (image, prompt) in [(0, "What is it?"), (1, "Which colour?"), (0, "How many?")] {
        let image = images[image].to_str().unwrap();
        let line = serde_json::json!({
            "image": image, "prompt": prompt, "answer": answer(image, prompt), "kind": "other",
        });
        lines += &format!("{line}\n");
    }
    fs::write(&file, lines).unwrap();
    file.to_str().unwrap().into()
}

/// What `run` answers.
fn said(image: &str, prompt: &str, budget: &str) -> (String, u64) {
    let prompt = prompt.replace(' ', "~");
    let line = format!("run --model {MODEL} --image {image} --budget {budget} --max-new-tokens 6");
    let answer = json(&words(&format!("{line} --device cpu --json --prompt {prompt}")));
    let count = |key: &str| answer["visual"][key].as_u64().unwrap();
    (answer["text"].as_str().unwrap().into(), count("kept") + count("newlines"))
}

fn eval(file: &str, rest: &str) -> Vec<String> {
    words(&format!(
        "eval --model {MODEL} --questions {file} --device cpu --max-new-tokens 6 {rest}"
    ))
}

#[test]
fn it_judges_what_run_answers() {
    let dir = tempfile::tempdir().unwrap();
    // Right at the full budget; whatever is said at 20% may differ.
    let file = questions(dir.path(), |image, prompt| said(image, prompt, "full").0.into());
    let plot = dir.path().join("plot.svg");
    let plot = plot.to_str().unwrap();
    let rows = json(&eval(&file, &format!("--json --plot {plot} --methods hired,spatial")));
    let rows = rows.as_array().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|r| (r["method"].as_str().unwrap(), r["budget"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [("hired", "full"), ("hired", "20%"), ("spatial", "full"), ("spatial", "20%")]
    );
    let lines = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    for (budget, row) in [("full", &rows[0]), ("20%", &rows[1])] {
        let (mut right, mut kept) = (0, 0);
        for line in &lines {
            let (answer, visual) = said(&text(line, "image"), &text(line, "prompt"), budget);
            right += usize::from(answer.trim().eq_ignore_ascii_case(text(line, "answer").trim()));
            kept += visual;
        }
        assert_eq!(row["questions"], 3);
        assert!((row["accuracy"].as_f64().unwrap() - right as f64 / 3.0).abs() < 1e-12, "{row}");
        assert!((row["visual_tokens"].as_f64().unwrap() - kept as f64 / 3.0).abs() < 1e-9);
        let interval = row["interval"].as_array().unwrap();
        assert!(interval[0].as_f64() <= row["accuracy"].as_f64(), "{row}");
        assert!(interval[1].as_f64() >= row["accuracy"].as_f64(), "{row}");
    }
    assert_eq!(rows[0]["accuracy"], 1.0);
    assert_eq!(
        (&rows[0]["newlines"], &rows[1]["newlines"]),
        (&Value::from("all"), &Value::from("none"))
    );
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.contains("<svg") && svg.contains("spatial"));
}

#[test]
fn token_counts_of_every_image_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path(), |_, _| "x".into());
    let plot = dir.path().join("tokens.svg");
    let lists = "--methods hired,prumerge --budgets full,40%,20%";
    printed(&eval(&file, &format!("{lists} --plot-tokens {}", plot.display())));
    let svg = fs::read_to_string(plot).unwrap();
    for (name, times) in [
        ("full", 1),
        ("hired, 40%", 1),
        ("hired, 20%", 1),
        ("prumerge, 40%", 1),
        ("prumerge, 20%", 1),
        ("hired, full", 0),
    ] {
        let labels = svg.lines().filter(|line| line.trim() == name);
        assert_eq!(labels.count(), times, "{name}: {svg}");
    }
    // A mark for each of two images on each of five lines, not for each of three questions.
    assert_eq!(svg.matches("<circle").count(), 2 * 5);
    assert!(svg.contains(": 2 images"));
}

#[test]
fn lists_make_a_row_for_each_combination() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path(), |_, _| vec!["nothing", "no such thing"].into());
    let lists = "--budgets 20% --rule exact,repo --alpha 0,0.25,1 --newlines all,none \
                 --init-layer 0,1 --final-layer -1,0";
    let rows = json(&eval(&file, &format!("--json --metric anls --limit 2 {lists}")));
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2 * 3 * 2 * 2 * 2);
    let keys = ["method", "budget", "rule", "alpha", "newlines", "init_layer", "final_layer"];
    let name = |row: &Value| keys.map(|key| row[key].to_string()).join(" ");
    let mut names: Vec<String> = rows.iter().map(name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), rows.len());
    assert!(rows.iter().all(|row| row["questions"] == 2 && row["accuracy"].as_f64() < Some(1.0)));
    // The table has a column for what differs.
    let table = printed(&eval(&file, lists));
    assert!(
        table.contains("| method | rule | alpha | init layer | final layer | newlines | budget")
    );
    let (table, wrong) = table.split_once("\nAnswers below full score (").unwrap();
    assert_eq!(table.lines().filter(|line| line.starts_with("| hired")).count(), rows.len());
    // Three of a row, twelve in all.
    let shown: Vec<&str> = wrong.lines().filter(|line| line.starts_with("| hired")).collect();
    assert!(shown.len() == 12 && shown[0].contains("| nothing / no su"), "{wrong}");
    assert!(wrong.starts_with("the first 12 of "), "{wrong}");
}

#[test]
fn every_method_has_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path(), |_, _| "x".into());
    let methods = Method::ALL.iter().map(|method| method.to_string()).collect::<Vec<_>>().join(",");
    let rows =
        json(&eval(&file, &format!("--json --budgets 20% --methods {methods} --heads sum,max")));
    let rows = rows.as_array().unwrap();
    let ranks = |method: &str| ["hired", "fastervlm", "visionzip", "scope"].contains(&method);
    let expected: Vec<(&str, Value)> = methods
        .split(',')
        .flat_map(|method| match ranks(method) {
            true => vec![(method, "sum".into()), (method, "max".into())],
            // Heads play no part: one row.
            false => vec![(method, Value::Null)],
        })
        .collect();
    let told: Vec<(&str, Value)> =
        rows.iter().map(|row| (row["method"].as_str().unwrap(), row["heads"].clone())).collect();
    assert_eq!(told, expected);
    assert!(rows.iter().all(|row| row["visual_tokens"].as_f64() > Some(0.0)));
    // PruMerge with HiRED's budgets has their parameters too.
    let lists = "--json --budgets 20% --methods prumerge --prumerge-count budget --alpha 0,1";
    let rows = json(&eval(&file, lists));
    let alphas: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["alpha"].as_f64()).collect();
    assert_eq!(alphas, [Some(0.0), Some(1.0)]);
}

#[test]
fn what_makes_no_difference_makes_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path(), |_, _| "x".into());
    let lists = "--budget full,20% --rule exact,paper --alpha 0.1,0.5 --method hired,full";
    let rows = json(&eval(&file, &format!("--json {lists}")));
    let told: Vec<String> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["method", "budget", "rule", "alpha"].map(|key| row[key].to_string()).join(" "))
        .collect();
    let expected = [
        "\"hired\" \"full\" null null",
        "\"hired\" \"20%\" \"exact\" 0.1",
        "\"hired\" \"20%\" \"exact\" 0.5",
        "\"hired\" \"20%\" \"paper\" 0.1",
        "\"hired\" \"20%\" \"paper\" 0.5",
        "\"full\" \"full\" null null",
    ];
    assert_eq!(told, expected);
    // The same rows in each format.
    let csv_text = printed(&eval(&file, &format!("--format csv {lists}")));
    let mut reader = csv::Reader::from_reader(csv_text.as_bytes());
    assert!(reader.headers().unwrap().iter().any(|column| column == "interval_low"));
    assert_eq!(reader.records().count(), expected.len());
    let table = printed(&eval(&file, &format!("--format table {lists}")));
    let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
    assert!(!table.contains('|') && widths.iter().all(|&width| width <= 120), "{table}");
}

#[test]
fn what_cannot_be_asked_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path(), |_, _| "x".into());
    for (rest, part) in [
        ("--budgets 0.0001%", "rounds to no token"),
        ("--final-layer 99", "final layer"),
        ("--limit 0", "--limit"),
        ("--metric bleu", "possible values: exact, vqa, anls, relaxed"),
        ("--methods magic", "unknown method"),
    ] {
        let status = if rest.starts_with("--l") || rest.starts_with("--m") { 2 } else { 1 };
        let message = failure(&eval(&file, rest), status);
        assert!(message.contains(part), "{rest}: {message}");
    }
    let missing = dir.path().join("missing.jsonl");
    fs::write(&missing, "{\"image\":\"none.png\",\"prompt\":\"p\",\"answer\":\"a\"}\n").unwrap();
    let message = failure(&eval(missing.to_str().unwrap(), ""), 1);
    assert!(message.contains("none.png") && message.contains("no such file"), "{message}");
    let broken = dir.path().join("broken.jsonl");
    fs::write(dir.path().join("broken.png"), "no picture").unwrap();
    let line = "{\"image\":\"broken.png\",\"prompt\":\"p\",\"answer\":\"a\"}\n";
    fs::write(&broken, line).unwrap();
    let message = failure(&eval(broken.to_str().unwrap(), ""), 1);
    assert!(message.contains("none of the images") && message.contains("broken.png"), "{message}");
    let message = failure(&eval("nowhere.jsonl", ""), 1);
    assert!(message.contains("nowhere.jsonl"), "{message}");
}
