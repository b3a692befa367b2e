//! Folders of integers that are damaged or lie: one line each that names the tensor or the key, and the way out.

use super::common::integers::{Stored, folder};
use super::others::cpu;
use super::root;
use half::f16;
use hired::Engine;
use hired::quant::{Scheme, Scope, quantize};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;

const LAYER: &str = "language_model.model.layers.1.mlp.up_proj";

fn refused(path: &Path, words: &[&str]) {
    let message = Engine::load(path, cpu()).map(|_| ()).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "no {word}: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
}

/// What the fixture of a kind must not be.
fn changed(kind: &str, words: &[&str], change: impl FnOnce(&mut Stored, &mut Value)) {
    let dir = tempfile::tempdir().unwrap();
    refused(&folder(dir.path(), kind, change).0, words);
}

/// The same of a folder of int8 weights and activations, as `hired quantize` writes it.
fn changed_q8(words: &[&str], change: impl FnOnce(&mut Stored)) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("q8");
    let model = root().join("tests/fixtures/models/next-hub");
    let go = &mut |_, _| ControlFlow::Continue(());
    quantize(&model, &out, Scheme::Q8, Scope::Llm, go).unwrap();
    let file = out.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let mut tensors: Stored = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &file).unwrap();
    refused(&out, words);
}

/// The name of a layer's tensor, whatever the folder calls the language model.
fn named(tensors: &Stored, end: &str) -> String {
    let end = format!("layers.1.mlp.up_proj.{end}");
    tensors.keys().find(|name| name.ends_with(&end)).unwrap_or_else(|| panic!("no {end}")).clone()
}

/// Sets the first scale of row 5.
fn scale(tensors: &mut Stored, value: f32, dtype: Dtype) {
    let name = named(tensors, "weight_scale");
    let (was, shape, data) = tensors.get_mut(&name).unwrap();
    let mut scales: Vec<f32> = match was {
        Dtype::F16 => data.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        other => panic!("{other:?}"),
    };
    scales[5 * shape[1]] = value;
    *was = dtype;
    *data = match dtype {
        Dtype::F16 => scales.iter().flat_map(|&s| f16::from_f32(s).to_le_bytes()).collect(),
        _ => scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
    };
}

#[test]
fn scales_that_are_no_scales() {
    let words = ["up_proj.weight_scale", "row 5 "];
    for (value, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (0.0, "scale 0")] {
        let words = [&words[..], &[said, "damaged"]].concat();
        for kind in ["int4-channel", "int8-group", "int8-channel"] {
            changed(kind, &words, |t, _| scale(t, value, Dtype::F16));
        }
        changed_q8(&words, |t| scale(t, value, Dtype::F16));
    }
    // In f32 they may be what f16 loses, silently. Scales of q8 stay f32.
    for value in [1e-9, 1e6] {
        let words = [&words[..], &["f16 cannot represent", "--dtype"]].concat();
        for kind in ["int4-channel", "int8-group"] {
            changed(kind, &words, |t, _| scale(t, value, Dtype::F32));
        }
    }
}

#[test]
fn shapes_and_widths_that_do_not_belong_together() {
    let halve = |t: &mut Stored, end: &str, axis: usize| {
        let name = named(t, end);
        let (_, shape, data) = t.get_mut(&name).unwrap();
        shape[axis] /= 2;
        data.truncate(data.len() / 2);
    };
    // Scales for half of the rows or of the groups.
    for (kind, axis) in [("int4-channel", 0), ("int8-group", 0), ("int8-group", 1)] {
        changed(kind, &["up_proj.weight_scale", "it must be"], |t, _| {
            halve(t, "weight_scale", axis)
        });
    }
    changed_q8(&["up_proj.weight_scale", "it must be"], |t| halve(t, "weight_scale", 0));
    // Codes in words of another width than is told.
    for kind in ["int4-channel", "int8-group"] {
        let words = ["up_proj.weight_packed", "_shape asks for"];
        changed(kind, &words, |t, _| halve(t, "weight_packed", 1));
    }
    changed("awq", &["up_proj.qzeros", "it must be"], |t, _| halve(t, "qweight", 1));
    // A size below zero; more than there is.
    for (value, said) in [(-96i64, "negative"), (1 << 40, "asks for")] {
        changed("int8-group", &["up_proj.weight", said], |t, _| {
            let name = named(t, "weight_shape");
            t.get_mut(&name).unwrap().2[..8].copy_from_slice(&value.to_le_bytes());
        });
    }
    // Another type of number.
    changed("awq", &["up_proj.qweight", "U32", "I32"], |t, _| {
        t.get_mut(&format!("{LAYER}.qweight")).unwrap().0 = Dtype::U32;
    });
}

#[test]
fn schemes_that_are_mixed() {
    // Codes of one layer as another layout has them.
    changed("int8-group", &["up_proj.weight", "I8"], |t, _| {
        for part in ["weight_packed", "weight_shape"] {
            let name = named(t, part);
            drop(t.remove(&name));
        }
        t.insert(format!("{LAYER}.weight"), (Dtype::I8, vec![96, 64], vec![1; 96 * 64]));
    });
    // A layer that is not in integers is one of those that were left out, and read.
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = folder(dir.path(), "int8-group", |t, _| {
        for part in ["weight_packed", "weight_shape", "weight_scale"] {
            let name = named(t, part);
            drop(t.remove(&name));
        }
        t.insert(format!("{LAYER}.weight"), (Dtype::F16, vec![96, 64], vec![0; 2 * 96 * 64]));
    });
    Engine::load(&path, cpu()).unwrap();
}

#[test]
fn configurations_that_lie() {
    let quantization = "quantization_config";
    let group = |config: &mut Value, key: &str, value: Value| {
        config[quantization]["config_groups"]["group_0"]["weights"][key] = value;
    };
    // Groups that do not divide the rows, and that are others than the file's.
    changed("int8-group", &["group size 128", "64 numbers"], |_, c| {
        group(c, "group_size", json!(128))
    });
    changed("int8-group", &["_scale", "it must be [64, 1]"], |_, c| {
        group(c, "group_size", json!(64))
    });
    // Another format, another method.
    changed("int4-channel", &["_packed", "_shape asks for"], |_, c| group(c, "num_bits", json!(8)));
    changed("awq", &["integers under other names", quantization], |_, c| {
        c[quantization] = json!({
            "quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": { "group_0": {
                "targets": ["Linear"], "input_activations": null,
                "weights": { "num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 32 },
            } },
        });
    });
    // Other sizes of the model than the integers have.
    for kind in ["awq", "int8-group"] {
        changed(kind, &["_proj", "shape"], |_, c| {
            c["text_config"]["intermediate_size"] = json!(128)
        });
    }
}
