//! Folders that other tools have quantised: tests/fixtures/integers, with their dense tensors.

use hired::Image;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tensors by their names: format, shape, bytes.
pub type Stored = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// What transformers answers.
pub struct Golden {
    pub image: Image,
    pub prompt: String,
    pub logits: Vec<f32>,
    pub tokens: Vec<u32>,
}

/// The whole folder of a kind, with its tensors changed, and its golden answer.
pub fn folder(
    dir: &Path,
    kind: &str,
    change: impl FnOnce(&mut Stored, &mut Value),
) -> (PathBuf, Golden) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let bytes = std::fs::read(fixtures.join(format!("integers/{kind}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().clone().unwrap();
    let integers = SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str| integers.tensor(name).unwrap().data().to_vec();
    let path = fixtures.join("images").join(&about["image"]);
    let golden = Golden {
        image: Image::encoded(about["image"].clone(), std::fs::read(path).unwrap()),
        prompt: about["prompt"].clone(),
        logits: bytemuck::pod_collect_to_vec(&data("golden.logits")),
        tokens: bytemuck::pod_collect_to_vec::<u8, i64>(&data("golden.tokens"))
            .into_iter()
            .map(|id| id as u32)
            .collect(),
    };

    let base = fixtures.join("models").join(&about["base"]);
    let weights = std::fs::read(base.join("model.safetensors")).unwrap();
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let mut tensors = Stored::new();
    let mut add = |name: &str, t: &TensorView<'_>| {
        tensors.insert(name.to_owned(), (t.dtype(), t.shape().to_vec(), t.data().to_vec()));
    };
    for (name, tensor) in weights.tensors() {
        // What is there as integers is there once.
        let layer = name.strip_suffix("weight").unwrap_or(&name);
        if !integers.names().iter().any(|stored| stored.starts_with(layer)) {
            add(&name, &tensor);
        }
    }
    for (name, tensor) in integers.tensors() {
        if !name.starts_with("golden.") {
            add(&name, &tensor);
        }
    }
    let json =
        |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let mut config = json(base.join("config.json"));
    config["quantization_config"] = json(fixtures.join(format!("integers/{kind}.json")));
    change(&mut tensors, &mut config);

    let out = dir.join(kind);
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir(&out).unwrap();
    for entry in std::fs::read_dir(&base).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, out.join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(out.join("config.json"), config.to_string()).unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &out.join("model.safetensors")).unwrap();
    (out, golden)
}
