//! The program against transformers, on one picture of every fixture checkpoint.

use super::{json, numbers, path};
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn integers(tensors: &SafeTensors, name: &str) -> Vec<u64> {
    let tensor = tensors.tensor(name).unwrap();
    let numbers = tensor.data().chunks_exact(8);
    numbers.map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u64).collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_checkpoint_answers_as_transformers_do() {
    let golden = Path::new(FIXTURES).join("golden");
    let manifest: Value = serde_json::from_slice(&read(&golden.join("manifest.json"))).unwrap();
    let mut first = BTreeMap::new();
    for case in manifest["cases"].as_array().unwrap() {
        first.entry(case["model"].as_str().unwrap()).or_insert(case);
    }
    assert!(first.len() >= 5);
    for (model, case) in first {
        let text = |key: &str| case[key].as_str().unwrap();
        let bytes = read(&golden.join(text("golden")));
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let folder = format!("{FIXTURES}/models/{model}");
        let image = format!("{FIXTURES}/images/{}", text("image"));
        let dump = path(&format!("{model}.safetensors"));
        let run = |rest: &[&str]| {
            let fixed = ["run", "--model", &folder, "--image", &image, "--prompt", text("prompt")];
            json(&[&fixed[..], &["--json"], rest].concat())
        };

        // As transformers' answers were made, whatever the folder's image processor would do.
        let pillow = |rest: &[&str]| {
            run(&[&["--resample", "pillow", "--max-new-tokens", "32"], rest].concat())
        };
        let full = pillow(&["--budget", "full", "--dump", &dump]);
        assert_eq!(numbers(&full["token_ids"]), integers(&golden, "full.tokens"), "{model}");
        for key in ["grid", "partitions", "tokens_per_partition", "valid"] {
            assert_eq!(full["visual"][key], case[key], "{model}: {key}");
        }
        let bytes = read(Path::new(&dump));
        let stages = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(integers(&stages, "input_ids"), integers(&golden, "input_ids"), "{model}");

        for resample in ["pillow", "pillow-12", "torchvision"] {
            run(&["--resample", resample, "--dump", &dump, "--max-new-tokens", "1"]);
            let bytes = read(Path::new(&dump));
            let stages = SafeTensors::deserialize(&bytes).unwrap();
            let pixels = Sha256::digest(stages.tensor("pixel_values").unwrap().data());
            let pixels: String = pixels.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(pixels, case["pixels"][resample].as_str().unwrap(), "{model} {resample}");
        }

        for rule in ["exact", "paper", "repo"] {
            let variant = |what: &str| integers(&golden, &format!("{rule}20.{what}"));
            let some = pillow(&["--rule", rule]);
            assert_eq!(numbers(&some["token_ids"]), variant("tokens"), "{model} {rule}");
            let visual = &some["visual"];
            assert_eq!(numbers(&visual["allocation"]), variant("allocation"), "{model} {rule}");
            let kept = visual["kept_indices"].as_array().unwrap();
            let kept: Vec<u64> = kept.iter().flat_map(numbers).collect();
            assert_eq!(kept, variant("kept"), "{model} {rule}");
        }
    }
}
