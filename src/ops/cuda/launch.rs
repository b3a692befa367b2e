//! What a launch is: decided by pure functions, carried out by the queue.

/// Format of numbers on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// fp16, for storage.
    F16,
    /// fp32.
    F32,
}

impl Number {
    /// As kernels are named after it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// A kernel and how many threads run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The source file in `kernels/`, without its ending.
    pub file: &'static str,
    /// Its name there.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}
