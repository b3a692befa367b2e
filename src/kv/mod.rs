//! Pages of keys and values: who holds which, and where a row lies.
//!
//! A cache is one array `[layer][page][k|v][kv_head][slot][head_dim]` that the executor owns, of all layers or of a
//! group of them ([`Room`]). This module only hands out page numbers: a sequence has a block table, and row `t` of it
//! lies in slot `t % PAGE` of page `table[t / PAGE]`, in every layer of the cache.

mod groups;

pub use groups::{Pools, Room, Tables};

use crate::config::TextConfig;
use crate::{Error, Result};

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

/// The free pages of a cache.
#[derive(Debug)]
pub struct Pool {
    free: Vec<u32>,
    pages: usize,
}

/// The pages of one sequence in order, and how many of their slots are in use.
///
/// Must go back to its pool by [`Pool::release`]; a dropped table loses its pages.
#[derive(Debug, Default)]
pub struct BlockTable {
    pages: Vec<u32>,
    len: usize,
}

impl Pool {
    /// A pool in which all `pages` are free.
    pub fn new(pages: usize) -> Self {
        Self { free: (0..pages as u32).rev().collect(), pages }
    }

    /// Pages in all.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Pages that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Makes room for `tokens` more positions of `table`, which then count as used.
    ///
    /// # Errors
    /// [`Error::Capacity`] when too few pages are free; the table is then unchanged.
    pub fn append(&mut self, table: &mut BlockTable, tokens: usize) -> Result<()> {
        let wanted = pages_for(table.len + tokens) - table.pages.len();
        if wanted > self.free.len() {
            return Err(Error::Capacity(format!(
                "the cache has {} of {} pages of {PAGE} tokens free, {wanted} are needed: \
                 use a smaller budget, a shorter prompt or fewer images at a time",
                self.free.len(),
                self.pages,
            )));
        }
        table.pages.extend(self.free.drain(self.free.len() - wanted..).rev());
        table.len += tokens;
        Ok(())
    }

    /// Takes all pages of a sequence back.
    pub fn release(&mut self, table: BlockTable) {
        self.free.extend(table.pages.into_iter().rev());
    }
}

impl BlockTable {
    /// Page numbers in order.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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

    #[test]
    fn append_takes_a_page_only_when_the_last_is_full() {
        let mut pool = Pool::new(3);
        let mut table = BlockTable::default();
        pool.append(&mut table, PAGE).unwrap();
        assert_eq!((table.pages().len(), pool.free()), (1, 2));
        pool.append(&mut table, 1).unwrap();
        assert_eq!((table.pages().len(), table.len()), (2, PAGE + 1));
        let error = pool.append(&mut table, 2 * PAGE).unwrap_err().to_string();
        assert!(error.contains("1 of 3 pages"), "{error}");
        assert_eq!(table.len(), PAGE + 1);
        pool.release(table);
        assert_eq!(pool.free(), 3);
    }
}
