//! docs/json.md against what the commands write: every key of one is in the other, with its type.
#![cfg(feature = "cli")]

#[cfg(feature = "serve")]
#[path = "serve/client.rs"]
mod client;
mod common;

use common::golden::fixture;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const PAGE: &str = include_str!("../docs/json.md");

/// Keys and types of a section's tables, in order; a section may have several.
fn tables(section: &str) -> Vec<BTreeMap<String, String>> {
    let begin = PAGE.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no {section}"));
    let text = &PAGE[begin + 4..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let mut tables = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells[1] {
            "key" => tables.push(BTreeMap::new()),
            "---" => {}
            key => {
                assert_eq!(cells.len(), 6, "{line}");
                let key = key.trim_matches('`').to_owned();
                tables.last_mut().unwrap().insert(key, cells[2].to_owned());
            }
        }
    }
    tables
}

fn table(section: &str) -> BTreeMap<String, String> {
    tables(section).remove(0)
}

/// Every key below a value, with its values.
fn walk(prefix: &str, value: &Value, found: &mut BTreeMap<String, Vec<Value>>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                found.entry(path.clone()).or_default().push(value.clone());
                walk(&path, value, found);
            }
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let path = if prefix.is_empty() { String::new() } else { format!("{prefix}[]") };
            items.iter().for_each(|item| walk(&path, item, found));
        }
        _ => {}
    }
}

fn is(kind: &str, value: &Value) -> bool {
    kind.split([',', ' ']).any(|word| match word {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        "or" | "" => false,
        other => panic!("no type: {other}"),
    })
}

/// Compares a table with values that have its keys at their top; `beside` are found keys that other tables have.
fn compare(what: &str, page: &BTreeMap<String, String>, values: &[Value], beside: &[&str]) {
    let mut found = BTreeMap::new();
    values.iter().for_each(|value| walk("", value, &mut found));
    let mut seen = BTreeSet::new();
    for (key, values) in &found {
        if beside.iter().any(|other| key == other || key.starts_with(&format!("{other}."))) {
            continue;
        }
        // `*` stands for another key of the table.
        let ends = page.keys().filter_map(|k| Some((k, k.strip_prefix('*')?)));
        let mut of_several = ends
            .filter(|(_, end)| key.strip_suffix(end).is_some_and(|start| page.contains_key(start)));
        let row = match page.contains_key(key) {
            true => key,
            false => of_several.next().unwrap_or_else(|| panic!("{what}: no {key} in the page")).0,
        };
        seen.insert(row.clone());
        for value in values {
            assert!(is(&page[row], value), "{what}: {key} is {value}, not {}", page[row]);
        }
    }
    for key in page.keys() {
        assert!(seen.contains(key), "{what}: {key} is in the page, and nowhere else");
    }
}

fn printed(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hired")).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(words: &str) -> Value {
    serde_json::from_str(&printed(&words.split(' ').collect::<Vec<_>>())).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn model() -> String {
    fixture("models/next-hub").to_str().unwrap().to_owned()
}

fn image() -> String {
    fixture("images/plain-26x51.bmp").to_str().unwrap().to_owned()
}

#[test]
fn answers_and_selections() {
    let asked = format!("--model {} --device cpu", model());
    let run = format!("run {asked} --prompt why --max-new-tokens 2 --json");
    let messages = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&messages, r#"[{"role": "user", "content": "why"}]"#).unwrap();
    let run_messages = run.replace("--prompt why", "--messages");
    let together = format!("--image {0} --image {0} --together --budget-total 9", image());
    let values = [
        json(&run),
        json(&format!("{run} --image {}", image())),
        json(&format!("{run} {together} --system brief")),
        json(
            &run_messages
                .replace("--messages", &format!("--messages {}", messages.path().display())),
        ),
    ];
    // Each of them is as the table of `select` says.
    compare("run", &table("hired run --json"), &values, &["visuals[]"]);
    let value = json(&format!("select {asked} --image {} --json", image()));
    compare("select", &table("hired select --json"), std::slice::from_ref(&value), &[]);
    let of_run: BTreeMap<_, _> = table("hired run --json")
        .into_iter()
        .filter_map(|(key, kind)| Some((key.strip_prefix("visual.")?.to_owned(), kind)))
        .collect();
    assert_eq!(of_run, table("hired select --json"));
}

#[test]
fn models_and_machines() {
    let value = json(&format!("inspect --model {} --json", model()));
    compare("inspect", &table("hired inspect --json"), &[value], &[]);
    let plan = "plan --gpu t4 --preset tiny --json";
    // No budget keeps such a limit.
    let all = "plan --gpu all --preset tiny --max-ttft 0.000001 --json";
    let values = [json(plan), json(&format!("{plan} --max-memory 1GiB")), json(all)];
    compare("plan", &table("hired plan --json"), &values, &[]);
    let mut value = json("devices --json");
    // The page tells of GPUs in words, as most machines that test have none.
    value["devices"].as_array_mut().unwrap().truncate(1);
    compare("devices", &table("hired devices --json"), &[value], &[]);
}

#[test]
fn accuracy_and_predictions() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    let line = serde_json::json!({"image": image(), "prompt": "why", "answer": "x", "id": 7});
    std::fs::write(&questions, format!("{line}\n")).unwrap();
    let out = dir.path().join("out.jsonl");
    let (file, predictions) = (questions.display(), out.display());
    let asked = format!("--questions {file} --predictions {predictions} --max-new-tokens 2 --json");
    let value = json(&format!("eval --model {} --device cpu {asked}", model()));
    compare("eval", &table("hired eval --json"), &[value], &[]);
    let asked = format!("--questions {file} --limit 1 --max-new-tokens 2 --json");
    let values = ["q8", "q4 --group 32", "f16"].map(|dtype| {
        let model = model();
        json(&format!("fidelity --model {model} --device cpu {asked} --dtype {dtype}"))
    });
    let rows: Vec<Value> = values.iter().flat_map(|v| v.as_array().unwrap().clone()).collect();
    compare("fidelity", &table("hired fidelity --json"), &rows, &[]);
    let asked = format!("--image {} --prompt why --max-new-tokens 2 --json", image());
    let value = json(&format!("attention --model {} --device cpu {asked}", model()));
    compare("attention", &table("hired attention --json"), &[value], &[]);
    let values = lines(&std::fs::read_to_string(out).unwrap());
    let settings: Vec<String> = values[0]["settings"]
        .as_object()
        .unwrap()
        .keys()
        .map(|k| format!("settings.{k}"))
        .collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    compare("predictions", &table("hired eval --predictions"), &values, &settings);
}

#[test]
fn measurements() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let image = image();
    let words = "bench --synthetic tiny --device cpu --new-tokens 3 --reps 1 --batch 1 --kernels \
                 --budgets full,10% --prompt-tokens 8 --format json";
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.extend(["--image", &image, "--out", out.to_str().unwrap()]);
    let printed = lines(&printed(&words));
    let [build, row, kernel] = &tables("hired bench --format json")[..] else {
        panic!("not three tables")
    };
    let of = |has: &str, hasnt: &str, all: &[Value]| -> Vec<Value> {
        let is = |line: &&Value| line.get(has).is_some() && line.get(hasnt).is_none();
        all.iter().filter(is).cloned().collect()
    };
    compare("bench's build", build, &of("build", "ttft", &printed), &[]);
    let written = lines(&std::fs::read_to_string(&out).unwrap());
    for lines in [&printed, &written] {
        compare("bench's rows", row, &of("ttft", "kernel", lines), &[]);
        compare("bench's kernels", kernel, &of("kernel", "ttft", lines), &[]);
    }
    let head = table("hired eval --predictions");
    assert!(written[0].as_object().unwrap().keys().all(|key| head.contains_key(key)));
}

#[test]
fn measurements_of_many_clients() {
    let words = "bench --synthetic tiny --device cpu --new-tokens 2 --serve --clients 2 --requests 4 \
                 --budgets 10% --prompt-tokens 8 --format json";
    let printed = lines(&printed(&words.split_whitespace().collect::<Vec<_>>()));
    let build = &tables("hired bench --format json")[0];
    compare("bench's build", build, &printed[..1], &[]);
    compare("rows", &table("hired bench --serve --format json"), &printed[1..], &[]);
}

#[cfg(feature = "serve")]
#[test]
fn answers_over_http() {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new(env!("CARGO_BIN_EXE_hired"));
    command.args(["serve", "--device", "cpu", "--port", "0", "--model", &model()]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();
    while client::Request::get("/ready").send(address).status != 200 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let url = client::data_url(&std::fs::read(image()).unwrap());
    let picture = serde_json::json!({"type": "image_url", "image_url": {"url": url}});
    let words = serde_json::json!({"type": "text", "text": "why"});
    let values: Vec<Value> = [vec![&words], vec![&picture, &words], vec![&picture, &picture, &words]]
        .into_iter()
        .map(|content| {
            let body = serde_json::json!({
                "messages": [{"role": "user", "content": content}], "max_tokens": 2, "kept": true, "overlay": true,
            });
            let request = client::Request::post("/v1/chat/completions", &body.to_string());
            request.send(address).json()["hired"].clone()
        })
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    compare("serve", &table("hired serve"), &values, &["visuals[]"]);
}
