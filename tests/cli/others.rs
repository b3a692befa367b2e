//! `synth` and `devices`.

use super::{failure, folder, json, path, printed};
use std::fs;

#[test]
fn synth_writes_the_same_bytes_for_a_seed() {
    let write = |name: &str, seed: &str| {
        assert_eq!(
            printed(&["synth", "--preset", "tiny", "--seed", seed, "--out", &path(name)]),
            ""
        );
        fs::read(folder().join(name).join("model.safetensors")).unwrap()
    };
    let first = write("seed-5", "5");
    assert_eq!(first, write("seed-5-again", "5"));
    assert_ne!(first, write("seed-6", "6"));
    assert!(
        failure(&["synth", "--preset", "tiny", "--out", &path("seed-5")], 1).contains("seed-5")
    );
    assert!(failure(&["synth", "--preset", "tiny", "--out", &path("a.png")], 1).contains("a.png"));
}

#[test]
fn devices_lists_the_cpu_and_says_why_no_cuda() {
    let text = printed(&["devices"]);
    assert!(text.starts_with("cpu ") && text.contains("cuda  "), "{text}");
    let all = json(&["devices", "--json"]);
    assert_eq!(all["devices"][0]["kind"], "cpu");
    assert!(all["devices"][0]["cores"].as_u64().unwrap() >= 1);
    assert!(all["cuda"].as_str().unwrap().contains("CUDA"));
}
