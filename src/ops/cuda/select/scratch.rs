//! Scratch memory of selections that compare rows: tables of the image's patches, unit rows and cosines.
//!
//! The cosines of all pairs of a partition's valid patches (of all valid patches, where they are chosen over all
//! partitions) are one product of unit rows with themselves: 6.6 MB for five partitions of 576, 33 MB for 2880 patches.

use super::super::abi;
use super::super::parts::Parts;
use super::Selecting;
use crate::ops::Widths;
use crate::select::{Plan, Program};

/// Numbers of a 16-byte access; the cosines of each partition start at a multiple of it.
const LANES: usize = 4;

const TABLES: usize = 4;

/// Layout of the arrays in their region. The first four are [`Scratch::tables`].
#[derive(Debug, Clone)]
pub struct Scratch {
    parts: Parts<9>,
    /// Length of a unit row.
    pub(super) width: usize,
}

/// The arrays, in order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// `[P]` of [`abi::SelectPart`].
    Partitions,
    /// `[V]`: numbers of the valid patches' rows in `[P·(T+1)]`.
    Valid,
    /// `[P]` of [`abi::SelectContext`].
    Contexts,
    /// `[2]`: numbers of the rows that the method adds, of the full image and of all partitions.
    Added,
    /// u32, by kernel: marks of valid patches, lists of remaining patches, or which partitions merge.
    Words,
    /// f64: logits of the class token, or saliency of patches.
    Wide,
    /// f32: attention of the class token, or cosine with the nearest picked patch.
    Scores,
    /// `[V, width]`, f32: unit rows.
    Units,
    /// f32: cosines of all pairs.
    Cosines,
}

/// Numbers of valid patches that are compared with each other: in each partition, or in all together.
pub(super) fn compared(plan: &Plan) -> Vec<usize> {
    let geometry = &plan.geometry;
    match &plan.program {
        Some(Program::Spread) => vec![geometry.valid()],
        Some(Program::Contexts(shares)) if shares.iter().all(|s| s.contexts == 0) => Vec::new(),
        Some(Program::Contexts(_) | Program::Cover { .. } | Program::Merge { .. }) => {
            (0..geometry.partitions()).map(|i| geometry.valid_in(i)).collect()
        }
        Some(Program::Rank(_)) | None => Vec::new(),
    }
}

/// Offsets of the cosines of each such set of patches, then the end.
pub(super) fn cosines(compared: &[usize]) -> Vec<usize> {
    let mut ends = vec![0];
    for n in compared {
        ends.push(ends[ends.len() - 1] + (n * n).next_multiple_of(LANES));
    }
    ends
}

impl Scratch {
    /// The layout for evidence of these widths; `None` where the selection needs no scratch.
    pub fn of(selecting: &Selecting, widths: Widths) -> Option<Self> {
        let (plan, program) = (&selecting.plan, selecting.program()?);
        let geometry = &plan.geometry;
        let (partitions, patches, valid) =
            (geometry.partitions(), geometry.patches(), geometry.valid());
        let (width, words, wide, scores) = match program {
            Program::Rank(_) => return None,
            Program::Contexts(_) => (widths.keys / widths.heads.max(1), 3 * valid, 0, 0),
            Program::Spread => (widths.projected, valid, 0, valid),
            Program::Cover { .. } => (widths.features, valid, valid, 0),
            Program::Merge { .. } => {
                (widths.keys, partitions, partitions * (patches + 1), partitions * patches)
            }
        };
        let compared = compared(plan);
        let units = compared.iter().sum::<usize>() * width;
        let cosines = cosines(&compared).last().copied().unwrap_or(0);
        let (word, number) = (size_of::<u32>(), size_of::<f32>());
        let parts = Parts::of([
            partitions * size_of::<abi::SelectPart>(),
            valid * word,
            partitions * size_of::<abi::SelectContext>(),
            2 * word,
            words * word,
            wide * size_of::<f64>(),
            scores * number,
            units * number,
            cosines * number,
        ]);
        Some(Self { parts, width })
    }

    /// Bytes of the region.
    pub fn bytes(&self) -> usize {
        self.parts.bytes()
    }

    /// Address of an array in a region at this address.
    pub(super) fn at<T>(&self, address: u64, part: Part) -> *mut T {
        (address + self.parts.offset(part as usize) as u64) as *mut T
    }

    /// The tables at the start of the region, which depend on the plan alone.
    pub fn tables(&self, plan: &Plan) -> Vec<u32> {
        let geometry = &plan.geometry;
        let word = |part: usize| self.parts.offset(part) / size_of::<u32>();
        let mut tables = vec![0; word(TABLES)];
        let mut put = |part: Part, words: Vec<u32>| {
            tables[word(part as usize)..][..words.len()].copy_from_slice(&words);
        };
        let counts: Vec<usize> = (0..geometry.partitions()).map(|i| geometry.valid_in(i)).collect();
        // A method that compares all patches together does not use the offsets by partition.
        let places = cosines(&counts);
        let mut parts = Vec::new();
        let mut first = 0;
        for (count, place) in counts.iter().zip(&places) {
            parts.extend([
                *place as u32,
                (*place as u64 >> 32) as u32,
                first as u32,
                *count as u32,
            ]);
            first += count;
        }
        put(Part::Partitions, parts);
        put(Part::Valid, plan.valid_rows().into_iter().map(|row| row as u32).collect());
        if let Some(Program::Contexts(shares)) = &plan.program {
            // Order of the rows after all kept patches: the full image's rows, then the class tokens of all sub-images,
            // then their contextual rows.
            let kept: usize = shares.iter().map(|share| share.dominant).sum();
            let classes = shares[1..].iter().filter(|share| share.class).count();
            let mut class_row = kept;
            let mut context_row = kept + usize::from(shares[0].class);
            let mut source = kept;
            let mut contexts = Vec::new();
            for (i, (share, count)) in shares.iter().zip(&counts).enumerate() {
                let class = if share.class { class_row as u32 } else { abi::HIRED_DROPPED };
                contexts.extend([share.contexts as u32, class, context_row as u32, source as u32]);
                class_row += usize::from(share.class);
                context_row += share.contexts;
                source += share.sources(*count);
                if i == 0 {
                    class_row = context_row;
                    context_row += classes;
                }
            }
            put(Part::Contexts, contexts);
            let all: usize = shares.iter().map(|share| share.added()).sum();
            put(Part::Added, vec![shares[0].added() as u32, all as u32]);
        }
        tables
    }
}
