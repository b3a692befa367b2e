//! The order in which kept tokens enter the decoder.

use super::{Kept, Mix, Plan};
use crate::image::Packing;

/// One image row of the decoder's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The projected features of a patch.
    Patch {
        /// The partition; 0 is the full image.
        partition: usize,
        /// Index of the patch in the partition, row by row.
        patch: u32,
    },
    /// The learned row separator `image_newline`.
    Newline,
    /// The additional row with this index in [`super::Mix::added`].
    Merged(usize),
}

/// The image rows in order: the kept patches of the full image row by row, then those of the whole canvas row by row,
/// so that sub-images next to each other interleave. Row separators, if used, end every valid canvas row, even one
/// without kept patches. Additional rows follow what they belong to: those of the full image follow its patches, all
/// others follow the canvas. Independent tiles ([`Packing::Tiles`]) come one after the other, each row by row, with
/// the full image last.
pub fn order(plan: &Plan, kept: &Kept) -> Vec<Slot> {
    let geometry = &plan.geometry;
    let mut is_kept = vec![vec![false; geometry.patches()]; geometry.partitions()];
    for (marks, indices) in is_kept.iter_mut().zip(&kept.indices) {
        for &patch in indices {
            marks[patch as usize] = true;
        }
    }
    let slot = |(partition, patch): (usize, usize)| {
        is_kept[partition][patch].then_some(Slot::Patch { partition, patch: patch as u32 })
    };

    let added = kept.mix.as_ref().map_or(&[][..], Mix::added);
    let of_full_image = added.iter().take_while(|&&partition| partition == 0).count();
    let mut slots = Vec::with_capacity(kept.count() + added.len() + plan.newlines);
    let whole = |partition: usize| (0..geometry.patches()).map(move |patch| (partition, patch));
    if geometry.packing() == Packing::Tiles {
        // Only methods without additional rows support these models.
        slots.extend((1..geometry.partitions()).chain([0]).flat_map(whole).filter_map(slot));
        return slots;
    }
    slots.extend(whole(0).filter_map(slot));
    slots.extend((0..of_full_image).map(Slot::Merged));
    for row in geometry.rows() {
        slots.extend(geometry.cols().filter_map(|col| slot(geometry.locate(row, col))));
        if plan.newlines > 0 {
            slots.push(Slot::Newline);
        }
    }
    slots.extend((of_full_image..added.len()).map(Slot::Merged));
    slots
}
