//! Paged key/value cache: page allocation and the layout of a cache.
//!
//! A cache is one array `[layer][page][k|v][kv_head][slot][head_dim]` that the executor owns, for all layers or for a
//! group of them ([`Room`]). This module only manages page numbers: each sequence has a block table, and its row `t`
//! is in slot `t % PAGE` of page `table[t / PAGE]`, in every layer of the cache.

mod groups;
mod pool;

pub use groups::{Count, Pools, Room, Tables};
pub use pool::{Beginning, BlockTable, Pool};

use crate::config::TextConfig;

/// Positions per page.
pub const PAGE: usize = 16;

/// Number of pages for `tokens` positions.
pub fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE)
}

/// Shape of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Decoder layers.
    pub layers: usize,
    /// Pages, shared by all layers.
    pub pages: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
}

impl Shape {
    /// The cache shape of a decoder.
    pub fn new(config: &TextConfig, pages: usize) -> Self {
        let TextConfig { layers, kv_heads, head_dim, .. } = *config;
        Self { layers, pages, kv_heads, head_dim }
    }

    /// Elements in one page of one layer, keys and values.
    pub fn page_elements(&self) -> usize {
        2 * self.kv_heads * PAGE * self.head_dim
    }

    /// Elements in the whole cache.
    pub fn elements(&self) -> usize {
        self.layers * self.pages * self.page_elements()
    }

    /// Index of the first element of (`layer`, `page`, keys or values, `kv_head`); `PAGE × head_dim` elements follow.
    pub fn offset(&self, layer: usize, page: usize, values: bool, kv_head: usize) -> usize {
        let half = self.kv_heads * PAGE * self.head_dim;
        (layer * self.pages + page) * 2 * half
            + usize::from(values) * half
            + kv_head * PAGE * self.head_dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_tile_the_cache() {
        let shape = Shape { layers: 2, pages: 3, kv_heads: 2, head_dim: 4 };
        let mut next = 0;
        for layer in 0..2 {
            for page in 0..3 {
                for values in [false, true] {
                    for head in 0..2 {
                        assert_eq!(shape.offset(layer, page, values, head), next);
                        next += PAGE * 4;
                    }
                }
            }
        }
        assert_eq!(next, shape.elements());
    }
}
