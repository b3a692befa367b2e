//! The script that measures other engines: that it is sound, as far as Python alone can tell, and that it measures the
//! same architectures.

use hired::checkpoint::synth::Preset;
use hired::config::{self, Files};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");

/// Runs Python in `tools`, without leaving compiled files there; `None` where there is none.
fn python(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    let run = command.current_dir(TOOLS).env("PYTHONDONTWRITEBYTECODE", "1").args(arguments);
    let Ok(output) = run.output() else {
        eprintln!("skipped: no python3");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python3 {arguments:?}\n{errors}");
    Some(output)
}

#[test]
fn every_file_is_python() {
    let scripts = ["compare_transformers.py", "accuracy", "convert", "make_fixtures.py"];
    let mut files = scripts.map(|name| format!("{TOOLS}/{name}")).to_vec();
    let folders =
        ["compare", "converting", "demo_model", "fixtures"].map(|name| format!("{TOOLS}/{name}"));
    for entry in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "py") {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    assert!(files.len() > 15, "{files:?}");
    const COMPILE: &str = "import sys\n\
        for path in sys.argv[1:]: compile(open(path, encoding='utf-8').read(), path, 'exec')";
    let arguments = ["-c", COMPILE].into_iter().chain(files.iter().map(String::as_str));
    python(&arguments.collect::<Vec<_>>());
}

#[test]
fn its_own_check_passes() {
    let Some(output) = python(&["compare_transformers.py", "--self-check"]) else { return };
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("picture: ok") && told.contains("selection"), "{told}");
    print!("{told}");
}

#[test]
fn its_presets_are_ours() {
    const PRINT: &str = "import json\n\
        from compare import presets\n\
        print(json.dumps({n: [presets.config(n), presets.preprocessor(n)] for n in presets.NAMES}))";
    let Some(output) = python(&["-c", PRINT]) else { return };
    let presets: serde_json::Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(presets.len() >= 4, "{:?}", presets.keys());
    for (name, files) in presets {
        let preset: Preset = name.parse().unwrap();
        let [config, preprocessor] = [0, 1].map(|i| files[i].to_string());
        let theirs = config::from_json(
            Path::new(&name),
            &Files {
                config: config.as_bytes(),
                preprocessor: Some(preprocessor.as_bytes()),
                processor: None,
                generation: None,
            },
        );
        assert_eq!(theirs.unwrap(), preset.config().unwrap(), "{name}");
    }
}
