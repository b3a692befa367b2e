//! Command lines that are wrong before anything is read: status 2.

use super::{failure, printed, words};

#[test]
fn a_wrong_command_line_names_the_culprit() {
    for (line, told) in [
        ("", "subcommand"),
        ("frobnicate", "frobnicate"),
        ("help", "help"),
        ("--frob", "--frob"),
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
fn help_and_version_are_results() {
    assert_eq!(printed(&["--version"]), format!("hired {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["synth", "devices"] {
        assert!(printed(&["--help"]).contains(&format!("  {command} ")));
        assert!(printed(&[command, "--help"]).contains(&format!("Usage: hired {command}")));
    }
}
