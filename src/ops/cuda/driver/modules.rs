//! The embedded kernels: choosing the code for a GPU, and loading it.

use crate::ops::cuda::driver::error::refused;
use crate::{Error, Result};
use cudarc::driver::CudaContext;
use cudarc::driver::result::module;
use cudarc::driver::sys::{CUfunction, CUmodule};
use miniz_oxide::inflate::decompress_slice_iter_to_slice;
use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

/// Kind of compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Machine code of one architecture.
    Cubin,
    /// Code that the driver compiles for its GPU. Terminated by NUL.
    Ptx,
}

/// One source file, compiled for one architecture.
struct Image {
    file: &'static str,
    architecture: u32,
    form: Form,
    /// Bytes of the compiled code.
    size: usize,
    /// The compiled code as a zlib stream, since a program embeds code for many GPUs and runs on one.
    packed: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The first architecture of each code path: fp32 FMA; `mma.m16n8k8`; `mma.m16n8k16` and `cp.async`.
pub const CODE_PATHS: [u32; 3] = [61, 75, 80];

/// The code that a device runs. Displayed as `sm_61` or `compute_61`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Machine code of this architecture.
    Cubin(u32),
    /// PTX of this architecture, compiled by the driver.
    Ptx(u32),
}

impl Code {
    /// The architecture that the code was compiled for. Kernels are chosen by it, not by the GPU.
    pub fn architecture(self) -> u32 {
        match self {
            Self::Cubin(architecture) | Self::Ptx(architecture) => architecture,
        }
    }

    /// The code path of the code, one of [`CODE_PATHS`].
    pub fn path(self) -> u32 {
        code_path(self.architecture())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cubin(architecture) => write!(f, "sm_{architecture}"),
            Self::Ptx(architecture) => write!(f, "compute_{architecture}"),
        }
    }
}

/// The newest code path that an architecture supports; 0 below the oldest.
fn code_path(architecture: u32) -> u32 {
    CODE_PATHS.into_iter().rfind(|path| *path <= architecture).unwrap_or(0)
}

/// Architectures that this build embeds code for, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// Those with machine code.
    pub cubins: Vec<u32>,
    /// Those with PTX.
    pub ptx: Vec<u32>,
}

impl Embedded {
    /// What the build script compiled: nothing where it found no nvcc.
    pub fn here() -> Self {
        let of = |form| {
            let images = IMAGES.iter().filter(|image| image.form == form);
            let mut architectures: Vec<_> = images.map(|image| image.architecture).collect();
            architectures.sort_unstable();
            architectures.dedup();
            architectures
        };
        Self { cubins: of(Form::Cubin), ptx: of(Form::Ptx) }
    }

    /// The code for a GPU of this compute capability (61 means 6.1): its own machine code, else the newest PTX that it
    /// can run. With `forced`, only code of that code path.
    ///
    /// # Errors
    /// When there is none, or when the GPU lacks what the forced code path needs.
    pub fn choose(&self, capability: u32, forced: Option<u32>) -> Result<Code> {
        let (major, minor) = (capability / 10, capability % 10);
        if self.cubins.is_empty() && self.ptx.is_empty() {
            return Err(Error::Device(
                "this build has no CUDA kernels, for there was no nvcc: run tools/setup-cuda and \
                 build again, or use the CPU (--device cpu)"
                    .into(),
            ));
        }
        if let Some(path) = forced.filter(|path| *path > capability) {
            return Err(Error::Device(format!(
                "HIRED_FORCE_ARCH={path} needs a card of compute capability {}.{} or newer, this \
                 one has {major}.{minor}",
                path / 10,
                path % 10
            )));
        }
        let path = forced.unwrap_or(code_path(capability));
        if self.cubins.contains(&capability) && code_path(capability) == path {
            return Ok(Code::Cubin(capability));
        }
        let ptx = match forced {
            Some(path) => self.ptx.iter().find(|a| **a == path),
            None => self.ptx.iter().rfind(|a| **a <= capability),
        };
        ptx.map(|&architecture| Code::Ptx(architecture)).ok_or_else(|| {
            Error::Device(format!(
                "this build has no code for a card of compute capability {major}.{minor}: {}; \
                 build it with an nvcc that can make it (and without HIRED_ARCHS, or with it in \
                 there), or use the CPU (--device cpu)",
                match capability {
                    ..61 => "cards before Pascal are not supported".to_owned(),
                    _ => format!("it has {self}"),
                }
            ))
        })
    }
}

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cubins = self.cubins.iter().map(|&a| Code::Cubin(a));
        let ptx = self.ptx.iter().map(|&a| Code::Ptx(a));
        let words: Vec<_> = cubins.chain(ptx).map(|code| code.to_string()).collect();
        f.write_str(&words.join(" "))
    }
}

/// Parses the value of `HIRED_FORCE_ARCH`, a code path.
///
/// # Errors
/// When it is none of [`CODE_PATHS`].
pub fn forced(value: Option<&str>) -> Result<Option<u32>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.parse() {
        Ok(path) if CODE_PATHS.contains(&path) => Ok(Some(path)),
        _ => Err(Error::Device(format!(
            "HIRED_FORCE_ARCH={value:?} is no code path: use 61, 75 or 80, or unset it"
        ))),
    }
}

/// The kernels of one architecture, loaded into a context.
#[derive(Debug)]
pub struct Modules {
    context: Arc<CudaContext>,
    code: Code,
    /// The modules by source file.
    modules: Vec<(&'static str, CUmodule)>,
}

// SAFETY: module handles belong to the context, not to a thread; their users bind the context first.
unsafe impl Send for Modules {}
// SAFETY: as for `Send`; nothing changes after loading.
unsafe impl Sync for Modules {}

impl Modules {
    /// Loads every embedded file.
    ///
    /// # Errors
    /// When the driver refuses one of them.
    pub fn load(context: &Arc<CudaContext>, code: Code) -> Result<Self> {
        context.bind_to_thread().map_err(|e| refused("to bind the context", e))?;
        let mut loaded = Self { context: context.clone(), code, modules: Vec::new() };
        for image in IMAGES.iter().filter(|image| image.code() == code) {
            let unpacked = image.unpack()?;
            // SAFETY: the image is a complete cubin, or PTX terminated by NUL; the driver reads it during this call
            // only.
            let module = unsafe { module::load_data(unpacked.as_ptr().cast()) }
                .map_err(|e| refused(&format!("the kernels of {} for {code}", image.file), e))?;
            loaded.modules.push((image.file, module));
        }
        Ok(loaded)
    }

    /// The code that was loaded.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The kernel `name` of `kernels/FILE.cu`; valid as long as `self`.
    ///
    /// # Errors
    /// When there is no such kernel.
    pub fn function(&self, file: &str, name: &str) -> Result<CUfunction> {
        let missing = || Error::Device(format!("the kernels of {file} have no {name}"));
        let (_, module) = self.modules.iter().find(|(f, _)| *f == file).ok_or_else(missing)?;
        let c_name = CString::new(name).map_err(|_| missing())?;
        self.context.bind_to_thread().map_err(|e| refused("to bind the context", e))?;
        // SAFETY: the module is loaded and is unloaded by `drop` only.
        unsafe { module::get_function(*module, c_name) }
            .map_err(|e| refused(&format!("the kernel {name} of {file}"), e))
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, and its modules with it.
        if self.context.bind_to_thread().is_ok() {
            for (_, module) in &self.modules {
                // SAFETY: loaded by `load`; no function of the module is used after `self`.
                let _ = unsafe { module::unload(*module) };
            }
        }
    }
}

impl Image {
    /// Decompresses the code, to an address that is a multiple of 16, as a reader of ELF headers may expect.
    ///
    /// # Errors
    /// When the embedded data is damaged.
    fn unpack(&self) -> Result<Vec<u128>> {
        let mut words = vec![0u128; self.size.div_ceil(size_of::<u128>())];
        let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..self.size];
        match decompress_slice_iter_to_slice(bytes, std::iter::once(self.packed), true, false) {
            Ok(size) if size == self.size => Ok(words),
            _ => Err(Error::Device(format!(
                "the kernels of {} for {} are damaged in this program: build or install it again",
                self.file,
                self.code()
            ))),
        }
    }

    fn code(&self) -> Code {
        match self.form {
            Form::Cubin => Code::Cubin(self.architecture),
            Form::Ptx => Code::Ptx(self.architecture),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn full() -> Embedded {
        Embedded { cubins: vec![61, 70, 75, 80, 86, 89, 90], ptx: vec![61, 75, 80] }
    }

    #[test]
    fn a_card_gets_its_own_code_else_the_newest_ptx() {
        let chosen = |capability| full().choose(capability, None).unwrap();
        for capability in [61, 70, 75, 80, 86, 89, 90] {
            assert_eq!(chosen(capability), Code::Cubin(capability));
        }
        assert_eq!(chosen(62), Code::Ptx(61));
        assert_eq!(chosen(72), Code::Ptx(61));
        assert_eq!(chosen(87), Code::Ptx(80));
        assert_eq!(chosen(100), Code::Ptx(80));
        assert_eq!(chosen(120), Code::Ptx(80));
        let error = full().choose(60, None).unwrap_err().to_string();
        assert!(error.contains("6.0") && error.contains("Pascal"), "{error}");
    }

    #[test]
    fn code_paths_follow_the_code_and_not_the_card() {
        let paths = [61, 70, 75, 80, 86, 89, 90].map(|c| full().choose(c, None).unwrap().path());
        assert_eq!(paths, [61, 61, 75, 80, 80, 80, 80]);
        assert_eq!(Code::Ptx(75).path(), 75);
        // Volta runs code of path 61 only, so forcing 61 changes nothing; Ampere's own code is of path 80.
        assert_eq!(full().choose(70, Some(61)).unwrap(), Code::Cubin(70));
        assert_eq!(full().choose(86, Some(61)).unwrap(), Code::Ptx(61));
        assert_eq!(full().choose(90, Some(75)).unwrap(), Code::Ptx(75));
        assert_eq!(full().choose(90, Some(80)).unwrap(), Code::Cubin(90));
    }

    #[test]
    fn a_card_without_code_is_refused_with_what_there_is() {
        let error = full().choose(61, Some(75)).unwrap_err().to_string();
        assert!(error.contains("HIRED_FORCE_ARCH=75") && error.contains("6.1"), "{error}");
        // The architectures that CUDA 13 compiles for.
        let newer = Embedded { cubins: vec![75, 80, 86, 89, 90], ptx: vec![75, 80] };
        let error = newer.choose(61, None).unwrap_err().to_string();
        assert!(error.contains("6.1") && error.contains("sm_75") && error.contains("compute_75"));
        assert!(newer.choose(80, Some(61)).is_err());
        let none = Embedded { cubins: vec![], ptx: vec![] };
        let error = none.choose(61, None).unwrap_err().to_string();
        assert!(error.contains("tools/setup-cuda"), "{error}");
    }

    #[test]
    fn only_code_paths_can_be_forced() {
        assert_eq!(forced(None).unwrap(), None);
        assert_eq!(forced(Some("")).unwrap(), None);
        assert_eq!(forced(Some("75")).unwrap(), Some(75));
        for wrong in ["70", "7.5", "sm_75", "-1"] {
            let error = forced(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("61, 75 or 80"), "{error}");
        }
    }

    #[test]
    fn every_architecture_has_the_same_files_and_whole_images() {
        let mut files = BTreeMap::<_, Vec<_>>::new();
        for image in IMAGES {
            files.entry(image.code().to_string()).or_default().push(image.file);
            let unpacked = image.unpack().unwrap();
            let bytes = &bytemuck::cast_slice::<_, u8>(&unpacked)[..image.size];
            assert_eq!(bytes.as_ptr().addr() % 16, 0);
            match image.form {
                Form::Cubin => assert!(bytes.starts_with(b"\x7fELF")),
                Form::Ptx => {
                    assert_eq!(bytes.iter().position(|b| *b == 0), Some(image.size - 1));
                }
            }
            assert!(image.packed.len() < image.size / 2, "{}", image.file);
        }
        if let Some(first) = files.values().next() {
            assert!(files.values().all(|of| of == first), "{files:?}");
            assert!(first.contains(&"norm") && first.contains(&"rope"));
        }
    }

    #[test]
    fn a_damaged_image_is_an_error() {
        let made = [b"\x7fELF".as_slice(), &[7; 1000]].concat();
        let mut packed = miniz_oxide::deflate::compress_to_vec_zlib(&made, 9);
        let image = |packed: &[u8], size| Image {
            file: "norm",
            architecture: 61,
            form: Form::Cubin,
            size,
            packed: packed.to_vec().leak(),
        };
        let whole = image(&packed, made.len()).unpack().unwrap();
        assert_eq!(bytemuck::cast_slice::<_, u8>(&whole)[..made.len()], made);
        let refused = |packed: &[u8], size| {
            let error = image(packed, size).unpack().unwrap_err().to_string();
            assert!(error.contains("norm for sm_61") && error.contains("damaged"), "{error}");
        };
        refused(&packed, made.len() + 1);
        refused(&packed, made.len() - 1);
        refused(&packed[..packed.len() - 5], made.len());
        let last = packed.len() - 1;
        packed[last] ^= 1;
        refused(&packed, made.len());
    }
}
