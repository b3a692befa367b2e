//! `hired chat` with standard input that is no terminal: a line asks, a line answers.

use super::{command, words};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};

const SIGN: &str = "What number is on the yellow sign?";

fn picture(name: &str) -> String {
    format!("{}/demo/images/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What a conversation comes to.
fn chat(options: &str, lines: &[&str]) -> Output {
    let model = format!("{}/demo/model", env!("CARGO_MANIFEST_DIR"));
    let mut args = words(&format!("chat --device cpu -n 8 --model {model} {options}"));
    args.retain(|word| !word.is_empty());
    let mut child = command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        writeln!(input, "{line}").unwrap();
    }
    drop(input);
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> Vec<&str> {
    std::str::from_utf8(&output.stdout).unwrap().lines().collect()
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What `hired run` answers to messages.
fn run(messages: &Value) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), messages.to_string()).unwrap();
    let model = format!("{}/demo/model", env!("CARGO_MANIFEST_DIR"));
    let args =
        format!("run -q --device cpu -n 8 --model {model} --messages {}", file.path().display());
    super::printed(&words(&args)).trim_end().to_owned()
}

#[test]
fn later_questions_know_the_earlier_ones() {
    let image = picture("grid-2x2.png");
    let second = "Which colour has number 38?";
    let output = chat(&format!("--image {image} --system Brief."), &[SIGN, "", second]);
    assert_eq!((output.status.code(), said(&output)), (Some(0), ""));
    let answers = printed(&output);
    let system = json!({"role": "system", "content": "Brief."});
    let first = json!({"role": "user", "content": [{"type": "image", "path": image}, {"type": "text", "text": SIGN}]});
    assert_eq!(answers[0], run(&json!([system, first])));
    let turn = json!({"role": "assistant", "content": answers[0]});
    let both = run(&json!([system, first, turn, {"role": "user", "content": second}]));
    assert_eq!(answers, [answers[0], both.as_str()]);
}

#[test]
fn commands_change_what_is_asked() {
    let (image, other) = (picture("grid-2x2.png"), picture("grid-1x2.png"));
    let lines = [
        &format!("/image {image}"),
        "/budget full",
        "/budget",
        SIGN,
        "/reset",
        &format!("/image {other}"),
        "/budget 10%",
        SIGN,
        "/quit",
        "never asked",
    ];
    let output = chat("-v", &lines);
    assert_eq!(output.status.code(), Some(0));
    let about = |path: &str| json!([{"role": "user", "content": [{"type": "image", "path": path}, {"type": "text", "text": SIGN}]}]);
    assert_eq!(printed(&output)[0], "78");
    assert_eq!(printed(&output).len(), 2);
    let said = said(&output);
    assert!(said.contains("the budget is full"), "{said}");
    // All patches of the first image, a tenth of those of the second, of which the first is no part any more.
    assert!(said.contains("kept 320 of 320") && said.contains("kept 19 of 192"), "{said}");
    let output = chat("", &[&format!("/image {other}"), SIGN]);
    assert_eq!(printed(&output), [run(&about(&other))]);
    let help = chat("", &["/help"]);
    let told = std::str::from_utf8(&help.stderr).unwrap();
    assert!(
        ["/image", "/budget", "/reset", "/help", "/quit"].iter().all(|name| told.contains(name)),
        "{told}"
    );
}

#[test]
fn what_is_wrong_is_told_and_the_conversation_goes_on() {
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "no image").unwrap();
    let lines = [
        "/image /nowhere.png",
        &format!("/image {}", broken.path().display()),
        "/image",
        "/budget lots",
        "/budget 0",
        "/dance",
        "//slashes begin this question",
        &format!("/image {}", picture("grid-2x2.png")),
        SIGN,
    ];
    let output = chat("", &lines);
    assert_eq!(output.status.code(), Some(1));
    let told: Vec<&str> = said(&output).lines().collect();
    assert_eq!(told.len(), 7, "{told:?}");
    for (line, says) in told.iter().zip([
        "/nowhere.png: no such file",
        "not",
        "/image needs",
        "lots",
        "keeps no token",
        "there is no command /dance",
        "6 lines of the conversation failed",
    ]) {
        assert!(line.starts_with("hired: ") && line.contains(says), "{line}: {says}");
    }
    let answers = printed(&output);
    assert_eq!(answers.len(), 2, "{answers:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    use std::io::{BufRead, BufReader, Read};
    let args = super::on_model("chat", "--quiet -n 4000 --device cpu");
    let mut child = command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    writeln!(input, "a b c").unwrap();
    let mut begun = [0; 20];
    output.read_exact(&mut begun).unwrap();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let mut rest = Vec::new();
    output.read_until(b'\n', &mut rest).unwrap();
    assert!(rest.ends_with(b"\n"));
    writeln!(input, "/budget lots").unwrap();
    drop(input);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    // It still listens, and ends by itself.
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("lots"), "{said}");
}
