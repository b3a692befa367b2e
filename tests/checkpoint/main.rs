//! Safetensors folders: the four spellings, shards, and what is wrong with a folder.

mod hostile;
mod synthetic;

use std::collections::BTreeMap;
use std::path::Path;

use hired::checkpoint::{Checkpoint, canonical};
use hired::format::Format;
use serde_json::{Value, json};

/// A safetensors file around a hand-written header.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A sound file with one two-element f16 tensor for each name; the bytes count up.
fn tensors(names: &[&str]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    for (i, name) in names.iter().enumerate() {
        let entry = json!({ "dtype": "F16", "shape": [2], "data_offsets": [4 * i, 4 * i + 4] });
        header.insert((*name).to_owned(), entry);
    }
    let data: Vec<u8> = (0..4 * names.len() as u8).collect();
    file(&Value::from(header).to_string(), &data)
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn index(map: &[(&str, &str)]) -> Vec<u8> {
    let map: BTreeMap<_, _> = map.iter().copied().collect();
    json!({ "metadata": { "total_size": 0 }, "weight_map": map }).to_string().into()
}

#[track_caller]
fn assert_message<T: std::fmt::Debug>(result: hired::Result<T>, parts: &[&str]) {
    let message = result.expect_err("this must be refused").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.chars().count() < 1000, "{message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn four_spellings_have_one_name() {
    let spellings = [
        (
            "vision_tower.embeddings.class_embedding",
            &[
                "vision_tower.vision_model.embeddings.class_embedding",
                "vision_tower.embeddings.class_embedding",
                "model.vision_tower.vision_model.embeddings.class_embedding",
                "model.vision_tower.embeddings.class_embedding",
            ][..],
        ),
        (
            "language_model.layers.3.mlp.up_proj.weight",
            &[
                "language_model.model.layers.3.mlp.up_proj.weight",
                "model.language_model.layers.3.mlp.up_proj.weight",
            ],
        ),
        (
            "language_model.norm.weight",
            &["language_model.model.norm.weight", "model.language_model.norm.weight"],
        ),
        ("lm_head.weight", &["language_model.lm_head.weight", "lm_head.weight"]),
        (
            "multi_modal_projector.linear_1.bias",
            &["multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"],
        ),
        ("image_newline", &["image_newline", "model.image_newline"]),
        (
            "vision_tower.embeddings.class_embedding",
            &["vision_tower.embeddings.cls_token", "model.vision_tower.embeddings.cls_token"],
        ),
        (
            "vision_tower.embeddings.patch_embedding.bias",
            &["vision_tower.embeddings.patch_embeddings.projection.bias"],
        ),
        (
            "vision_tower.encoder.layers.7.self_attn.out_proj.bias",
            &["vision_tower.encoder.layer.7.attention.projection_layer.bias"],
        ),
        (
            "vision_tower.encoder.layers.7.self_attn.q_norm.weight",
            &["vision_tower.encoder.layer.7.attention.q_norm.weight"],
        ),
        (
            "vision_tower.encoder.layers.7.layer_norm1.weight",
            &["model.vision_tower.encoder.layer.7.layernorm_before.weight"],
        ),
        ("vision_tower.encoder.layers.7.lambda_1", &["vision_tower.encoder.layer.7.lambda_1"]),
    ];
    for (name, stored) in spellings {
        for stored in stored {
            assert_eq!(canonical(stored), name, "{stored}");
        }
    }
}

#[test]
fn one_file() {
    let file = tensors(&["model.image_newline", "language_model.lm_head.weight", "junk"]);
    let dir = folder(&[("model.safetensors", &file)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let head = checkpoint.get("lm_head.weight").unwrap();
    assert_eq!((head.format, head.elements(), head.shape.as_slice()), (Format::F16, 2, &[2][..]));
    assert_eq!(head.bytes(), [4, 5, 6, 7]);
    assert_eq!(
        checkpoint.tensors().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["image_newline", "junk", "lm_head.weight"]
    );
    assert!(checkpoint.contains("junk") && !checkpoint.contains("language_model.lm_head.weight"));
    // A tensor outlives its checkpoint and goes to other threads.
    drop(checkpoint);
    let head = std::thread::spawn(move || head.clone()).join().unwrap();
    head.expect_shape(&[2]).unwrap();
    assert_message(
        head.expect_shape(&[2, 1]),
        &["model.safetensors", "lm_head.weight", "[2]", "[2, 1]", "config.json"],
    );
}

#[test]
fn every_stored_type() {
    let header = json!({
        "a": { "dtype": "BF16", "shape": [2], "data_offsets": [0, 4] },
        "b": { "dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8] },
        "c": { "dtype": "I8", "shape": [3], "data_offsets": [8, 11] },
        "d": { "dtype": "F16", "shape": [0, 7], "data_offsets": [11, 11] },
        "__metadata__": { "format": "pt" }
    });
    let bytes = file(&header.to_string(), &[0; 11]);
    let dir = folder(&[("model.safetensors", &bytes)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.get("a").unwrap().format, Format::Bf16);
    assert_eq!(checkpoint.get("b").unwrap().format, Format::F32);
    assert_eq!(checkpoint.get("d").unwrap().elements(), 0);
    assert_message(checkpoint.get("c"), &["tensor c", "I8", "quantization_config"]);
    assert_message(checkpoint.get("e"), &["tensor e", "incomplete"]);
    assert!(checkpoint.contains("c"));
    assert_eq!(checkpoint.tensors().count(), 3);
}

#[test]
fn shards() {
    let (first, second) = (tensors(&["a", "b", "extra"]), tensors(&["c", "b"]));
    let map =
        index(&[("a", "one.safetensors"), ("b", "two.safetensors"), ("c", "two.safetensors")]);
    let files: [(&str, &[u8]); 3] =
        [(INDEX, &map), ("one.safetensors", &first), ("two.safetensors", &second)];
    let dir = folder(&files);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    // The index decides between two copies; what it does not list is there all the same.
    assert_eq!(checkpoint.get("b").unwrap().bytes(), [4, 5, 6, 7]);
    assert_eq!(checkpoint.get("a").unwrap().bytes(), [0, 1, 2, 3]);
    assert!(checkpoint.contains("extra"));

    // A whole file makes the index a leftover, even a broken one.
    std::fs::write(dir.path().join("model.safetensors"), tensors(&["z"])).unwrap();
    std::fs::write(dir.path().join(INDEX), "{").unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert!(checkpoint.contains("z") && !checkpoint.contains("a"));
}

#[test]
fn folders_without_sound_weights() {
    let good = tensors(&["a"]);
    let open = |files: &[(&str, &[u8])]| Checkpoint::open(folder(files).path());
    assert_message(open(&[]), &["neither model.safetensors nor", "download"]);
    assert_message(open(&[("pytorch_model.bin", b"")]), &["pytorch_model.bin", "convert"]);
    assert_message(Checkpoint::open(Path::new("/none/such")), &["no such folder"]);
    let missing = index(&[("a", "one.safetensors"), ("b", "two.safetensors")]);
    assert_message(
        open(&[(INDEX, &missing), ("one.safetensors", &good)]),
        &["two.safetensors", "missing", INDEX],
    );
    let lies = index(&[("a", "one.safetensors"), ("b", "one.safetensors")]);
    assert_message(
        open(&[(INDEX, &lies), ("one.safetensors", &good)]),
        &[INDEX, "2 tensors", "one.safetensors", "1 of them"],
    );
    let twice = tensors(&["lm_head.weight", "language_model.lm_head.weight"]);
    assert_message(
        open(&[("model.safetensors", &twice)]),
        &["model.safetensors", "lm_head", "second"],
    );
    let both = index(&[("a", "one.safetensors"), ("model.a", "two.safetensors")]);
    let other = tensors(&["model.a"]);
    assert_message(
        open(&[(INDEX, &both), ("one.safetensors", &good), ("two.safetensors", &other)]),
        &["two.safetensors", "\"model.a\"", "second"],
    );
    let dir = folder(&[]);
    std::fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert_message(Checkpoint::open(dir.path()), &["model.safetensors", "not a regular file"]);
}
