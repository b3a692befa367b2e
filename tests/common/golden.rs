//! The fixtures and their golden data.

use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One image asked of one model.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub model: String,
    pub image: String,
    pub prompt: String,
    pub golden: String,
    pub grid: Option<[usize; 2]>,
    pub partitions: usize,
    pub tokens_per_partition: usize,
    pub valid: usize,
    pub pixels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    cases: Vec<Case>,
}

/// A path under `tests/fixtures`, or where `HIRED_FIXTURES` says that they lie: tools/gpu-check takes test programs to
/// machines where nothing lies where it was built.
pub fn fixture(path: impl AsRef<Path>) -> PathBuf {
    let fixtures = std::env::var_os("HIRED_FIXTURES").map(PathBuf::from);
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.unwrap_or_else(built).join(path)
}

pub fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixture("golden/manifest.json")).unwrap();
    serde_json::from_str::<Manifest>(&text).unwrap().cases
}

/// The golden tensors of a case.
pub struct Golden {
    pub name: String,
    bytes: Vec<u8>,
}

impl Golden {
    pub fn open(case: &Case) -> Self {
        Self::read(format!("{} {}", case.model, case.image), &case.golden)
    }

    /// A file of the golden folder, and how to call it.
    pub fn read(name: String, file: &str) -> Self {
        Self { name, bytes: std::fs::read(fixture("golden").join(file)).unwrap() }
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        match tensors.tensor(name) {
            Ok(tensor) => tensor.data().to_vec(),
            Err(error) => panic!("{}: {name}: {error}", self.name),
        }
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.data(name))
    }

    pub fn i64(&self, name: &str) -> Vec<i64> {
        bytemuck::pod_collect_to_vec(&self.data(name))
    }
}
