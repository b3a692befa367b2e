//! The kernels' parameters, and what a selection is made from, by its addresses.

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

/// CLS attention in device memory, head by head.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClsHeads {
    /// `[partitions, heads, T + 1]`, of all patches of the tower: softmax before it is divided by its sum.
    pub weights: u64,
    /// `[partitions, heads]`: of the weights.
    pub sums: u64,
    /// Their number.
    pub heads: usize,
}

impl ClsHeads {
    /// With the place for the scores, which are reduced over the heads.
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

/// Rows in device memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Of the first number.
    pub address: u64,
    /// Numbers in a row.
    pub cols: usize,
    /// Numbers from row to row.
    pub stride: usize,
    /// Their format.
    pub dtype: Dtype,
}

impl Default for Rows {
    fn default() -> Self {
        Self { address: 0, cols: 0, stride: 0, dtype: Dtype::F32 }
    }
}

/// The evidence of a selection, in device memory, as far as the plan needs it: see [`crate::select::Evidence`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Of the full image.
    pub init: ClsHeads,
    /// Of all partitions.
    pub last: ClsHeads,
    /// `[P, D]`.
    pub queries: Rows,
    /// `[P·(T+1), D]`.
    pub keys: Rows,
    /// Heads that a row of keys is cut into.
    pub heads: usize,
    /// `[P·(T+1), D]`.
    pub features: Rows,
    /// `[V, H]`.
    pub projected: Rows,
}

impl Seen {
    /// Numbers in the rows.
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
        /// The parameters of one of the kernels, for [`Launch`].
        #[derive(Debug, Clone, Copy)]
        pub enum Params {
            $($(#[$about])+ $kernel(abi::$params)),+
        }

        impl Params {
            /// Where the struct is.
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
    /// A matrix product.
    Gemm: GemmParams,
    /// `spread_nearest` and `spread_pick`.
    Spread: SpreadParams,
    /// `cover_pick`.
    Cover: CoverParams
}

/// Launches, one after another.
pub type Launches = Vec<(Launch, Params)>;

/// A launch of blocks of [`abi::HIRED_SELECT_THREADS`].
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
