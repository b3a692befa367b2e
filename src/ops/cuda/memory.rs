//! Device memory: weights, caches, and the workspace that holds all activations.

use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::format::{Dtype, Format};
use crate::ops::arena::{Arena, rounded};
use crate::ops::cost::Cost;
use crate::ops::cuda::abi::SynthParams;
use crate::ops::cuda::buffer::{Batch, Buffer, Cache, Coded, Home, Scores, Weight, part};
use crate::ops::cuda::driver::block::Block;
use crate::ops::cuda::driver::staging::{Place, Staging};
use crate::ops::cuda::executor::Cuda;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::scratch::{self, DONE};
use crate::ops::cuda::select::fastv::Retained;
use crate::ops::cuda::select::ops::Kept;
use crate::ops::memory::{Meter, Purpose, Size};
use crate::ops::saved::Numbers;
use crate::ops::{Executor, Extent, MemoryOps, Saved, Storage, extent};
use crate::{Error, Result, kv};
use std::sync::Arc;

/// If set to 1, every buffer has an allocation of its own and decode steps are not recorded. Memory checkers
/// (compute-sanitizer, AddressSanitizer on the emulator) then see where each buffer ends. Memory use differs from the
/// plan.
const SEPARATE: &str = "HIRED_SEPARATE_BUFFERS";

/// The memory that an executor has allocated.
#[derive(Debug)]
pub(super) struct Memory {
    staging: Option<Staging>,
    weights: Option<Weights>,
    workspace: Option<Workspace>,
    meter: Arc<Meter>,
    /// Whether every buffer has an allocation of its own, see [`SEPARATE`].
    separate: bool,
}

/// A block of weights, filled from its start.
#[derive(Debug)]
struct Weights {
    block: Arc<Block>,
    filled: usize,
}

/// The block of all activations.
#[derive(Debug)]
struct Workspace {
    block: Block,
    arena: Arena,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            staging: None,
            weights: None,
            workspace: None,
            meter: Arc::default(),
            separate: std::env::var(SEPARATE).as_deref() == Ok("1"),
        }
    }
}

impl Executor for Cuda {
    type Buffer = Buffer;
    type Weight = Weight;
    type Cache = Cache;
    type Scores = Scores;
    type Kept = Kept;
    type Batch = Batch;
    type Retained = Retained;
}

impl MemoryOps for Cuda {
    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        if tensor.format.is_integer() && storage == Storage::Vector {
            let (name, format) = (&tensor.name, tensor.format.name());
            let what = format!("{name}: only weights of linear layers can be {format}");
            return Err(Error::Request(what));
        }
        let weight = self.place_weight(&tensor.shape, tensor.format, storage)?;
        if self.memory.staging.is_none() {
            self.memory.staging = Some(Staging::new(&self.queue)?);
        }
        let staging = self.memory.staging.as_mut().expect("made above");
        let Weight { address, scales, rows, cols, stride, format, .. } = weight;
        let place = Place { address, scales, rows, cols, stride, format };
        // SAFETY: the place is inside the block, which the weight keeps allocated.
        unsafe { staging.copy(&self.queue, tensor, place)? };
        Ok(weight)
    }

    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Weight> {
        if recipe.scheme.is_some() {
            // Integers are quantized on the host, where the rounding rule has its only implementation.
            return self.upload(&recipe.tensor()?, storage);
        }
        let weight = self.place_weight(&recipe.shape, recipe.format(), storage)?;
        let Weight { address, rows, cols, stride, format, .. } = weight;
        let params = SynthParams {
            out: address as *mut _,
            key: recipe.key,
            rows: rows as u32,
            cols: cols as u32,
            stride: stride as u32,
            mean: recipe.mean,
            reach: recipe.reach,
            reserved: 0,
        };
        let kernel = format!("synth_{}", format.name());
        let launch = Launch::rows("synth", kernel, rows, stride, 1)
            .costing(Cost::bytes(format.bytes(rows, stride)));
        // SAFETY: the place is inside the block, which the weight keeps allocated.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(weight)
    }

    fn reserve(&mut self, purpose: Purpose, bytes: usize) -> Result<()> {
        match purpose {
            Purpose::Weights => self.reserve_weights(bytes),
            Purpose::Workspace => self.reserve_workspace(bytes),
            // Allocated by `cache`.
            Purpose::Kv => Ok(()),
        }
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        self.graphs.clear();
        let parts = scratch::step(shape);
        let dtype = self.options.formats.cache;
        let pages = rounded(shape.elements() * dtype.size());
        let block =
            Arc::new(self.queue.block(&self.memory.meter, Purpose::Kv, pages + parts.bytes())?);
        let step = block.address() + pages as u64;
        let counters = parts.offset(DONE);
        // SAFETY: the counters are the last part of the block.
        unsafe { self.queue.clear(step + counters as u64, parts.bytes() - counters)? };
        Ok(Cache { block, shape, dtype, step, parts, rope: None })
    }

    fn download(&mut self, x: &Buffer) -> Result<Vec<f32>> {
        let count = x.rows() * x.stride;
        // SAFETY: the buffer has this many numbers.
        let all = unsafe {
            match x.dtype {
                Dtype::F32 => self.queue.download::<f32>(x.address, count)?,
                Dtype::F16 => {
                    let half = self.queue.download::<half::f16>(x.address, count)?;
                    half.iter().map(|x| x.to_f32()).collect()
                }
            }
        };
        if x.stride == x.cols {
            return Ok(all);
        }
        let rows = all.chunks_exact(x.stride.max(1)).flat_map(|row| &row[..x.cols]);
        Ok(rows.copied().collect())
    }

    fn save(&mut self, x: &Buffer) -> Result<Saved> {
        if x.stride != x.cols {
            return Err(Error::Device("only rows without padding can be saved".into()));
        }
        let count = x.rows() * x.cols();
        // SAFETY: the buffer has this many numbers.
        let numbers = unsafe {
            match x.dtype {
                Dtype::F32 => Numbers::F32(self.queue.download(x.address, count)?),
                Dtype::F16 => Numbers::F16(self.queue.download(x.address, count)?),
            }
        };
        Ok(Saved::new(x.rows(), x.cols(), numbers))
    }

    fn restore(&mut self, saved: &Saved) -> Result<Buffer> {
        let (rows, cols) = (saved.rows(), saved.cols());
        let dtype = match &saved.numbers {
            Numbers::F32(_) => Dtype::F32,
            Numbers::F16(_) => Dtype::F16,
        };
        let out = self.strided(rows, cols, cols, dtype)?;
        // SAFETY: the buffer has space for all the numbers.
        unsafe {
            match &saved.numbers {
                Numbers::F32(numbers) => self.queue.upload(out.address, numbers)?,
                Numbers::F16(numbers) => self.queue.upload(out.address, numbers)?,
            }
        }
        Ok(out)
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.memory.meter
    }

    fn available(&self) -> Option<usize> {
        self.queue.available()
    }
}

impl Cuda {
    /// Takes a region of the workspace, and returns its address too.
    pub(super) fn region(&self, bytes: usize) -> Result<(Home, u64)> {
        if self.memory.separate {
            let block = self.queue.block(&self.memory.meter, Purpose::Workspace, bytes)?;
            let address = block.address();
            return Ok((Home::Alone(block), address));
        }
        let workspace = self.memory.workspace.as_ref();
        let taken = workspace.and_then(|w| Some((w.arena.take(bytes)?, w.block.address())));
        let (region, base) = taken.ok_or_else(|| self.too_small(bytes))?;
        let address = base + region.offset() as u64;
        Ok((Home::Part(region), address))
    }

    /// Takes the region at this offset, if the workspace is empty.
    pub(super) fn claim(&self, offset: usize, bytes: usize) -> Option<(Home, u64)> {
        let workspace = self.memory.workspace.as_ref().filter(|w| w.arena.is_empty())?;
        let region = workspace.arena.claim(offset, bytes)?;
        let address = workspace.block.address() + offset as u64;
        Some((Home::Part(region), address))
    }

    /// Offset of a buffer in the workspace.
    pub(super) fn offset(&self, buffer: &Buffer) -> usize {
        let base = self.memory.workspace.as_ref().map_or(0, |w| w.block.address());
        (buffer.address - base) as usize
    }

    /// Whether decode steps may be recorded: only an empty workspace gives every step the same addresses.
    pub(super) fn records(&self) -> bool {
        let watched = self.queue.is_profiled() || self.attended.is_some();
        let wanted = self.options.graphs && !self.memory.separate && !watched;
        wanted && self.workspace_is_empty()
    }

    fn workspace_is_empty(&self) -> bool {
        self.memory.workspace.as_ref().is_none_or(|w| w.arena.is_empty())
    }

    fn too_small(&self, bytes: usize) -> Error {
        let size = self.memory.workspace.as_ref().map_or(0, |w| w.block.bytes());
        Error::Capacity(format!(
            "the workspace of {} has no place for {bytes} bytes more: the plan of this request \
             fell short; please report it with the request",
            Size(size as u64)
        ))
    }

    pub(super) fn buffer(&self, rows: usize, cols: usize) -> Result<Buffer> {
        self.strided(rows, cols, cols, self.options.formats.activations)
    }

    /// Allocates rows; if `coded`, with memory for the same rows quantized to int8.
    pub(super) fn coded_buffer(&self, rows: usize, cols: usize, coded: bool) -> Result<Buffer> {
        let mut out = self.buffer(rows, cols)?;
        if coded {
            let parts = scratch::tokens(rows, cols);
            let (_place, address) = self.region(parts.bytes())?;
            let [codes, scales] = [0, 1].map(|which| part(address, &parts, which));
            out.coded = Some(Coded { _place, codes, scales });
        }
        Ok(out)
    }

    pub(super) fn strided(
        &self,
        rows: usize,
        cols: usize,
        stride: usize,
        dtype: Dtype,
    ) -> Result<Buffer> {
        let (place, address) = self.region(rows * stride * dtype.size())?;
        let (of_integers, coded) = (false, None);
        Ok(Buffer { _place: place, address, rows, cols, stride, dtype, of_integers, coded })
    }

    /// Allocates a block for `bytes` more of weights.
    fn reserve_weights(&mut self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let block = self.queue.block(&self.memory.meter, Purpose::Weights, bytes)?;
        self.memory.weights = Some(Weights { block: Arc::new(block), filled: 0 });
        Ok(())
    }

    /// Allocates a workspace of at least `bytes`.
    fn reserve_workspace(&mut self, bytes: usize) -> Result<()> {
        // All weights have been uploaded when work begins.
        self.memory.staging = None;
        self.whole = false;
        if bytes > 0 && self.memory.workspace.as_ref().is_some_and(|w| w.block.bytes() >= bytes) {
            return Ok(());
        }
        debug_assert!(self.workspace_is_empty());
        self.queue.wait()?;
        // Recordings contain the old addresses. The old block is freed first, since both may not fit.
        self.graphs.clear();
        self.memory.workspace = None;
        if bytes == 0 {
            return Ok(());
        }
        let block = self.queue.block(&self.memory.meter, Purpose::Workspace, bytes)?;
        self.memory.workspace = Some(Workspace { block, arena: Arena::new(bytes) });
        Ok(())
    }

    /// The workspace's high-water mark and its size.
    pub fn workspace(&self) -> (usize, usize) {
        self.memory.workspace.as_ref().map_or((0, 0), |w| (w.arena.most(), w.block.bytes()))
    }

    /// Takes the next place in the block of weights.
    fn place_weight(
        &mut self,
        shape: &[usize],
        stored: Format,
        storage: Storage,
    ) -> Result<Weight> {
        let (rows, cols) = extent(shape);
        let format = scratch::device_format(self.options.formats.weights, stored);
        let bytes = scratch::weight(format, rows, cols, storage);
        let (format, rows, cols, stride) = match storage {
            Storage::Matrix => (format, rows, cols, format.stride(cols)),
            Storage::Vector => (Format::F32, 1, rows * cols, rows * cols),
        };
        let weights = self.memory.weights.as_mut();
        let Some(weights) = weights.filter(|w| w.filled + bytes <= w.block.bytes()) else {
            return Err(Error::Device(format!(
                "no memory was reserved for a weight of {bytes} bytes: reserve it before"
            )));
        };
        let mut address = weights.block.address() + weights.filled as u64;
        let block = weights.block.clone();
        weights.filled += bytes;
        let mut scales = 0;
        if format.is_integer() {
            let parts = scratch::matrix(format, rows, cols);
            (scales, address) = (part(address, &parts, 0), part(address, &parts, 1));
        }
        Ok(Weight { _block: block, address, scales, rows, cols, stride, format })
    }
}
