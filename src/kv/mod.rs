//! Pages of keys and values: who holds which, and where a row lies.
//!
//! A cache is one array `[layer][page][k|v][kv_head][slot][head_dim]` that the executor owns, of all layers or of a
//! group of them ([`Room`]). This module only hands out page numbers: a sequence has a block table, and row `t` of it
//! lies in slot `t % PAGE` of page `table[t / PAGE]`, in every layer of the cache.

mod groups;
mod pool;

pub use groups::{Count, Pools, Room, Tables};
pub use pool::{Beginning, BlockTable, Pool};

use crate::config::TextConfig;

/// Positions in a page.
pub const PAGE: usize = 16;

/// Pages that hold `tokens` positions.
pub fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE)
}

/// Shape of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Decoder blocks.
    pub layers: usize,
    /// Pages, shared by all layers.
    pub pages: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl Shape {
    /// The cache of a decoder.
    pub fn new(config: &TextConfig, pages: usize) -> Self {
        let TextConfig { layers, kv_heads, head_dim, .. } = *config;
        Self { layers, pages, kv_heads, head_dim }
    }

    /// Numbers in one page of one layer, keys and values.
    pub fn page_elements(&self) -> usize {
        2 * self.kv_heads * PAGE * self.head_dim
    }

    /// Numbers in the whole cache.
    pub fn elements(&self) -> usize {
        self.layers * self.pages * self.page_elements()
    }

    /// Index of the first number of (`layer`, `page`, keys or values, `kv_head`): `PAGE × head_dim` follow.
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
