//! Answers that end before their time: nobody reads any more, or Ctrl-C.
#![cfg(unix)]

use super::{command, on_model};
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Minutes of work in the test build.
const LONG: &str = "--quiet --prompt a~b~c --max-new-tokens 4000";

/// Starts a long answer and reads its first bytes.
fn begun(rest: &str) -> (Child, ChildStdout, Vec<u8>) {
    let mut child = command(&on_model("run", rest)).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; 20];
    stdout.read_exact(&mut text).unwrap();
    (child, stdout, text)
}

fn said(mut child: Child) -> (Option<i32>, String) {
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (child, stdout, _) = begun(LONG);
    drop(stdout);
    assert_eq!(said(child), (Some(0), String::new()));
}

#[test]
fn ctrl_c_ends_the_text_with_a_newline() {
    let (child, mut stdout, mut text) = begun(LONG);
    signal(&child, "-INT");
    stdout.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with('\n') && text.trim_end().len() >= 20, "{text:?}");
    assert_eq!(said(child), (Some(130), String::new()));
}

#[test]
fn ctrl_c_in_a_batch_ends_all_of_it() {
    let (child, mut stdout, mut text) = begun(&format!("{LONG} --image @a.png --image @b.png"));
    signal(&child, "-INT");
    stdout.read_to_end(&mut text).unwrap();
    assert!(text.ends_with(b"\n"));
    assert_eq!(said(child), (Some(130), String::new()));
}

/// A terminal that is closed, or a supervisor that ends the program.
#[test]
fn other_signals_end_as_ctrl_c_does() {
    // Under `nohup` the end of the terminal is ignored, by these tests and by what they start.
    let under_nohup = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|m| m & 1 == 1)
    });
    let signals: &[&str] = if under_nohup { &["-TERM"] } else { &["-TERM", "-HUP"] };
    for &name in signals {
        let (child, mut stdout, mut text) = begun(LONG);
        signal(&child, name);
        stdout.read_to_end(&mut text).unwrap();
        assert!(text.ends_with(b"\n"));
        assert_eq!(said(child), (Some(130), String::new()), "{name}");
    }
}

/// What `nohup` asks for. Ctrl-C is heard even so: shells start what runs in the background with that ignored.
#[test]
fn a_signal_that_is_to_be_ignored_is_ignored() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_hired")]);
    shell.args(on_model("run", LONG)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; 20];
    stdout.read_exact(&mut text).unwrap();
    signal(&child, "-HUP");
    stdout.read_exact(&mut text).unwrap();
    signal(&child, "-INT");
    assert_eq!(said(child).0, Some(130));
}

/// A checkpoint that was begun is taken back.
#[test]
fn an_ended_synth_leaves_no_folder() {
    let out = super::folder().join("half");
    let place = out.to_str().unwrap();
    let mut child =
        command(&["synth", "--preset", "llava-1.5-7b", "--out", place]).spawn().unwrap();
    while !out.join("model-00001-of-00003.safetensors.unfinished").exists() {
        if child.try_wait().unwrap().is_some() {
            let (status, said) = said(child);
            assert!(status == Some(1) && said.contains("GB free"), "{status:?} {said}");
            println!("skipped: the disk has no room for 14 GB");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, "-TERM");
    assert_eq!(said(child), (Some(130), String::new()));
    assert!(!out.exists());
}

/// A weight file that is cut short while it is mapped.
#[test]
fn lost_weights_are_told_in_one_line() {
    let copy = super::folder().join("cut-short");
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(super::path("model")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let weights = copy.join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let model = copy.to_str().unwrap();
    for (mapping, ends_well) in [("", false), ("--no-mmap", true)] {
        let line = format!("run --model {model} {LONG} {mapping}");
        let mut child = command(&super::words(&line)).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut text = vec![0; 20];
        stdout.read_exact(&mut text).unwrap();
        std::fs::OpenOptions::new().write(true).open(&weights).unwrap().set_len(1000).unwrap();
        if ends_well {
            stdout.read_exact(&mut text).unwrap();
            signal(&child, "-INT");
            assert_eq!(said(child), (Some(130), String::new()));
        } else {
            let (status, said) = said(child);
            assert!(
                status == Some(1) && said.contains("weight file was changed"),
                "{status:?} {said}"
            );
            assert_eq!(said.lines().count(), 1);
        }
        std::fs::write(&weights, &whole).unwrap();
    }
}

/// With JSON there is nothing to see of a request that did not end.
#[test]
fn ctrl_c_prints_no_half_object() {
    let dir = super::folder().join("interrupted");
    std::fs::create_dir_all(&dir).unwrap();
    let (pipe, dump) = (dir.join("pipe"), dir.join("dump"));
    let _ = std::fs::remove_file(&pipe);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let [image, dump] = [&pipe, &dump].map(|path| path.to_str().unwrap());
    let rest = format!("{LONG} --image {image} --json --dump {dump}");
    let mut child = command(&on_model("run", &rest)).spawn().unwrap();
    // The program reads the picture before any work and after it has begun to listen for signals.
    std::fs::write(&pipe, std::fs::read(super::path("a.png")).unwrap()).unwrap();
    signal(&child, "-INT");
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((said(child), text), ((Some(130), String::new()), String::new()));
    std::fs::remove_file(&pipe).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

/// Nothing of a selection can be shown before its end.
#[test]
fn ctrl_c_ends_other_commands_at_once() {
    let pipe = super::folder().join("picture");
    let _ = std::fs::remove_file(&pipe);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let rest = format!("--image {}", pipe.to_str().unwrap());
    let child = command(&on_model("select", &rest)).spawn().unwrap();
    // Opens when the program does, which then waits for ever for the picture.
    let held = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    signal(&child, "-INT");
    assert_eq!(said(child), (Some(130), String::new()));
    drop(held);
}
