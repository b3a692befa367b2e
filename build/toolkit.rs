//! Finds nvcc and its supported architectures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The environment that the search depends on.
pub struct Environment<'a> {
    /// The value of an environment variable; an empty one counts as unset.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether a file exists at a path.
    pub is_file: &'a dyn Fn(&Path) -> bool,
}

/// An nvcc and how it was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub by: &'static str,
}

/// Searches for nvcc: `NVCC`, then the toolkits that `CUDA_HOME` and `CUDA_PATH` name, then `PATH`, then the folder of
/// `tools/setup-cuda`.
///
/// `Ok(None)` if there is none. `Err` if `NVCC` names a missing file, because whoever sets it wants that compiler and
/// no other.
pub fn find(env: &Environment<'_>) -> Result<Option<Found>, String> {
    let variable = |name| (env.variable)(name).filter(|v| !v.is_empty());
    if let Some(path) = variable("NVCC").map(PathBuf::from) {
        return match (env.is_file)(&path) {
            true => Ok(Some(Found { path, by: "NVCC" })),
            false => Err(format!(
                "NVCC={} is not a file: name the compiler itself, or unset NVCC",
                path.display()
            )),
        };
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(|by| variable(by).map(|home| (Path::new(&home).join("bin/nvcc"), by)));
    let folders = variable("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    let on_path = folders
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .map(|folder| (folder.join("nvcc"), "PATH"));
    let prefix = prefix(env).map(|prefix| (prefix.join("bin/nvcc"), "tools/setup-cuda"));
    Ok(homes
        .chain(on_path)
        .chain(prefix)
        .find(|(path, _)| (env.is_file)(path))
        .map(|(path, by)| Found { path, by }))
}

/// The folder where `tools/setup-cuda` installs its toolkit.
pub fn prefix(env: &Environment<'_>) -> Option<PathBuf> {
    let variable = |name| (env.variable)(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("hired/cuda-11.8"))
}

/// The version in the output of `nvcc --version`: `11.8.89`.
pub fn version(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("release ")?;
    let (_, rest) = rest.split_once(", V")?;
    rest.split_whitespace().next()
}

/// The architectures in the output of `nvcc --list-gpu-code`: `sm_61` is 61. Variants like `sm_90a` are left out.
pub fn architectures(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|word| word.strip_prefix("sm_")?.parse().ok()).collect()
}

/// Architectures with well-known GPUs of each, for messages.
pub fn cards(architectures: &[u32]) -> String {
    let name = |architecture: &u32| {
        let cards = match architecture {
            61 => "P40, P4, GTX 10",
            70 => "V100",
            75 => "T4, RTX 20",
            80 => "A100, A30",
            86 => "A10, A40, RTX 30",
            89 => "L4, L40, RTX 40",
            90 => "H100, H200",
            _ => "others",
        };
        format!("sm_{architecture} ({cards})")
    };
    architectures.iter().map(name).collect::<Vec<_>>().join(", ")
}
