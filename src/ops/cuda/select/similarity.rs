//! Launches of the methods that compare rows, with their parameters.
//!
//! Each method is described where it is implemented for the CPU, in [`crate::select`].

use super::params::{Launches, Params, Rows, Seen, launch};
use super::scratch::{Part, Scratch, compared, cosines};
use super::{Block, Selecting};
use crate::format::Dtype;
use crate::ops::cost;
use crate::ops::cuda::abi;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::matmul::choose::Kernels;
use crate::ops::cuda::matmul::gemm::{Product, Split};
use std::ptr::{null, null_mut};

/// A selection that compares rows, with its addresses.
pub(super) struct Similarity<'a> {
    pub selecting: &'a Selecting,
    pub at: Block<'a>,
    pub parts: Scratch,
    pub scratch: u64,
    pub seen: &'a Seen,
    pub processors: usize,
}

/// A launch of greedy picks. A block has as many threads as there is work for.
fn greedy(kernel: &str, blocks: usize, rows: usize, threads_of_row: usize) -> Launch {
    let threads = (rows * threads_of_row).clamp(1, abi::HIRED_GREEDY_THREADS as usize);
    let shared = (rows * size_of::<f32>()) as u32;
    Launch {
        block: threads.next_multiple_of(32) as u32,
        shared,
        ..launch("diverse", kernel, blocks)
    }
}

impl Similarity<'_> {
    fn part<T>(&self, part: Part) -> *mut T {
        self.parts.at(self.scratch, part)
    }

    fn partitions(&self) -> usize {
        self.selecting.plan.geometry.partitions()
    }

    fn patches(&self) -> u32 {
        self.selecting.plan.geometry.patches() as u32
    }

    /// Number of rows before the patches of a partition in the matrices that are compared: its class token, which rows of
    /// tokens of several patches have no more.
    fn prefix(&self) -> u32 {
        self.selecting.plan.geometry.row(0, 0) as u32
    }

    fn flags(&self) -> *mut u32 {
        self.at.word(&self.at.layout.flags)
    }

    fn ranks(&self) -> *mut u32 {
        self.at.word(&self.at.layout.ranks)
    }

    /// Address of the numbers of rows that the method adds.
    pub fn added(&self) -> *const u32 {
        self.part(Part::Added)
    }

    /// Unit rows of the valid patches and the cosines of their pairs. `chosen`: `x` has all rows of the tower, of which
    /// the valid ones are read; `heads`: a row is first averaged over this many heads.
    fn cosines(&self, x: Rows, chosen: bool, heads: usize, all: &mut Launches) {
        let compared = compared(&self.selecting.plan);
        let (rows, width) = (compared.iter().sum::<usize>(), self.parts.width);
        if rows == 0 {
            return;
        }
        let units = self.part::<f32>(Part::Units);
        let params = abi::UnitRowsParams {
            x: x.address as *const _,
            rows: if chosen { self.part(Part::Valid) } else { null() },
            out: units,
            flags: self.flags(),
            heads: heads as u32,
            width: width as u32,
            x_stride: x.stride as u32,
            reserved: 0,
        };
        let bytes = rows * (heads * width * x.dtype.size() + width * size_of::<f32>());
        let kernel = format!("unit_rows_{}", x.dtype.name());
        let launch = launch("likeness", kernel, rows).costing(cost::Cost::bytes(bytes));
        all.push((launch, Params::Units(params)));
        let places = cosines(&compared);
        let mut first = 0;
        for (&n, place) in compared.iter().zip(places) {
            let x = units.wrapping_add(first * width);
            let out = self.part::<f32>(Part::Cosines).wrapping_add(place);
            first += n;
            if n == 0 {
                continue;
            }
            let product = Product {
                rows: n,
                cols: [n, 0, 0],
                gated: false,
                inner: width,
                x_stride: width,
                w_stride: width,
                out_strides: [n, 0, 0],
                aligned: (x as usize).is_multiple_of(16) && (out as usize).is_multiple_of(16),
                split: Split::ONE,
            };
            let params = abi::GemmParams {
                x: x.cast(),
                weights: [x.cast(), null(), null()],
                biases: [null(); 3],
                outs: [out.cast(), null_mut(), null_mut()],
                sums: null_mut(),
                cols: [n as u32, 0, 0],
                out_strides: [n as u32, 0, 0],
                rows: n as u32,
                inner: width as u32,
                x_stride: width as u32,
                w_stride: width as u32,
                parts: 1,
                activation: abi::HIRED_IDENTITY,
                epilogue: abi::HIRED_STORE,
                reserved: 0,
            };
            // Products in f32 use the same kernels on all code paths.
            let kernels = Kernels::of(0, Dtype::F32.into()).expect("f32 is multiplied everywhere");
            let launch = kernels.gemm(&product, self.processors).product;
            let weights = n * width * size_of::<f32>();
            let launch = launch.costing(cost::linear(n, n, width, size_of::<f32>(), weights));
            all.push((launch, Params::Gemm(params)));
        }
    }

    /// VisionZip, after its dominant patches: the contextual rows.
    pub fn contexts(&self, all: &mut Launches) {
        self.cosines(self.seen.keys, true, self.seen.heads, all);
        let layout = self.at.layout;
        let params = abi::SelectContextsParams {
            mix: self.at.mix(),
            cosines: self.part(Part::Cosines),
            valid: self.part(Part::Valid),
            parts: self.part(Part::Partitions),
            contexts: self.part(Part::Contexts),
            ranks: self.ranks(),
            offsets: self.at.word(&layout.offsets),
            rows: self.at.word(&layout.rows),
            left: self.part(Part::Words),
            patch_count: self.patches(),
            valid_count: self.selecting.plan.geometry.valid() as u32,
        };
        let written = cost::pass(layout.sources.len(), 2 * size_of::<u32>());
        let launch = launch("merge", "select_contexts", self.partitions()).costing(written);
        all.push((launch, Params::Contexts(params)));
    }

    /// DivPrune.
    pub fn spread(&self, all: &mut Launches) {
        self.cosines(self.seen.projected, false, 1, all);
        let plan = &self.selecting.plan;
        let count = plan.geometry.valid();
        let params = abi::SpreadParams {
            cosines: self.part(Part::Cosines),
            nearest: self.part(Part::Scores),
            marks: self.part(Part::Words),
            count: count as u32,
            picks: plan.rows as u32,
        };
        let nearest =
            launch("diverse", "spread_nearest", count).costing(cost::picks(count, count, 0));
        let pick = greedy("spread_pick", 1, count, 1).costing(cost::picks(plan.rows, count, 0));
        all.extend([(nearest, Params::Spread(params)), (pick, Params::Spread(params))]);
        self.marked(all);
    }

    /// SCOPE.
    pub fn cover(
        &self,
        scores: abi::SelectScores,
        counts: &[usize],
        exponent: f64,
        all: &mut Launches,
    ) {
        self.cosines(self.seen.features, true, 1, all);
        let params = abi::CoverParams {
            scores,
            cosines: self.part(Part::Cosines),
            valid: self.part(Part::Valid),
            parts: self.part(Part::Partitions),
            picks: self.at.word(&self.at.layout.allocation),
            saliency: self.part(Part::Wide),
            marks: self.part(Part::Words),
            flags: self.flags(),
            exponent,
            patch_count: self.patches(),
            prefix: self.prefix(),
        };
        let geometry = &self.selecting.plan.geometry;
        let mut cost = cost::Cost::default();
        for (i, &count) in counts.iter().enumerate() {
            let numbers = geometry.valid_in(i).pow(2);
            cost += cost::picks(count, numbers, 2 * numbers);
        }
        // The full image has all its patches, the most of any partition.
        let launch = greedy("cover_pick", self.partitions(), geometry.patches(), 32).costing(cost);
        all.push((launch, Params::Cover(params)));
        self.marked(all);
    }

    /// Turns marks of picked patches into ranks.
    fn marked(&self, all: &mut Launches) {
        let layout = self.at.layout;
        let params = abi::SelectMarkedParams {
            marks: self.part(Part::Words),
            valid: self.part(Part::Valid),
            parts: self.part(Part::Partitions),
            ranks: self.ranks(),
            counts: self.at.word(&layout.counts),
            patch_count: self.patches(),
            prefix: self.prefix(),
        };
        let launch = launch("diverse", "select_marked", self.partitions())
            .costing(cost::pass(layout.ranks.len(), size_of::<u32>()));
        all.push((launch, Params::Marked(params)));
    }

    /// PruMerge, after its allocation.
    pub fn merge(&self, spatial: bool, neighbours: usize, all: &mut Launches) {
        let layout = self.at.layout;
        let (partitions, patches) = (self.partitions(), self.patches());
        let Seen { queries, keys, .. } = *self.seen;
        let attention = abi::ClassAttentionParams {
            q: queries.address as *const _,
            k: keys.address as *const _,
            logits: self.part(Part::Wide),
            out: self.part(Part::Scores),
            flags: self.flags(),
            scale: 1.0 / (keys.cols as f64).sqrt(),
            patch_count: patches,
            width: keys.cols as u32,
            q_stride: queries.stride as u32,
            k_stride: keys.stride as u32,
        };
        let scored =
            cost::scores(partitions * (patches as usize + 1), keys.cols, keys.dtype.size());
        let kernel = format!("class_attention_{}", keys.dtype.name());
        all.push((
            launch("likeness", kernel, partitions).costing(scored),
            Params::Attention(attention),
        ));
        let outstanding = abi::SelectOutstandingParams {
            attention: self.part(Part::Scores),
            valid: self.part(Part::Valid),
            parts: self.part(Part::Partitions),
            allocation: self.at.word(&layout.allocation),
            ranks: self.ranks(),
            counts: self.at.word(&layout.counts),
            merged: self.part(Part::Words),
            patch_count: patches,
            spatial: spatial.into(),
        };
        let ranked = cost::pass(layout.ranks.len(), size_of::<f32>());
        all.push((
            launch("merge", "select_outstanding", partitions).costing(ranked),
            Params::Outstanding(outstanding),
        ));
        all.push(self.selecting.rows(self.at));
        self.cosines(keys, true, 1, all);
        let rows = self.selecting.plan.rows;
        let merged = abi::SelectMergedParams {
            mix: self.at.mix(),
            cosines: self.part(Part::Cosines),
            attention: self.part(Part::Scores),
            valid: self.part(Part::Valid),
            parts: self.part(Part::Partitions),
            ranks: self.ranks(),
            offsets: self.at.word(&layout.offsets),
            rows: self.at.word(&layout.rows),
            merged: self.part(Part::Words),
            added: self.part(Part::Added),
            partitions: partitions as u32,
            patch_count: patches,
            neighbours: neighbours as u32,
            source: (rows * (1 + neighbours)) as u32,
        };
        // Each row reads its cosines: at most as many as the full image has patches.
        let near = cost::picks(rows, patches as usize, 0);
        all.extend([
            (launch("merge", "select_neighbours", rows).costing(near), Params::Merged(merged)),
            (launch("merge", "select_rest", partitions).costing(ranked), Params::Merged(merged)),
        ]);
    }
}

impl Block<'_> {
    /// The weighted sums of rows; null pointers where rows are copies.
    pub(super) fn mix(&self) -> abi::SelectMix {
        if self.layout.sources.is_empty() {
            return abi::SelectMix { spans: null_mut(), sources: null_mut(), weights: null_mut() };
        }
        abi::SelectMix {
            spans: self.word(&self.layout.spans),
            sources: self.word(&self.layout.sources),
            weights: self.word(&self.layout.weights).cast(),
        }
    }
}
