//! Dropping inside the language model.

use super::{Geometry, Method, Selection};

/// What the decoder drops (FastV: Chen et al., "An image is worth 1/2 tokens after layer 2: plug-and-play inference
/// acceleration for large vision-language models", ECCV 2024).
///
/// The first layers see every visual row. Then those stay that the prompt's last token attends to most in the last of
/// these layers, the mean over heads of its attention weights; ties go to the earlier row. Newline rows take part as the
/// patches do, as in the published code, which ranks every row of the image. What stays keeps its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Layers that see every row: the paper's K, of which layer K − 1 counted from 0 decides and layer K is the first to
    /// see fewer.
    pub layer: usize,
    /// How many visual rows stay, fewer than there are.
    pub rows: usize,
}

impl Late {
    /// What `selection` drops of the valid patches and so many newlines when `budget` rows may stay.
    pub(super) fn of(
        selection: &Selection,
        geometry: &Geometry,
        newlines: usize,
        budget: usize,
    ) -> Option<Self> {
        let drops = selection.method == Method::FastV && budget < geometry.valid() + newlines;
        drops.then_some(Self { layer: selection.fastv_layer, rows: budget })
    }
}
