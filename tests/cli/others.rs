//! `select`, `inspect`, `synth` and `devices`.

use super::{answer, failure, folder, json, on_model, path, printed};
use std::fs;

#[test]
fn select_tells_what_run_keeps() {
    for rest in [
        "--image @a.png",
        "--image @c.png --rule repo --budget 30%",
        "--image @b.png --method full",
    ] {
        let run = answer(&format!("--prompt x --max-new-tokens 1 {rest}"));
        assert_eq!(json(&on_model("select", &format!("{rest} --json"))), run["visual"], "{rest}");
    }
}

#[test]
fn select_for_people_names_every_partition() {
    let text = printed(&on_model("select", "--image @b.png --budget 40"));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("kept 40 of "), "{text}");
    assert_eq!(lines.len(), 5);
    for (line, name) in lines[1..].iter().zip(["full image", "(0, 0)", "(0, 1)", "(0, 2)"]) {
        assert!(line.starts_with(name) && line.ends_with(" of 64"), "{text}");
    }
}

/// What is kept by the question is told for a question.
#[test]
fn select_asks_where_a_method_does() {
    let rest = "--image @a.png --json --method fastv --fastv-layer 1";
    let told = json(&on_model("select", &format!("{rest} --prompt What?")));
    let asked = json(&on_model("run", &format!("{rest} --prompt What? --max-new-tokens 1")));
    assert_eq!(told, asked["visual"]);
    let kept = |key: &str| told[key].as_u64().unwrap();
    assert_eq!(kept("kept") + kept("newlines"), kept("budget"));
    let other = json(&on_model("select", "--image @a.png --json --prompt What?"));
    assert_eq!(other, json(&on_model("select", "--image @a.png --json")));
    let message = failure(&on_model("select", rest), 1);
    assert!(message.contains("--prompt"), "{message}");
}

#[test]
fn select_draws_a_picture() {
    let picture = |name: &str, rest: &str| {
        printed(&on_model("select", &format!("--image @a.png --overlay @{name} {rest}")));
        let bytes = fs::read(path(name)).unwrap();
        image::load_from_memory_with_format(&bytes, image::ImageFormat::Png).unwrap().to_rgb8()
    };
    // A name may do without an ending.
    let (some, all) = (picture("some", "--json"), picture("all.png", "--budget full"));
    assert!(some.width() >= 3 * 112 && some.height() >= 2 * 112);
    let light = |picture: &image::RgbImage| {
        picture.pixels().map(|p| p.0.iter().map(|&c| f64::from(c)).sum::<f64>()).sum::<f64>()
            / f64::from(picture.width() * picture.height())
    };
    assert!(light(&some) < 0.8 * light(&all), "dropped patches are dimmed");
}

#[test]
fn inspect_tells_the_needs_of_each_budget() {
    let all = json(&on_model("inspect", "--json"));
    for key in ["architecture", "parameters", "dtype", "bytes", "kv_bytes_per_token", "budgets"] {
        assert!(!all[key].is_null(), "{key}");
    }
    let whole = |key: &str| all[key].as_u64().unwrap_or_else(|| panic!("{key}: {all}"));
    assert_eq!((whole("vocabulary"), whole("context")), (32064, 4096));
    let cache = 2 * 4 * whole("layers") * whole("kv_heads") * whole("head_dim");
    assert_eq!(whole("kv_bytes_per_token"), cache);
    assert!(whole("hidden_size") >= whole("heads") && whole("intermediate_size") > 0);
    assert_eq!(all["vision"]["tokens_per_partition"], 64);
    assert!(all["grids"].as_array().unwrap().contains(&serde_json::json!([2, 2])), "{all}");
    assert_eq!(all["template"], "USER: <image>\n{question} ASSISTANT:");
    assert_eq!((&all["device"], &all["notes"]), (&"cpu".into(), &serde_json::json!([])));
    assert_eq!(all["architecture"], "LlavaNextForConditionalGeneration");
    assert_eq!(all["bytes"].as_u64().unwrap(), 2 * all["parameters"].as_u64().unwrap());
    let budgets = all["budgets"].as_array().unwrap();
    let names: Vec<&str> = budgets.iter().map(|b| b["budget"].as_str().unwrap()).collect();
    assert_eq!(names, ["full", "40%", "30%", "20%", "10%"]);
    for budget in budgets {
        for key in ["visual_tokens", "weights", "kv", "workspace", "peak"] {
            assert!(budget[key].is_u64(), "{key}");
        }
    }
    let visual: Vec<u64> = budgets.iter().map(|b| b["visual_tokens"].as_u64().unwrap()).collect();
    assert_eq!(visual, [336, 128, 96, 64, 32]);
    let newlines = json(&on_model("inspect", "--json --newlines all"));
    assert_eq!(newlines["budgets"][3]["visual_tokens"], 64 + 16);
    let half = json(&on_model("inspect", "--json --dtype f16"));
    assert_eq!(
        2 * half["kv_bytes_per_token"].as_u64().unwrap(),
        all["kv_bytes_per_token"].as_u64().unwrap()
    );

    let text = printed(&on_model("inspect", ""));
    assert!(
        text.contains("LlavaNext")
            && text.contains("4096 tokens")
            && text.lines().any(|line| line.starts_with("20%")),
        "{text}"
    );
}

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
