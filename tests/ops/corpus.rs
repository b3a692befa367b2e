//! One operation on two executors: the CPU is the truth, and the counter's plan is what the device then takes.

use half::f16;
use hired::checkpoint::Checkpoint;
use hired::config::{Rope, RopeScaling};
use hired::format::{Dtype, Format};
use hired::ops::count::Counter;
use hired::ops::cpu::Cpu;
use hired::ops::cuda::Gemm;
use hired::ops::cuda::matmul::choose::is_on_tensor_cores;
use hired::ops::cuda::{Cuda, Options};
use hired::ops::memory::Purpose;
use hired::ops::{Linear, MemoryOps, Norm, Ops, Storage};
use hired::quant::Scheme;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;

/// The rotation of most cases. Of heads of some widths only a part turns: of Phi's 80 numbers 32.
pub fn rope(head_dim: usize) -> Rope {
    let width = match head_dim {
        80 => 32,
        34 => 12,
        24 => 16,
        all => all,
    };
    Rope { theta: 10_000.0, width, scaling: RopeScaling::Default }
}

/// What an operation gives, by name.
pub type Results = Vec<(&'static str, Vec<f32>)>;

/// One operation on data.
pub trait Case {
    fn run<O: Ops>(&self, ops: &mut O, data: &Data) -> hired::Result<Results>;
}

/// Tensors by name, in a checkpoint of their own.
pub struct Data {
    checkpoint: Checkpoint,
    /// What weights of linear layers are rounded to.
    scheme: Option<Scheme>,
    _folder: tempfile::TempDir,
}

/// Tensors for a case: numbers from a seed, representable in fp16, so that both executors see the same.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    /// Numbers of about `scale`, of both signs.
    pub fn random(mut self, name: &str, shape: &[usize], scale: f32) -> Self {
        let count = shape.iter().product();
        let mut state =
            name.bytes().fold(count as u64 + 1, |s, b| s.wrapping_mul(131) + u64::from(b));
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let values =
            (0..count).map(|_| f16::from_f32((next() + next()) * scale).to_f32()).collect();
        self.0.insert(name.into(), (shape.to_vec(), values));
        self
    }

    /// These numbers.
    pub fn given(mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        self.0.insert(name.into(), (shape.to_vec(), values));
        self
    }

    /// As a checkpoint in this format.
    pub fn stored(self, format: Format) -> Data {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = (self.0.into_iter())
            .map(|(name, (shape, values))| {
                let bytes = match format {
                    Format::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                    Format::F16 => {
                        values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()
                    }
                    Format::Bf16 => {
                        values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect()
                    }
                    _ => panic!("no kernel takes {format:?} yet"),
                };
                (name, shape, bytes)
            })
            .collect();
        let dtype = match format {
            Format::F32 => safetensors::Dtype::F32,
            Format::F16 => safetensors::Dtype::F16,
            Format::Bf16 => safetensors::Dtype::BF16,
            _ => panic!("no kernel takes {format:?} yet"),
        };
        let views = bytes.iter().map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
        let file = folder.path().join("model.safetensors");
        std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        Data { checkpoint, scheme: None, _folder: folder }
    }
}

impl Data {
    /// The same with integers as the weights of linear layers.
    pub fn rounded(self, scheme: Scheme) -> Self {
        Self { scheme: Some(scheme), ..self }
    }

    /// A tensor's dimensions.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.checkpoint.get(name).unwrap().shape.clone()
    }

    /// Bytes for every tensor taken twice, in the widest format and with its padding.
    fn room(&self) -> usize {
        let bytes = |rows: usize, cols: usize| 2 * (rows * (4 * cols + 16) + 512);
        self.checkpoint.tensors().map(|t| bytes(t.shape[0], t.elements() / t.shape[0])).sum()
    }

    pub fn matrix<O: Ops>(&self, ops: &mut O, name: &str) -> hired::Result<O::Weight> {
        ops.upload(&self.checkpoint.get(name)?, Storage::Matrix)
    }

    pub fn vector<O: Ops>(&self, ops: &mut O, name: &str) -> hired::Result<O::Weight> {
        ops.upload(&self.checkpoint.get(name)?, Storage::Vector)
    }

    /// `NAME` as weight and, if it is there, `NAME.bias`.
    pub fn linear<O: Ops>(&self, ops: &mut O, name: &str) -> hired::Result<Linear<O::Weight>> {
        let tensor = self.checkpoint.get(name)?;
        let weight = match self.scheme {
            Some(scheme) => ops.upload(&tensor.quantized(scheme)?, Storage::Matrix)?,
            None => ops.upload(&tensor, Storage::Matrix)?,
        };
        let bias = self.optional(ops, &format!("{name}.bias"))?;
        Ok(Linear { weight, bias })
    }

    /// `NAME` as weight and, if it is there, `NAME.bias`.
    pub fn norm<O: Ops>(&self, ops: &mut O, name: &str) -> hired::Result<Norm<O::Weight>> {
        let weight = self.vector(ops, name)?;
        let bias = self.optional(ops, &format!("{name}.bias"))?;
        Ok(Norm { weight, bias, eps: 1e-5 })
    }

    fn optional<O: Ops>(&self, ops: &mut O, name: &str) -> hired::Result<Option<O::Weight>> {
        match self.checkpoint.get(name) {
            Ok(_) => self.vector(ops, name).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The rows of a matrix as activations.
    pub fn rows<O: Ops>(&self, ops: &mut O, name: &str) -> hired::Result<O::Buffer> {
        let rows = self.checkpoint.get(name)?.shape[0] as u32;
        let table = self.matrix(ops, name)?;
        ops.interleave(&table, &[], &(0..rows).collect::<Vec<_>>())
    }
}

/// Runs cases and remembers how much of the tolerance they used.
pub struct Corpus {
    dtype: Dtype,
    cuda: Cuda,
    used: BTreeMap<(String, &'static str), Used>,
    /// Of so many cases one is run: a sanitizer makes each of them a hundred times as long.
    every: usize,
    met: usize,
}

/// The case that came nearest to its tolerance, in roundings, and how many cases there were.
#[derive(Default)]
struct Used {
    worst: f32,
    slack: f32,
    cases: usize,
}

impl Corpus {
    pub fn open(dtype: Dtype, gemm: Gemm) -> hired::Result<Self> {
        let cuda =
            Cuda::open(Options { ordinal: None, formats: dtype.into(), graphs: true, gemm })?;
        let every =
            std::env::var("HIRED_EVERY").map_or(1, |n| n.parse().expect("HIRED_EVERY: a number"));
        Ok(Self { dtype, cuda, used: BTreeMap::new(), every, met: 0 })
    }

    /// The format of activations on the device.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether a library makes large products.
    pub fn has_library(&self) -> bool {
        self.cuda.description().gemm == "cublas"
    }

    /// Whether products of few rows run on tensor cores, which take the normed row in the format of activations.
    pub fn rounds_normed_rows(&self) -> bool {
        let code = &self.cuda.description().code;
        let path: u32 = code.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        is_on_tensor_cores(path, self.dtype.into())
    }

    /// A format of weights in the file that loses nothing on the device.
    pub fn stored(&self) -> Format {
        self.dtype.into()
    }

    /// What a number of the format loses when it is stored, beside the largest.
    fn rounding(&self) -> f32 {
        match self.dtype {
            Dtype::F16 => 2f32.powi(-11),
            _ => 2f32.powi(-24),
        }
    }

    /// The device's results and the CPU's; `None` for a case that is left out.
    fn both(
        &mut self,
        op: &str,
        what: &str,
        case: &impl Case,
        data: &Data,
    ) -> Option<(Results, Results)> {
        self.met += 1;
        if !(self.met - 1).is_multiple_of(self.every) {
            return None;
        }
        let cuda = &mut self.cuda;
        let mut counter = Counter::new(cuda.footprint());
        case.run(&mut counter, data).unwrap_or_else(|e| panic!("{op} {what}, counted: {e}"));
        let planned = counter.meter().most(Purpose::Workspace);
        cuda.reserve(Purpose::Weights, data.room()).unwrap();
        // No more than planned, so that an operation that takes more fails.
        cuda.reserve(Purpose::Workspace, 0).unwrap();
        cuda.reserve(Purpose::Workspace, planned.max(1)).unwrap();
        let got = case.run(cuda, data).unwrap_or_else(|e| panic!("{op} {what}: {e}"));
        if std::env::var("HIRED_SEPARATE_BUFFERS").is_err() {
            let taken = cuda.workspace().0;
            assert_eq!(taken, planned, "{op} {what}: the workspace is not as planned");
        }
        let wanted = case.run(&mut Cpu::new(Dtype::F32), data).unwrap();
        assert_eq!(got.len(), wanted.len());
        for ((name, got), (_, wanted)) in got.iter().zip(&wanted) {
            assert_eq!(got.len(), wanted.len(), "{op} {what}: {name}");
        }
        Some((got, wanted))
    }

    /// Holds the device's results to the CPU's bits, rounded to the format in which the device stores them.
    pub fn check_bits(&mut self, op: &str, what: &str, case: &impl Case, data: &Data) {
        let Some((got, wanted)) = self.both(op, what, case, data) else { return };
        for ((name, got), (_, wanted)) in got.iter().zip(&wanted) {
            for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
                let stored = match self.dtype {
                    Dtype::F16 => f16::from_f32(*w).to_f32(),
                    _ => *w,
                };
                assert_eq!(
                    g.to_bits(),
                    stored.to_bits(),
                    "{op} {what}: {name}[{i}]: {g}, the CPU has {w}"
                );
            }
            self.used.entry((op.to_owned(), name)).or_default().cases += 1;
        }
    }

    /// Holds the device's results against the CPU's: the largest difference, beside the largest number, may be
    /// `slack` times what the format loses.
    pub fn check(&mut self, op: &str, what: &str, slack: f32, case: &impl Case, data: &Data) {
        let Some((got, wanted)) = self.both(op, what, case, data) else { return };
        for ((name, got), (_, wanted)) in got.iter().zip(&wanted) {
            let largest = wanted.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
            let mut worst = 0.0f32;
            for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
                let used = (g - w).abs() / largest / self.rounding();
                assert!(
                    used <= slack,
                    "{op} {what}: {name}[{i}] is {g}, the CPU has {w}: {used:.1} of {slack} roundings"
                );
                worst = worst.max(used);
            }
            let entry = self.used.entry((op.to_owned(), name)).or_default();
            entry.cases += 1;
            // The largest share of what is allowed, where some may be zero.
            if entry.cases == 1 || worst * entry.slack > entry.worst * slack {
                (entry.worst, entry.slack) = (worst, slack);
            }
        }
    }

    /// Prints what was used: of each result the case that came nearest to what it is allowed.
    pub fn report(&self) {
        let dtype = self.dtype.name();
        for ((op, name), Used { worst, slack, cases }) in &self.used {
            println!(
                "{dtype} {op:<24} {name:<9} {cases:>4} cases, worst {worst:>6.2} of {slack:>6.2} roundings"
            );
        }
        assert!(!self.used.is_empty(), "no case was run");
    }

    /// Nothing may have used more than this share of what operations so called are allowed.
    pub fn leaves_room(&self, share: f32, ops: impl Fn(&str) -> bool) {
        for ((op, name), Used { worst, slack, .. }) in &self.used {
            assert!(
                !ops(op) || *worst <= share * slack,
                "{op} {name}: {worst} of {slack} roundings, which leaves too little to a card"
            );
        }
    }
}
