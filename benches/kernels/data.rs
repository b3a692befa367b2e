//! Pseudo-random tensors, made on demand.

use half::f16;
use hired::Result;
use hired::checkpoint::{Checkpoint, Tensor};
use hired::quant::Scheme;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Rows of a matrix from which others are taken.
const ROWS: usize = 512;

/// Tensors by shape, in temporary files.
pub struct Data {
    /// The format to which weights of the decoder's linear layers are quantized.
    scheme: Option<Scheme>,
    folder: tempfile::TempDir,
    made: RefCell<BTreeMap<Vec<usize>, Tensor>>,
}

impl Data {
    /// An empty collection.
    pub fn new(scheme: Option<Scheme>) -> std::io::Result<Self> {
        Ok(Self { scheme, folder: tempfile::tempdir()?, made: RefCell::default() })
    }

    /// A weight of a linear layer.
    pub fn weight(&self, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.tensor(shape)?;
        match self.scheme {
            Some(scheme) => tensor.quantized(scheme),
            None => Ok(tensor),
        }
    }

    /// A tensor in fp16, scaled so that the product of a row with a row of ones is about one.
    pub fn tensor(&self, shape: &[usize]) -> Result<Tensor> {
        if let Some(tensor) = self.made.borrow().get(shape) {
            return Ok(tensor.clone());
        }
        let name = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let folder = self.folder.path().join(&name);
        let scale = 1.0 / (*shape.last().unwrap_or(&1) as f32).sqrt();
        // Repeated at a length that no power of two divides.
        let pool: Vec<u8> = numbers(1_000_003, scale).flat_map(f16::to_le_bytes).collect();
        let bytes = 2 * shape.iter().product::<usize>();
        let all: Vec<u8> = pool.iter().copied().cycle().take(bytes).collect();
        let write = || {
            std::fs::create_dir(&folder)?;
            let view = TensorView::new(Dtype::F16, shape.to_vec(), &all).expect("its own size");
            serialize_to_file([("x", view)], None, &folder.join("model.safetensors"))
                .map_err(std::io::Error::other)
        };
        write().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let tensor = Checkpoint::open(&folder)?.get("x")?;
        self.made.borrow_mut().insert(shape.to_vec(), tensor.clone());
        Ok(tensor)
    }

    /// A matrix from which rows are taken, and `rows` row numbers of it.
    pub fn table(&self, rows: usize, cols: usize) -> Result<(Tensor, Vec<u32>)> {
        let height = rows.min(ROWS);
        Ok((self.tensor(&[height, cols])?, (0..rows).map(|row| (row % height) as u32).collect()))
    }
}

/// Numbers of magnitude `scale`, of both signs.
fn numbers(count: usize, scale: f32) -> impl Iterator<Item = f16> {
    let mut state = 1u64;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        f16::from_f32(((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale)
    })
}
