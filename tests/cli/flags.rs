//! Command lines that are wrong before anything is read: status 2.

use super::{failure, on_model, printed, words};

#[test]
fn every_wrong_value_is_refused_with_its_option() {
    let cases = [
        ("--budget", "0 -5 0% -1% 100.1% 20%% 1.5 % twenty nan inf 1e3 +5"),
        ("--alpha", "-0.1 -0.0000001 1.1 nan inf half 50%"),
        ("--method", "Hired none"),
        ("--rule", "EXACT best"),
        ("--newlines", "some 1"),
        ("--heads", "all -1 1.5 Sum"),
        ("--spatial", "Even every 2"),
        ("--prumerge-count", "some 3"),
        ("--neighbours", "-1 few"),
        ("--outliers", "-1 nan inf 5000"),
        ("--contextual", "-0.1 1.1 some"),
        ("--saliency", "-1 nan"),
        ("--key-layer", "last 1e1"),
        ("--init-layer", "first 0.5 nan"),
        ("--final-layer", "last 1e1"),
        ("--max-new-tokens", "0 -1 1.5 many 99999999999999999999999"),
        ("--temperature", "-0.1 nan inf -inf hot"),
        ("--top-k", "0.5 all 99999999999999999999999"),
        ("--top-p", "-0.1 1.01 nan inf most"),
        ("--min-p", "-0.1 1.01 nan inf most"),
        ("--repetition-penalty", "0 -1 nan inf less"),
        ("--seed", "0x1 1.0 seed 18446744073709551616"),
        ("--device", "gpu CUDA cuda: cuda:x cuda:-1 cpu:0 cuda:99999999999999999999999"),
        ("--dtype", "f64 half q9"),
        ("--activations", "f64 half q8"),
        ("--resample", "bilinear pillow-11 PIL"),
        ("--gemm", "mkl"),
        ("--max-memory", "0 -1 lots 0.5 15gib 15G GiB nan inf 1e9 99999999999999999999999"),
        ("--max-ttft", "0 -1 nan inf soon"),
    ];
    for (option, values) in cases {
        for value in values.split(' ') {
            let args = on_model("run", &format!("--prompt x --image @a.png {option} {value}"));
            let message = failure(&args, 2);
            assert!(message.contains(option) && message.contains(value), "{message}");
            assert!(message.ends_with("; try 'hired run --help'"), "{message}");
        }
        let empty = on_model("run", &format!("--prompt x {option}="));
        assert!(failure(&empty, 2).contains(option));
        let missing = on_model("run", &format!("--prompt x {option}"));
        assert!(failure(&missing, 2).contains(option));
        let twice = on_model("run", &format!("--prompt x {option} 1 {option} 1"));
        assert!(failure(&twice, 2).contains(option));
    }
}

#[test]
fn options_that_contradict_each_other() {
    for (rest, told) in [
        ("--prompt x --budget auto", "--max-memory"),
        ("--prompt x --max-memory 1GiB", "--budget auto"),
        ("--prompt x --max-ttft 2", "--budget auto"),
        ("--prompt x --budget 20% --max-ttft 2", "--budget auto"),
        ("--prompt x --image @a.png --image @b.png --dump @d", "--dump is for one prompt"),
        ("--prompt=", "--prompt"),
        ("", "--prompt"),
        ("--prompt x surplus", "surplus"),
        ("--prompt x --verbatim", "--verbatim"),
        ("--prompt x --json=yes", "--json"),
        ("--prompt x --image=", "--image"),
        ("--prompt x --bugdet 3", "--budget"),
    ] {
        let message = failure(&on_model("run", rest), 2);
        assert!(message.contains(told), "{rest}: {message}");
    }
}

#[test]
fn other_commands_are_as_strict() {
    for (line, told) in [
        ("frobnicate", "frobnicate"),
        ("help frobnicate", "frobnicate"),
        ("--frob", "--frob"),
        ("run", "--model"),
        ("run --model=  --prompt x", "--model"),
        ("select --model m", "--image"),
        ("select --image i", "--model"),
        ("select --model m --image i --budget auto", "--budget"),
        ("select --model m --image i --image j", "--image"),
        ("select --model m --image i --rule none", "--rule"),
        ("inspect", "--model"),
        ("inspect --model m --budget 3", "--budget"),
        ("inspect --model m --alpha 2", "--alpha"),
        ("synth --out o", "--preset"),
        ("synth --preset tiny", "--out"),
        ("synth --preset llava-2 --out o", "llava-2"),
        ("synth --preset tiny --out o --seed -1", "-1"),
        ("devices now", "now"),
    ] {
        let message = failure(&words(line), 2);
        assert!(message.contains(told), "{line}: {message}");
    }
}

#[test]
fn a_wrong_value_of_several_lines_is_told_in_one() {
    let message =
        failure(&["run", "--model", "m", "--prompt", "x", "--budget", "1\n\n2\u{1b}[31m"], 2);
    assert!(message.contains("--budget") && !message.contains('\u{1b}'), "{message}");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let prompt = std::ffi::OsStr::from_bytes(b"\xff");
        let message = failure(&["run".as_ref(), "--prompt".as_ref(), prompt], 2);
        assert!(message.contains("UTF-8"), "{message}");
        failure(&[std::ffi::OsStr::from_bytes(b"\xff")], 2);
    }
}

#[test]
fn help_and_version_are_results() {
    let version = format!("hired {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["-V"]), format!("{version}\n"));
    let long = printed(&["--version"]);
    assert!(long.starts_with(&format!("{version}\ncommit ")), "{long}");
    assert!(long.contains("\nfeatures   cli image-formats") && long.contains("\nCUDA "), "{long}");
    for command in ["run", "select", "inspect", "plan", "synth", "bench", "eval", "devices"] {
        assert!(printed(&["--help"]).contains(&format!("  {command} ")));
        let help = printed(&[command, "--help"]);
        assert!(help.contains(&format!("Usage: hired {command}")));
        assert_eq!(printed(&["help", command]), help);
    }
    // Without a command it is no result.
    let bare = super::hired::<&str>(&[]);
    assert_eq!((bare.status.code(), bare.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8_lossy(&bare.stderr).contains("Usage: hired"));
}

/// A beginner finds what a request needs at the top, and nothing else at first.
#[test]
fn the_short_help_is_short() {
    let (short, long) = (printed(&["run", "-h"]), printed(&["run", "--help"]));
    assert!(2 * short.lines().count() < long.lines().count(), "{short}");
    let line = |help: &str, option: &str| {
        let found = help.lines().position(|line| line.trim_start().starts_with(option));
        found.unwrap_or_else(|| panic!("{option}: {help}"))
    };
    for option in
        ["-m, --model", "-i, --image", "-p, --prompt", "-b, --budget", "-n, --max-new-tokens"]
    {
        assert!(line(&short, option) < 40, "{option}: {short}");
        line(&long, option);
    }
    assert!(line(&long, "-b, --budget") < line(&long, "--method"), "{long}");
    assert!(!short.contains("--saliency") && long.contains("--saliency"));
}

#[test]
fn tips_and_ranges_are_told() {
    for (rest, told) in [
        (
            "--promt x",
            "unexpected argument '--promt' found (a similar argument exists: '--prompt')",
        ),
        ("--prompt x --top-k -1", "give a whole number of at least 0"),
        ("--prompt x --seed -1", "give a whole number of at least 0"),
        ("--prompt x --seed 99999999999999999999", "too large"),
        ("--prompt x --neighbours few", "give a whole number of at least 0"),
        ("--prompt @", "name of a file"),
        ("--prompt @- --image -", "standard input can only be read once"),
        ("--messages - --image -", "standard input can only be read once"),
        ("--prompt x --together", "--together asks about all images, and there are none"),
        ("--prompt x --messages @m", "cannot be used with"),
        ("--prompt x --raw-prompt --system y", "cannot be used with"),
        ("--prompt x --image @a.png --budget 5 --budget-total 5", "cannot be used with"),
        ("--prompt x -v -q", "cannot be used with"),
    ] {
        let mut args: Vec<String> = ["run", "--model", "m"].map(String::from).into();
        args.extend(words(rest));
        let message = failure(&args, 2);
        assert!(message.contains(told), "{rest}: {message}");
    }
}
