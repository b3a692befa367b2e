//! The parameters of the selection kernels, and the addresses of their evidence.

#[cfg(feature = "cuda")]
use crate::Result;
use crate::format::Dtype;
use crate::ops::Widths;
use crate::ops::cost::Cost;
use crate::ops::cuda::abi;
#[cfg(feature = "cuda")]
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::launch::Launch;
use crate::select::{Geometry, Heads};
use std::ffi::c_void;

/// Attention of class tokens in device memory, head by head.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClsHeads {
    /// Address of `[partitions, heads, T + 1]`: exponentials of the softmax, for all patches of the tower, not yet
    /// divided by their sums.
    pub weights: u64,
    /// Address of `[partitions, heads]`: the sums.
    pub sums: u64,
    /// Number of heads.
    pub heads: usize,
}

impl ClsHeads {
    /// As parameters of kernels, with the place for the scores reduced over the heads.
    pub(super) fn scores(
        self,
        how: Heads,
        geometry: &Geometry,
        out: *mut u32,
    ) -> abi::SelectScores {
        abi::SelectScores {
            weights: self.weights as *const f32,
            sums: self.sums as *const f32,
            out: out.cast(),
            heads: self.heads as u32,
            how: match how {
                Heads::Sum => abi::HIRED_SUM_HEADS,
                Heads::Mean => abi::HIRED_MEAN_HEADS,
                Heads::Max => abi::HIRED_MAX_HEADS,
                Heads::One(head) => abi::HIRED_ONE_HEAD + head as u32,
            },
            side: geometry.side() as u32,
            cell: geometry.cell() as u32,
        }
    }
}

/// A matrix in device memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Address of the first number.
    pub address: u64,
    /// Numbers in a row.
    pub cols: usize,
    /// Distance between rows, in numbers.
    pub stride: usize,
    /// The numbers' format.
    pub dtype: Dtype,
}

impl Default for Rows {
    fn default() -> Self {
        Self { address: 0, cols: 0, stride: 0, dtype: Dtype::F32 }
    }
}

/// The evidence of a selection in device memory, as far as the plan needs it: see [`crate::select::Evidence`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Attention in the full image, for its content scores.
    pub init: ClsHeads,
    /// Attention in all partitions, for the ranking.
    pub last: ClsHeads,
    /// `[P, D]`: queries of the class tokens.
    pub queries: Rows,
    /// `[P·(T+1), D]`: keys of the same block.
    pub keys: Rows,
    /// Heads into which a row of keys is divided.
    pub heads: usize,
    /// `[P·(T+1), D]`: output rows of the vision tower.
    pub features: Rows,
    /// `[V, H]`: projected rows of the valid patches.
    pub projected: Rows,
}

impl Seen {
    /// The row lengths.
    pub fn widths(&self) -> Widths {
        Widths {
            heads: self.heads,
            keys: self.keys.cols,
            features: self.features.cols,
            projected: self.projected.cols,
        }
    }
}

macro_rules! params {
    ($($(#[$about:meta])+ $kernel:ident: $params:ident),+) => {
        /// The parameters of one of the kernels.
        #[derive(Debug, Clone, Copy)]
        pub enum Params {
            $($(#[$about])+ $kernel(abi::$params)),+
        }

        impl Params {
            /// Address of the struct.
            pub fn pointer(&self) -> *const c_void {
                match self {
                    $(Self::$kernel(p) => (&raw const *p).cast()),+
                }
            }

            /// Enqueues the kernel.
            ///
            /// # Safety
            /// As [`Queue::launch`].
            ///
            /// # Errors
            /// As [`Queue::launch`].
            #[cfg(feature = "cuda")]
            pub(in crate::ops::cuda) unsafe fn launch(
                &self,
                queue: &Queue,
                launch: &Launch,
            ) -> Result<()> {
                match self {
                    // SAFETY: upheld by this function's own contract.
                    $(Self::$kernel(p) => unsafe { queue.launch(launch, p) }),+
                }
            }
        }
    };
}

params! {
    /// `select_exact`.
    Exact: SelectExactParams,
    /// `select_paper`.
    Paper: SelectPaperParams,
    /// `select_repo`.
    Repo: SelectRepoParams,
    /// `select_topk`.
    Topk: SelectTopkParams,
    /// `select_rows`.
    Rows: SelectRowsParams,
    /// `select_order`.
    Order: SelectOrderParams,
    /// `select_marked`.
    Marked: SelectMarkedParams,
    /// `select_contexts`.
    Contexts: SelectContextsParams,
    /// `select_outstanding`.
    Outstanding: SelectOutstandingParams,
    /// `select_neighbours` and `select_rest`.
    Merged: SelectMergedParams,
    /// `unit_rows`.
    Units: UnitRowsParams,
    /// `class_attention`.
    Attention: ClassAttentionParams,
    /// The matrix products of unit rows.
    Gemm: GemmParams,
    /// `spread_nearest` and `spread_pick`.
    Spread: SpreadParams,
    /// `cover_pick`.
    Cover: CoverParams
}

/// Launches in order, each with its parameters.
pub type Launches = Vec<(Launch, Params)>;

/// A launch with [`abi::HIRED_SELECT_THREADS`] threads per block.
pub(super) fn launch(file: &'static str, kernel: impl Into<String>, blocks: usize) -> Launch {
    Launch {
        file,
        kernel: kernel.into(),
        grid: [blocks as u32, 1, 1],
        block: abi::HIRED_SELECT_THREADS,
        shared: 0,
        cost: Cost::default(),
    }
}
