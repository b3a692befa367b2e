//! What a new user types first: short options, names, standard input, folders, and words about what has no effect.

use super::{answer, command, failure, folder, json, on_model, path, printed, words};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs a command that reads `input`.
fn fed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn fed_json(rest: &str, input: &[u8]) -> Value {
    let output = fed(command(&on_model("run", &format!("{rest} -q --json"))), input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{rest}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command says on standard error beside its result.
fn said(args: &[String]) -> String {
    let output = super::hired(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

#[test]
fn short_options_are_the_long_ones() {
    let long = answer("--prompt x --image @a.png --budget 10% --max-new-tokens 4 --device cpu");
    let model = path("model");
    let image = path("a.png");
    let short = ["run", "-m", &model, "-i", &image, "-p", "x", "-b", "10%", "-n", "4", "-d", "cpu"];
    let short = json(&[&short[..], &["--json"]].concat());
    for key in ["token_ids", "visual", "prompt", "image", "model", "seed", "dtype"] {
        assert_eq!(short[key], long[key], "{key}");
    }
    assert_eq!((&long["prompt"], &long["dtype"]), (&"x".into(), &"f32".into()));
    assert_eq!((long["image"].as_str(), long["model"].as_str()), (Some(&*image), Some(&*model)));
    assert!(long["seed"].is_null());
    assert_eq!(answer("-p x -n 2 --temperature 1 --seed 5")["seed"], 5);
}

#[test]
fn the_model_may_be_named_by_the_environment_or_the_cache() {
    let rest = ["run", "-p", "x", "-n", "2", "-q"];
    let run = |name: &str, value: &std::path::Path, rest: &[&str]| {
        let output = command(rest).env(name, value).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let plain = printed(&on_model("run", "-p x -n 2 -q")).into_bytes();
    assert_eq!(run("HIRED_MODEL", path("model").as_ref(), &rest), plain);
    let snapshots = folder().join("hub/models--some--model/snapshots");
    fs::create_dir_all(snapshots.join("1234")).unwrap();
    for entry in fs::read_dir(path("model")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), snapshots.join("1234").join(entry.file_name())).unwrap();
    }
    let named = [&rest[..], &["-m", "some/model"]].concat();
    assert_eq!(run("HF_HUB_CACHE", &folder().join("hub"), &named), plain);
    assert_eq!(run("HF_HOME", folder(), &named), plain);
    let output = command(&["run", "-p", "x", "-m", "some/other"]).env("HF_HOME", folder()).output();
    let message = super::refused(&"some/other", &output.unwrap(), 1);
    assert!(message.contains("hf download some/other"), "{message}");
    fs::write(path("model.gguf"), "GGUF").unwrap();
    let message = failure(&["inspect", "-m", &path("model.gguf")], 1);
    assert!(
        message.contains("GGUF files are not supported; give the Hugging Face folder"),
        "{message}"
    );
}

#[test]
fn images_come_from_standard_input_and_data_urls() {
    let bytes = fs::read(path("a.png")).unwrap();
    let plain = answer("-p x -n 3 -i @a.png");
    let piped = fed_json("-p x -n 3 -i -", &bytes);
    assert_eq!((&piped["token_ids"], &piped["visual"]), (&plain["token_ids"], &plain["visual"]));
    assert_eq!(piped["image"], "standard input");
    // A picture that has room on a command line.
    let small = folder().join("small.png");
    image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 9]))
        .save(&small)
        .unwrap();
    let bytes = fs::read(&small).unwrap();
    let plain = answer("-p x -n 3 -i @small.png");
    let url =
        format!("data:image/png,{}", bytes.iter().map(|b| format!("%{b:02x}")).collect::<String>());
    let mut args = on_model("run", "-p x -n 3 -q --json -i");
    args.push(url);
    assert_eq!(json(&args)["visual"], plain["visual"]);
    let select = fed(command(&on_model("select", "--json -i -")), &bytes);
    assert_eq!(serde_json::from_slice::<Value>(&select.stdout).unwrap(), plain["visual"]);
    assert!(failure(&on_model("run", "-p x -i -"), 1).contains("standard input: it is empty"));
    let url = "https://example.org/a.png";
    assert!(failure(&on_model("run", &format!("-p x -i {url}")), 1).contains("does not download"));
}

#[test]
fn a_folder_is_a_batch_in_the_order_of_names() {
    fs::create_dir_all(path("album")).unwrap();
    for (from, to) in [("b.png", "1.png"), ("a.png", "2.PNG"), ("c.png", "3.png")] {
        fs::copy(path(from), folder().join("album").join(to)).unwrap();
    }
    fs::write(path("album/notes.txt"), "no picture").unwrap();
    let batch = answer("-p x -n 4 -i @album");
    let names: Vec<&str> =
        batch.as_array().unwrap().iter().map(|one| one["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["album/1.png", "album/2.PNG", "album/3.png"].map(path));
    for (one, name) in batch.as_array().unwrap().iter().zip(["b.png", "a.png", "c.png"]) {
        let alone = answer(&format!("-p x -n 4 -i @{name}"));
        assert_eq!(one["token_ids"], alone["token_ids"], "{name}");
    }
    let dump = on_model("run", "-p x -i @album --dump @d");
    assert!(failure(&dump, 1).contains("--dump is for one prompt, but there are 3"));
}

#[test]
fn the_prompt_comes_from_a_file_or_standard_input() {
    fs::write(path("question.txt"), "What is this?\n").unwrap();
    let plain = answer("-p What~is~this? -n 3");
    let mut args = on_model("run", "-n 3 -q --json -p");
    args.push(format!("@{}", path("question.txt")));
    let read = json(&args);
    assert_eq!((&read["token_ids"], &read["prompt"]), (&plain["token_ids"], &plain["prompt"]));
    assert_eq!(fed_json("-n 3 --prompt=@-", b"What is this?")["token_ids"], plain["token_ids"]);
    let mut at = on_model("run", "-n 1 -q --json -p");
    at.push("@@home".into());
    assert_eq!(json(&at)["prompt"], "@home");
    for (content, told) in [(&b""[..], "the prompt is empty"), (b"\xff", "not UTF-8")] {
        let output = fed(command(&on_model("run", "--prompt=@-")), content);
        let message = super::refused(&told, &output, 1);
        assert!(message.contains(told), "{message}");
    }
    let mut args = on_model("run", "-p");
    args.push("@none.txt".into());
    assert!(failure(&args, 1).contains("none.txt: no such file"));
}

#[test]
fn what_has_no_effect_is_told_once() {
    let one = "-p x -n 1 -i @a.png";
    for (command, rest, told) in [
        (
            "run",
            format!("{one} --method full --budget 20% --rule paper"),
            "--budget and --rule have",
        ),
        (
            "run",
            format!("{one} --method spatial --alpha 0.9 --neighbours 3"),
            "--alpha and --neigh",
        ),
        ("run", format!("{one} --gemm own --no-graph --device cpu"), "--gemm and --no-graph have"),
        ("run", format!("{one} --seed 3 --top-k 4"), "--top-k and --seed have"),
        ("run", "-p x -n 1".into(), "no --image: "),
        ("select", "-i @a.png --method random --alpha 1".into(), "--alpha has"),
        ("inspect", "--resample torchvision".into(), "--resample has"),
        ("plan", "--gpu t4 --device cpu --resample torchvision".into(), "--device and --resample"),
        ("plan", "--gpu t4 --budgets full --max-ttft 9".into(), "--budgets has"),
    ] {
        let args = on_model(command, &rest);
        let text = said(&args);
        assert!(text.starts_with(&format!("note: {told}")) && text.lines().count() == 1, "{text}");
        let quiet: Vec<String> = [args, vec!["-q".into()]].concat();
        assert_eq!(said(&quiet), "", "{rest}");
    }
    for rest in
        ["-p x -n 1 -i @a.png --rule paper --alpha 0.1", "-p x -n 1 -i @a.png --device auto"]
    {
        assert_eq!(said(&on_model("run", rest)), "", "{rest}");
    }
    // A request that fails says only why.
    failure(&on_model("run", "-p x --max-new-tokens 9999"), 1);
}

#[test]
fn how_much_is_said_can_be_chosen() {
    let rest = "-p x -n 1 -i @a.png -i @b.png";
    for option in ["--verbose", "-v", "--log-level info", "--json -v"] {
        let text = said(&on_model("run", &format!("{rest} {option}")));
        assert!(text.starts_with("info: LlavaNextForConditionalGeneration on the CPU\n"), "{text}");
        assert!(
            text.contains("a.png: 1 token, first token ") && text.contains("b.png: "),
            "{text}"
        );
        assert!(text.contains(", kept 64 of 320 image tokens"), "{text}");
    }
    let args = on_model("run", "-p x -n 1");
    let by_variable = |level: &str| {
        let output = command(&args).env("HIRED_LOG", level).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(by_variable("error"), "");
    assert!(by_variable("info").contains("first token"));
    assert!(by_variable("loud").contains("HIRED_LOG is 'loud': set it to error, note or info"));
    assert!(by_variable("").starts_with("note: no --image"));
    // Options go before the variable.
    for option in ["-q", "--log-level=error"] {
        let args = [&args[..], &[option.to_string()]].concat();
        let output = command(&args).env("HIRED_LOG", "info").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{option}: {output:?}");
    }
}

#[test]
fn shells_and_man_have_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("max-new-tokens") && script.contains("plan"), "{shell}");
    }
    assert!(printed(&["man"]).contains("hired\\-plan") && printed(&["man"]).starts_with(".ie"));
    assert!(printed(&["man", "run"]).contains("\\-\\-max\\-new\\-tokens"));
    assert!(failure(&words("man walk"), 2).contains("no command 'walk'"));
}

#[test]
fn a_text_may_end_the_answer() {
    let rest = "-p x -n 24 -i @a.png";
    let whole = answer(rest);
    let (text, ids) = (whole["text"].as_str().unwrap(), whole["token_ids"].as_array().unwrap());
    // From somewhere in the middle, on a boundary of characters.
    let at = (text.len() / 2..).find(|&at| text.is_char_boundary(at)).unwrap();
    let stop: String = text[at..].chars().take(3).collect();
    let run = |more: &[&str]| {
        let mut args = on_model("run", rest);
        args.extend(["-q", "--stop", &stop].iter().chain(more).map(|word| word.to_string()));
        printed(&args)
    };
    let before = &text[..text.find(&stop).unwrap()];
    let cut: Value = serde_json::from_str(&run(&["--json", "--stop", "no such words"])).unwrap();
    assert_eq!((cut["text"].as_str(), cut["finish_reason"].as_str()), (Some(before), Some("stop")));
    let left = cut["token_ids"].as_array().unwrap();
    assert!(ids.starts_with(left) && left.len() < ids.len());
    assert_eq!(run(&[]), format!("{before}\n"));
    assert!(failure(&on_model("run", "-p x --stop="), 2).contains("--stop"));
}
