//! Cache of encoded images.

use crate::engine::prepare::PreparedImage;
use crate::model::vit::Layers;
use crate::ops::Saved;
use crate::select::{Kept, Plan};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::Arc;

/// Cache key of an image: everything that determines its rows in the decoder. For methods that also look at the
/// prompt, the rows before that choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// SHA-256 of the pixels that the vision tower sees, and of their layout.
    content: [u8; 32],
    plan: Plan,
    layers: Layers,
    /// An earlier image in the prompt has a number of kept rows that is only known during the computation. Products
    /// then use other shapes, so the bits may differ.
    after_inexact: bool,
}

impl Sight {
    pub fn of(image: &PreparedImage, after_inexact: bool) -> Self {
        let (tiles, layout) = (&image.tiles, &image.tiles.layout);
        let mut hash = Sha256::new();
        let (rows, columns) = layout.grid.unwrap_or((0, 0));
        let numbers =
            [layout.width, layout.height, layout.side, rows, columns, layout.fit.0, layout.fit.1];
        numbers.iter().for_each(|&number| hash.update((number as u64).to_le_bytes()));
        hash.update(&tiles.pixels);
        let (plan, layers) = (image.plan.clone(), image.layers);
        Self { content: hash.finalize().into(), plan, layers, after_inexact }
    }
}

/// An encoded image.
#[derive(Debug)]
pub struct Picture {
    sight: Sight,
    /// `[rows, hidden]`, projected.
    pub rows: Saved,
    /// The patches that the rows belong to.
    pub kept: Kept,
}

impl Picture {
    pub fn new(sight: Sight, rows: Saved, kept: Kept) -> Self {
        Self { sight, rows, kept }
    }

    /// Bytes of the parts whose size depends on the image.
    fn bytes(&self) -> usize {
        let mixed = self.kept.mix.as_ref().map_or(0, |mix| mix.sources());
        self.rows.bytes() + size_of::<u32>() * (self.kept.count() + 2 * mixed) + size_of::<Self>()
    }
}

/// Encoded images, up to a limit of bytes.
#[derive(Debug, Default)]
pub struct Pictures {
    /// From the least to the most recently used.
    all: VecDeque<Arc<Picture>>,
    bytes: usize,
    most: usize,
}

impl Pictures {
    /// A cache of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Returns true if the cache stores anything.
    pub fn takes(&self) -> bool {
        self.most > 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn find(&mut self, sight: &Sight) -> Option<Arc<Picture>> {
        let place = self.all.iter().position(|picture| picture.sight == *sight)?;
        let picture = self.all.remove(place)?;
        self.all.push_back(picture.clone());
        Some(picture)
    }

    /// Stores an image and evicts the least recently used ones beyond the limit.
    pub fn keep(&mut self, picture: Picture) {
        if picture.bytes() > self.most || self.find(&picture.sight).is_some() {
            return;
        }
        self.bytes += picture.bytes();
        self.all.push_back(Arc::new(picture));
        while self.bytes > self.most
            && let Some(oldest) = self.all.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}
