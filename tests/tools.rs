//! Every script in `tools` tells what it does, and does nothing else then.
#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn every_script_explains_itself() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
    let mut count = 0;
    for entry in std::fs::read_dir(tools).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if !text.starts_with("#!/usr/bin/env bash") {
            continue;
        }
        count += 1;
        for option in ["--help", "-h"] {
            // Neither compilers nor package managers of the user are on this path.
            let output = Command::new("bash")
                .arg(&path)
                .arg(option)
                .env("PATH", "/usr/bin:/bin")
                .env_remove("CARGO_HOME")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let first = text.lines().nth(1).unwrap().trim_start_matches("# ");
            assert!(output.status.success() && output.stderr.is_empty(), "{path:?}: {output:?}");
            // The head of the script, and no line of its code.
            assert!(said.starts_with(first) && said.lines().count() < 40, "{path:?}: {said}");
            assert!(!said.contains("pipefail"), "{path:?}: {said}");
        }
    }
    assert!(count >= 9, "{count}");
}
