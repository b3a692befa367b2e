//! The CUDA executor: what it holds, and how it takes memory.

use super::abi::SynthParams;
use super::batch::Layout;
use super::buffer::{Buffer, Home, Weight};
use super::card::CardInfo;
use super::driver::device::{Device, Driver};
use super::driver::graph::Graph;
use super::driver::queue::{Block, Queue};
use super::driver::staging::{Place, Staging};
use super::launch::{Gemm, Launch};
use super::matmul::cublas::{Blas, Unusable};
use super::profile::watch::Watch;
use super::scratch::{self, DONE};
use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::format::{Dtype, Format, Formats};
use crate::kv;
use crate::ops::arena::{Arena, rounded};
use crate::ops::cost::Cost;
use crate::ops::footprint::{Footprint, device_weight};
use crate::ops::memory::{Meter, Purpose, Size};
use crate::ops::{Storage, extent};
use crate::{Error, Result};
use cudarc::driver::sys::CUdevice_attribute;
use std::collections::HashMap;
use std::sync::Arc;

/// How the executor is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The device, or the first that works.
    pub ordinal: Option<usize>,
    /// Formats of weights, activations and cache.
    pub formats: Formats,
    /// Decode steps are recorded once and replayed.
    pub graphs: bool,
    /// Who makes large products.
    pub gemm: Gemm,
}

/// With 1, every buffer is allocated by itself and decode steps are not recorded: tools that watch memory
/// (compute-sanitizer, AddressSanitizer on the emulator) then see where each buffer ends. Memory is not as planned.
const SEPARATE: &str = "HIRED_SEPARATE_BUFFERS";

/// The first code path on which cuBLAS is used unasked. Newer versions have no code for cards before it, and how fast
/// older ones add in fp32 there is not known.
const AUTOMATIC: u32 = 75;

/// The CUDA executor.
#[derive(Debug)]
pub struct Cuda {
    /// Decode steps by their layout; `None` after the first of as many rows, which runs as it is.
    pub(super) graphs: HashMap<Layout, Option<Recorded>>,
    pub(super) watch: Watch,
    pub(super) blas: Option<Blas>,
    staging: Option<Staging>,
    weights: Option<Room>,
    workspace: Option<Workspace>,
    pub(super) meter: Arc<Meter>,
    pub(super) queue: Queue,
    pub(super) options: Options,
    /// Every buffer has a block of its own, see [`SEPARATE`].
    separate: bool,
    /// Multiprocessors of the device.
    pub(super) processors: usize,
    description: CardInfo,
    /// Products are made in one part: since a selection that may keep fewer rows than were planned, until the first
    /// token. What was planned has room for fewer rows only where they are made in no more parts.
    pub(super) whole: bool,
}

/// A recorded decode step and where it leaves its logits.
#[derive(Debug)]
pub(super) struct Recorded {
    pub graph: Graph,
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
}

/// A block of weights that is being filled.
#[derive(Debug)]
struct Room {
    block: Arc<Block>,
    filled: usize,
}

/// The block of all activations.
#[derive(Debug)]
struct Workspace {
    block: Block,
    arena: Arena,
}

impl Cuda {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no driver, no such device or no code for it.
    pub fn open(options: Options) -> Result<Self> {
        let driver = Driver::open()?;
        let device = driver.device(options.ordinal)?;
        let Device { ordinal, capability, memory, .. } = device;
        let name = device.name.clone();
        let (context, code) = device.context()?;
        let queue = Queue::new(context, code)?;
        let count = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = queue.attribute(count)? as usize;
        let megahertz = |which| queue.attribute(which).map(|kilohertz| kilohertz as u32 / 1000);
        let clock_mhz = megahertz(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
        let memory_clock_mhz =
            megahertz(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?;
        let (blas, note) = open_blas(&queue, options)?;
        let gemm = if blas.is_some() { "cublas" } else { "own" };
        Ok(Self {
            graphs: HashMap::new(),
            watch: Watch::new(),
            blas,
            description: CardInfo {
                name,
                ordinal,
                compute_capability: capability,
                memory,
                code: code.to_string(),
                driver: driver.version.to_string(),
                clock_mhz,
                memory_clock_mhz,
                gemm,
                note,
            },
            staging: None,
            weights: None,
            workspace: None,
            meter: Arc::default(),
            queue,
            options,
            processors,
            whole: false,
            separate: std::env::var(SEPARATE).as_deref() == Ok("1"),
        })
    }

    /// The device.
    pub fn description(&self) -> &CardInfo {
        &self.description
    }

    /// How it takes memory.
    pub fn footprint(&self) -> Footprint {
        Footprint::Cuda { formats: self.options.formats, library: self.blas.is_some() }
    }

    /// A place in the workspace and its address.
    pub(super) fn region(&self, bytes: usize) -> Result<(Home, u64)> {
        if self.separate {
            let block = self.queue.block(&self.meter, Purpose::Workspace, bytes)?;
            let address = block.address();
            return Ok((Home::Alone(block), address));
        }
        let workspace = self.workspace.as_ref();
        let taken = workspace.and_then(|w| Some((w.arena.take(bytes)?, w.block.address())));
        let (region, base) = taken.ok_or_else(|| self.too_small(bytes))?;
        let address = base + region.offset() as u64;
        Ok((Home::Part(region), address))
    }

    /// The place of that offset, if nothing is in the workspace.
    pub(super) fn claim(&self, offset: usize, bytes: usize) -> Option<(Home, u64)> {
        let workspace = self.workspace.as_ref().filter(|w| w.arena.is_empty())?;
        let region = workspace.arena.claim(offset, bytes)?;
        let address = workspace.block.address() + offset as u64;
        Some((Home::Part(region), address))
    }

    /// Where a buffer of the workspace begins in it.
    pub(super) fn offset(&self, buffer: &Buffer) -> usize {
        let base = self.workspace.as_ref().map_or(0, |w| w.block.address());
        (buffer.address - base) as usize
    }

    /// Steps may be recorded: the next one finds its memory where this one leaves it.
    pub(super) fn records(&self) -> bool {
        let wanted = self.options.graphs && !self.separate && !self.queue.is_profiled();
        wanted && self.workspace_is_empty()
    }

    fn workspace_is_empty(&self) -> bool {
        self.workspace.as_ref().is_none_or(|w| w.arena.is_empty())
    }

    fn too_small(&self, bytes: usize) -> Error {
        let held = self.workspace.as_ref().map_or(0, |w| w.block.bytes());
        Error::Capacity(format!(
            "the workspace of {} has no place for {bytes} bytes more: the plan of this request \
             fell short; please report it with the request",
            Size(held as u64)
        ))
    }

    pub(super) fn buffer(&self, rows: usize, cols: usize) -> Result<Buffer> {
        self.strided(rows, cols, cols, self.options.formats.activations)
    }

    pub(super) fn strided(
        &self,
        rows: usize,
        cols: usize,
        stride: usize,
        dtype: Dtype,
    ) -> Result<Buffer> {
        let (place, address) = self.region(rows * stride * dtype.size())?;
        Ok(Buffer { _place: place, address, rows, cols, stride, dtype })
    }

    /// Room for so many bytes of weights more.
    pub(super) fn reserve_weights(&mut self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let block = self.queue.block(&self.meter, Purpose::Weights, bytes)?;
        self.weights = Some(Room { block: Arc::new(block), filled: 0 });
        Ok(())
    }

    /// A workspace of at least so many bytes.
    pub(super) fn reserve_workspace(&mut self, bytes: usize) -> Result<()> {
        // All weights are there when work begins.
        self.staging = None;
        self.whole = false;
        if bytes > 0 && self.workspace.as_ref().is_some_and(|w| w.block.bytes() >= bytes) {
            return Ok(());
        }
        debug_assert!(self.workspace_is_empty());
        self.queue.wait()?;
        // What was recorded goes by the old addresses; the old block goes first, for both may not fit.
        self.graphs.clear();
        self.workspace = None;
        if bytes == 0 {
            return Ok(());
        }
        let block = self.queue.block(&self.meter, Purpose::Workspace, bytes)?;
        self.workspace = Some(Workspace { block, arena: Arena::new(bytes) });
        Ok(())
    }

    /// The high-water mark inside the workspace and its size.
    pub fn workspace(&self) -> (usize, usize) {
        self.workspace.as_ref().map_or((0, 0), |w| (w.arena.most(), w.block.bytes()))
    }

    pub(super) fn take_weight(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        let weight = self.place_weight(&tensor.shape, storage)?;
        if self.staging.is_none() {
            self.staging = Some(Staging::new(&self.queue)?);
        }
        let staging = self.staging.as_mut().expect("made above");
        let Weight { address, rows, cols, stride, format, .. } = weight;
        let place = Place { address, rows, cols, stride, format };
        // SAFETY: the place is inside the block, which the weight keeps.
        unsafe { staging.copy(&self.queue, tensor, place)? };
        Ok(weight)
    }

    /// A weight that is in no file, drawn on the device.
    pub(super) fn draw_weight(&mut self, recipe: &Recipe, storage: Storage) -> Result<Weight> {
        let weight = self.place_weight(&recipe.shape, storage)?;
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
        // SAFETY: the place is inside the block, which the weight keeps.
        unsafe { self.queue.launch(&launch, &params)? };
        Ok(weight)
    }

    /// The next place in the block of weights.
    fn place_weight(&mut self, shape: &[usize], storage: Storage) -> Result<Weight> {
        let (rows, cols) = extent(shape);
        let format = self.options.formats.weights;
        let bytes = device_weight(format, rows, cols, storage);
        let (format, rows, cols, stride) = match storage {
            Storage::Matrix => (format, rows, cols, format.stride(cols)),
            Storage::Vector => (Format::F32, 1, rows * cols, rows * cols),
        };
        let room = self.weights.as_mut();
        let Some(room) = room.filter(|r| r.filled + bytes <= r.block.bytes()) else {
            return Err(Error::Device(format!(
                "no room was reserved for a weight of {bytes} bytes: reserve it before"
            )));
        };
        let address = room.block.address() + room.filled as u64;
        let block = room.block.clone();
        room.filled += bytes;
        Ok(Weight { _block: block, address, rows, cols, stride, format })
    }

    /// A cache with what decode steps read beside it.
    pub(super) fn take_cache(&mut self, shape: kv::Shape) -> Result<super::buffer::Cache> {
        self.graphs.clear();
        let parts = scratch::step(shape);
        let dtype = self.options.formats.cache;
        let pages = rounded(shape.elements() * dtype.size());
        let block = Arc::new(self.queue.block(&self.meter, Purpose::Kv, pages + parts.bytes())?);
        let step = block.address() + pages as u64;
        let counters = parts.offset(DONE);
        // SAFETY: the counters are the last part of the block.
        unsafe { self.queue.clear(step + counters as u64, parts.bytes() - counters)? };
        Ok(super::buffer::Cache { block, shape, dtype, step, parts, rope: None })
    }
}

/// The library if it is to make large products, else why it is not, where that is news.
fn open_blas(queue: &Queue, options: Options) -> Result<(Option<Blas>, Option<String>)> {
    let demanded = options.gemm.library(options.formats)?;
    if !demanded.unwrap_or(queue.path() >= AUTOMATIC) {
        return Ok((None, None));
    }
    match Blas::open(queue) {
        Ok(blas) => Ok((Some(blas), None)),
        Err(unusable) if demanded == Some(true) => Err(unusable.error()),
        Err(Unusable::Absent) => Ok((None, None)),
        Err(Unusable::Failed(error)) => {
            // Where the trial has lost the device, own kernels are of no use either.
            queue.wait()?;
            Ok((None, Some(format!("hired's own kernels make all products: {error}"))))
        }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // What follows gives handles back: it needs the context, and nothing may run any more.
        let _ = self.queue.wait();
    }
}
