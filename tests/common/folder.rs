//! Copies of fixture models with something changed.

use super::golden::fixture;
use half::f16;
use safetensors::SafeTensors;
use std::path::Path;
use tempfile::TempDir;

/// A copy of a fixture's folder.
pub fn model_copy(model: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("models").join(model)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// Changes a JSON file.
pub fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Changes the numbers of one f16 tensor of `model.safetensors` where they lie.
pub fn edit_tensor(folder: &Path, name: &str, edit: impl FnOnce(&mut [f32])) {
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let (start, len) = {
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        (data.as_ptr() as usize - bytes.as_ptr() as usize, data.len())
    };
    let stored = &mut bytes[start..start + len];
    let mut numbers: Vec<f32> =
        bytemuck::pod_collect_to_vec::<u8, f16>(stored).iter().map(|x| x.to_f32()).collect();
    edit(&mut numbers);
    let halves: Vec<f16> = numbers.iter().map(|&x| f16::from_f32(x)).collect();
    stored.copy_from_slice(bytemuck::cast_slice(&halves));
    std::fs::write(&path, bytes).unwrap();
}

/// Renames tensors in a file's header, to names of the same length.
pub fn rename_tensors(file: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
    assert!(text.contains(from));
    bytes[8..header].copy_from_slice(text.replace(from, to).as_bytes());
    std::fs::write(file, bytes).unwrap();
}

/// Puts a prefix in front of every tensor's name.
pub fn rename_prefix(file: &Path, prefix: &str) {
    let bytes = std::fs::read(file).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let renamed =
        tensors.tensors().into_iter().map(|(name, view)| (format!("{prefix}{name}"), view));
    safetensors::serialize_to_file(renamed, metadata.metadata().clone(), file).unwrap();
}
