//! Requests that fail: status 1, one line that names the culprit.

use super::{failure, folder, on_model, path};
use std::fs;
use std::path::PathBuf;

/// A copy of the checkpoint to be damaged.
fn damaged(name: &str, damage: impl FnOnce(&std::path::Path)) -> PathBuf {
    let copy = folder().join(name);
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(path("model")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    damage(&copy);
    copy
}

#[test]
fn images_that_cannot_be_read() {
    fs::create_dir_all(path("pictures")).unwrap();
    fs::write(path("empty.png"), b"").unwrap();
    fs::write(path("text.png"), b"This is not a picture.\n").unwrap();
    let whole = fs::read(path("a.png")).unwrap();
    fs::write(path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    for name in ["none.png", "empty.png", "text.png", "cut.png", "pictures"] {
        for rest in ["", "--json"] {
            let args = on_model("run", &format!("--prompt x --image @{name} {rest}"));
            assert!(failure(&args, 1).contains(name), "{name}");
        }
        // A bad one among good ones fails the request before any answer.
        let args = on_model("run", &format!("--prompt x --image @a.png --image @{name}"));
        assert!(failure(&args, 1).contains(name), "{name}");
        assert!(failure(&on_model("select", &format!("--image @{name}")), 1).contains(name));
    }
}

#[cfg(unix)]
#[test]
fn what_never_ends_is_no_image() {
    let args = on_model("run", "--prompt x --image /dev/zero");
    let message = failure(&args, 1);
    assert!(message.contains("/dev/zero: this is not an image"), "{message}");
    let args = on_model("eval", "--questions /dev/zero");
    assert!(failure(&args, 1).contains("/dev/zero: line 1 is longer"));
}

#[test]
fn images_that_are_larger_than_asked_for() {
    for command in ["run --prompt x", "select"] {
        let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
        let args =
            |most: &str| on_model(command, &format!("{rest} --image @a.png --max-pixels {most}"));
        let message = failure(&args("9"), 1);
        assert!(message.contains("a.png") && message.contains("9 allowed"), "{message}");
        assert!(super::hired(&args("100000")).status.success());
    }
}

#[test]
fn folders_that_are_no_checkpoint() {
    let file = path("a.png");
    let nothing = damaged("nothing", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
    });
    let loops = folder().join("loop");
    #[cfg(unix)]
    let _ = std::os::unix::fs::symlink("loop", &loops);
    let mut cases =
        vec![(PathBuf::from("no/such/folder"), "no/such/folder"), (file.into(), "a.png")];
    cases.extend([(nothing, "config.json"), (loops, "loop")]);
    let without =
        ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"];
    for name in without {
        let dir =
            damaged(&format!("without-{name}"), |dir| fs::remove_file(dir.join(name)).unwrap());
        cases.push((dir, name));
    }
    let cut = damaged("cut", |dir| {
        let weights = dir.join("model.safetensors");
        let bytes = fs::read(&weights).unwrap();
        fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    });
    cases.push((cut, "model.safetensors"));
    let odd = damaged("odd", |dir| {
        fs::write(dir.join("config.json"), "{\n\"model_type\": 1\n}").unwrap()
    });
    cases.push((odd, "config.json"));
    for (dir, told) in cases {
        let dir = dir.to_str().unwrap();
        let message = failure(&["run", "--model", dir, "--prompt", "x"], 1);
        assert!(message.contains(told), "{dir}: {message}");
        assert!(failure(&["inspect", "--model", dir, "--json"], 1).contains(told), "{dir}");
    }
}

#[test]
fn requests_that_the_model_cannot_serve() {
    for (rest, told) in [
        ("--prompt x --image @a.png --init-layer 5", "init layer 5"),
        ("--prompt x --image @a.png --init-layer -6", "init layer -6"),
        ("--prompt x --image @a.png --final-layer 99999999999999999999", "final layer"),
        ("--prompt x --image @a.png --max-new-tokens 4090", "4096"),
        ("--prompt x --max-new-tokens 18446744073709551615", "4096"),
        ("--prompt x --image @a.png --budget 0.1%", "0.1%"),
        ("--prompt x --raw-prompt --image @a.png", "<image>"),
        ("--prompt <image><image> --raw-prompt --image @a.png", "<image>"),
        ("--prompt <image> --raw-prompt", "<image>"),
        ("--prompt <image> --image @a.png", "--literal"),
        ("--prompt <image>", "--literal"),
        ("--prompt x --device cuda", "CUDA"),
        ("--prompt x --device cuda:3", "CUDA"),
        ("--prompt x --image @a.png --budget auto --max-memory 1", "more than the limit"),
        ("--prompt x --image @a.png --budget auto --max-ttft 1e-9", "limit"),
    ] {
        for json in ["", "--json"] {
            let message = failure(&on_model("run", &format!("{rest} {json}")), 1);
            assert!(message.contains(told), "{rest}: {message}");
        }
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    fs::create_dir_all(path("taken")).unwrap();
    for place in ["@taken", "@none/out"] {
        let run = on_model("run", &format!("--prompt x --image @a.png --json --dump {place}"));
        assert!(failure(&run, 1).contains(&path(&place[1..])));
        let select = on_model("select", &format!("--image @a.png --json --overlay {place}"));
        assert!(failure(&select, 1).contains(&path(&place[1..])));
    }
}

/// A result does not replace what it was made from.
#[test]
fn outputs_that_would_replace_an_input() {
    let copy = damaged("read", |_| {});
    let [picture, questions, plot] =
        ["picture.png", "asked.jsonl", "plot.svg"].map(|name| copy.join(name));
    fs::copy(path("a.png"), &picture).unwrap();
    fs::write(&questions, r#"{"image":"picture.png","prompt":"x","answer":"y"}"#).unwrap();
    let weights = copy.join("model.safetensors");
    let before = fs::metadata(&weights).unwrap().len();
    let [model, picture, questions, plot, weights] =
        [&copy, &picture, &questions, &plot, &weights].map(|path| path.to_str().unwrap());
    for (line, kept) in [
        (format!("run --prompt x --image {picture} --dump {weights}"), weights),
        (format!("run --prompt x --image {picture} --dump {picture}"), picture),
        (format!("select --image {picture} --overlay {picture}"), picture),
        (format!("eval --questions {questions} --plot {questions}"), questions),
        (format!("eval --questions {questions} --plot {plot} --plot-tokens {picture}"), picture),
        (format!("bench --image {picture} --plot {picture}"), picture),
    ] {
        let args = super::words(&format!("{line} --model {model}"));
        let message = failure(&args, 1);
        assert!(
            message.contains(kept) && message.contains("would overwrite the input"),
            "{line}: {message}"
        );
    }
    assert_eq!(fs::metadata(weights).unwrap().len(), before);
    // Names that are no picture's, or no file's.
    let select = |place: &str| on_model("select", &format!("--image @a.png --overlay {place}"));
    assert!(failure(&select("@x.jpg"), 2).contains(".png"));
    assert!(failure(&select("-"), 1).contains("/dev/stdout"));
}

/// A device that takes nothing: the disk is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_the_request() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [
        on_model("run", "--quiet --prompt x --max-new-tokens 3"),
        on_model("run", "--quiet --prompt x --max-new-tokens 3 --json"),
        on_model("inspect", ""),
        super::words("devices"),
        super::words("--help"),
    ] {
        let output = super::command(&args).stdout(full()).output().unwrap();
        assert!(super::refused(&args, &output, 1).contains("standard output"), "{args:?}");
    }
    // When only the dump fails, the result is not printed either.
    let args = on_model("run", "-q --prompt x --max-new-tokens 1 --json --dump /dev/full");
    assert!(failure(&args, 1).contains("/dev/full"));
}

#[test]
fn a_failed_request_leaves_no_file_behind() {
    let place = folder().join("place");
    fs::create_dir_all(&place).unwrap();
    let dump = place.join("dump").to_str().unwrap().to_owned();
    failure(&on_model("run", &format!("--prompt x --image @none.png --dump {dump}")), 1);
    failure(&on_model("run", &format!("--prompt <image> --dump {dump}")), 1);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
