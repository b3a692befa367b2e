//! What a launch is: decided by pure functions, carried out by the queue.

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
