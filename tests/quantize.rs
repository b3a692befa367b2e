//! What `hired quantize` writes: the rule's codes in the layout of compressed-tensors, and nothing when it fails.

use half::{bf16, f16};
use hired::quant::{Quantization, Scheme, Scope, quantize};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model")
}

fn make(model: &Path, out: &Path, scheme: Scheme, scope: Scope) -> hired::Result<(usize, u64)> {
    let done = quantize(model, out, scheme, scope, &mut |_, _| ControlFlow::Continue(()))?;
    Ok((done.quantized, done.bytes_after))
}

/// The files of a folder by name.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    let pairs = tensor.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match tensor.dtype() {
        Dtype::F16 => pairs.map(|b| f16::from_bits(b).to_f32()).collect(),
        Dtype::BF16 => pairs.map(|b| bf16::from_bits(b).to_f32()).collect(),
        Dtype::F32 => tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// Reads the tensors that stand for the weight `name` and multiplies them out.
fn dequantized(new: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Vec<f32> {
    let [rows, columns] = [shape[0], shape[1]];
    let scale = new.tensor(&format!("{name}_scale")).unwrap();
    assert_eq!((scale.dtype(), scale.shape()[0]), (Dtype::F16, rows));
    let group = columns / scale.shape()[1];
    let scales = floats(&scale);
    let codes: Vec<i32> = match new.tensor(name) {
        Ok(codes) => {
            assert_eq!((codes.dtype(), codes.shape(), group), (Dtype::I8, shape, columns));
            codes.data().iter().map(|&byte| i32::from(byte as i8)).collect()
        }
        Err(_) => {
            let packed = new.tensor(&format!("{name}_packed")).unwrap();
            assert_eq!((packed.dtype(), packed.shape()), (Dtype::I32, &[rows, columns / 8][..]));
            let told = new.tensor(&format!("{name}_shape")).unwrap();
            let told: Vec<i64> =
                told.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
            assert_eq!(told, [rows as i64, columns as i64]);
            let words =
                packed.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
            words
                .flat_map(|word| (0..8).map(move |i| ((word >> (4 * i)) & 15) as i32 - 8))
                .collect()
        }
    };
    codes.iter().enumerate().map(|(i, &code)| code as f32 * scales[i / group]).collect()
}

#[test]
fn every_linear_layer_is_close_to_what_it_was_and_the_rest_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    // Models in f16, bf16 and f32; groups need rows that they divide.
    let cases = [
        (fixture("llava15"), Scheme::Q8),
        (fixture("next-mistral"), Scheme::Q8),
        (fixture("next-v5"), Scheme::Q8),
        (fixture("next-odd"), Scheme::Q8),
        (demo(), Scheme::Q4 { group: 32 }),
        (demo(), Scheme::Q4 { group: 64 }),
    ];
    for (number, (model, scheme)) in cases.into_iter().enumerate() {
        for scope in [Scope::Llm, Scope::All] {
            let out = dir.path().join(format!("{number}-{}", scope.name()));
            let (quantized, bytes) = make(&model, &out, scheme, scope).unwrap();
            let (old, new) = (content(&model), content(&out));
            let small = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
                files.keys().filter(|name| !name.contains(".safetensors")).cloned().collect()
            };
            assert_eq!(small(&old), small(&new), "{}", model.display());
            for (name, bytes) in &old {
                if !name.contains(".safetensors") && name != "config.json" {
                    assert_eq!(&new[name], bytes, "{name}");
                }
            }
            let shards = old.iter().filter(|(name, _)| name.ends_with(".safetensors"));
            let shards: Vec<SafeTensors> =
                shards.map(|(_, bytes)| SafeTensors::deserialize(bytes).unwrap()).collect();
            let new = SafeTensors::deserialize(&new["model.safetensors"]).unwrap();
            assert_eq!(
                new.tensors().iter().map(|(_, t)| t.data().len() as u64).sum::<u64>(),
                bytes
            );
            let mut seen = 0;
            for (stored, before) in shards.iter().flat_map(SafeTensors::tensors) {
                // Written under the names of published files, whatever they had here.
                let name = hired::checkpoint::canonical(&stored);
                let published =
                    new.names().into_iter().find(|n| hired::checkpoint::canonical(n) == name);
                let values = floats(&before);
                if (Quantization { scheme, scope }).of(&name).is_none() {
                    let after = new.tensor(published.expect(&name)).unwrap();
                    assert_eq!(
                        (after.data(), after.dtype()),
                        (before.data(), before.dtype()),
                        "{name}"
                    );
                    continue;
                }
                seen += 1;
                let base = new
                    .names()
                    .into_iter()
                    .find_map(|n| {
                        let base = n.strip_suffix("_scale")?;
                        (hired::checkpoint::canonical(base) == name).then(|| base.to_owned())
                    })
                    .expect(&name);
                let after = dequantized(&new, &base, before.shape());
                // Rounding to steps of s errs by s/√12 in the mean; the steps follow from the largest number.
                let (group, half) = match scheme {
                    Scheme::Q8 => (before.shape()[1], 127.0),
                    Scheme::Q4 { group } => (group, 7.5),
                };
                let square = |v: f32| f64::from(v) * f64::from(v);
                let expected: f64 = values
                    .chunks(group)
                    .map(|group| {
                        let largest = group.iter().fold(0f32, |a, v| a.max(v.abs()));
                        group.len() as f64 * square(largest / half) / 12.0
                    })
                    .sum();
                let off: f64 = values.iter().zip(&after).map(|(a, b)| square(a - b)).sum();
                let share = (off / expected).sqrt();
                assert!(share < 1.1, "{name}: {share} of what rounding costs");
            }
            assert!(seen > 0 && seen == quantized, "{seen}, {quantized}");
        }
    }
}

#[test]
fn the_configuration_says_what_the_weights_are() {
    let dir = tempfile::tempdir().unwrap();
    let read = |scheme, scope| {
        let out = dir.path().join("out");
        make(&demo(), &out, scheme, scope).unwrap();
        let config: Value =
            serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
        std::fs::remove_dir_all(&out).unwrap();
        config
    };
    let q8 = read(Scheme::Q8, Scope::Llm);
    let old: Value =
        serde_json::from_slice(&std::fs::read(demo().join("config.json")).unwrap()).unwrap();
    for (key, value) in old.as_object().unwrap() {
        assert_eq!(&q8[key], value, "{key}");
    }
    let said = &q8["quantization_config"];
    assert_eq!(said["format"], "int-quantized");
    let group = &said["config_groups"]["group_0"];
    assert_eq!(group["weights"]["strategy"], "channel");
    assert_eq!(
        (&group["weights"]["num_bits"], &group["input_activations"]["num_bits"]),
        (&8.into(), &8.into())
    );
    assert_eq!(group["input_activations"]["strategy"], "token");
    assert_eq!(said["ignore"].as_array().unwrap().len(), 3);
    let q4 = read(Scheme::Q4 { group: 64 }, Scope::All);
    let said = &q4["quantization_config"];
    assert_eq!(said["format"], "pack-quantized");
    let group = &said["config_groups"]["group_0"];
    assert_eq!(
        (&group["weights"]["group_size"], &group["input_activations"]),
        (&64.into(), &Value::Null)
    );
    // int4 in the vision tower would move what is kept.
    assert_eq!(said["ignore"], serde_json::json!(["re:.*vision_tower.*"]));
    let q8 = read(Scheme::Q8, Scope::All);
    assert_eq!(q8["quantization_config"]["ignore"].as_array().unwrap().len(), 0);
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| dir.path().join(name));
    for scheme in [Scheme::Q8, Scheme::Q4 { group: 32 }] {
        for out in [&first, &second] {
            make(&demo(), out, scheme, Scope::All).unwrap();
        }
        assert_eq!(content(&first), content(&second));
        std::fs::remove_dir_all(&first).unwrap();
        std::fs::remove_dir_all(&second).unwrap();
    }
}

/// A copy of the demo model with one weight that is not finite.
fn damaged(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (name, bytes) in content(&demo()) {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let old = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = old
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    let (_, (dtype, shape, data)) =
        tensors.iter_mut().find(|(name, _)| name.ends_with("layers.1.mlp.up_proj.weight")).unwrap();
    assert_eq!(*dtype, Dtype::F16);
    let at = 2 * (5 * shape[1] + 3);
    data[at..at + 2].copy_from_slice(&f16::NAN.to_le_bytes());
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &path).unwrap();
}

#[test]
fn what_cannot_be_quantised_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let refused = |model: &Path, scheme, words: &[&str]| {
        let message = make(model, &out, scheme, Scope::Llm).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message}");
        }
        assert!(!out.exists(), "{message}");
    };
    let model = dir.path().join("damaged");
    damaged(&model);
    for scheme in [Scheme::Q8, Scheme::Q4 { group: 32 }] {
        refused(&model, scheme, &["row 5", "layers.1.mlp.up_proj.weight", "model.safetensors"]);
    }
    refused(&fixture("llava15"), Scheme::Q4 { group: 32 }, &["48 numbers", "smaller group, or q8"]);
    refused(&demo(), Scheme::Q4 { group: 48 }, &["32, 64 or 128"]);

    let mut calls = 0;
    let stopped = quantize(&demo(), &out, Scheme::Q8, Scope::Llm, &mut |_, _| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(hired::Error::Cancelled)));
    assert!(!out.exists());

    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine"), "x").unwrap();
    let message = make(&demo(), &out, Scheme::Q8, Scope::Llm).unwrap_err().to_string();
    assert!(message.contains("not empty"), "{message}");
    assert_eq!(content(&out).len(), 1);
}
