//! Layers whose sequences are not equally long: a cache, a pool and a block table for each group of them.
//!
//! Where a prompt loses rows on its way, the later layers have keys and values of fewer rows than the earlier ones, and
//! take memory for no more. As long as nothing is dropped in the decoder, all layers are one group.

use super::{Beginning, BlockTable, Pool, Shape};
use crate::Result;
use crate::config::TextConfig;

/// Pages of a decoder's caches: one cache for each group of consecutive layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// First layer of each group, ascending from 0, and its pages.
    groups: Vec<(usize, usize)>,
}

impl Room {
    /// Groups that begin at these layers, ascending from 0, with as many pages as `pages` says of each.
    pub fn new(
        firsts: impl IntoIterator<Item = usize>,
        mut pages: impl FnMut(usize) -> usize,
    ) -> Self {
        Self { groups: firsts.into_iter().map(|first| (first, pages(first))).collect() }
    }

    /// One group of all layers.
    pub fn whole(pages: usize) -> Self {
        Self::new([0], |_| pages)
    }

    /// The same groups, with other pages each.
    pub fn with(&self, mut pages: impl FnMut(usize) -> usize) -> Self {
        Self { groups: self.groups.iter().map(|&(first, now)| (first, pages(now))).collect() }
    }

    /// The first layer of each group.
    pub fn firsts(&self) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().map(|&(first, _)| first)
    }

    /// The pages of each group.
    pub fn pages(&self) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().map(|&(_, pages)| pages)
    }

    /// Whether there is place here for what takes `wanted`: the same groups, and no more pages.
    pub fn holds(&self, wanted: &Self) -> bool {
        self.firsts().eq(wanted.firsts())
            && self.pages().zip(wanted.pages()).all(|(have, want)| have >= want)
    }

    /// The caches of a decoder.
    pub fn shapes(&self, config: &TextConfig) -> Vec<Shape> {
        let ends = self.firsts().skip(1).chain([config.layers]);
        let groups = self.groups.iter().zip(ends);
        groups
            .map(|(&(first, pages), end)| Shape {
                layers: end - first,
                ..Shape::new(config, pages)
            })
            .collect()
    }
}

/// The free pages of each group.
#[derive(Debug, Default)]
pub struct Pools(Vec<Pool>);

/// How pages are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that no sequence holds.
    pub free: usize,
    /// Those of them that are kept for sequences that begin like an earlier one.
    pub kept: usize,
    /// All.
    pub all: usize,
}

/// The pages of one sequence in each group.
///
/// Must go back to its pools by [`Pools::release`]; dropped tables lose their pages.
#[derive(Debug, Default)]
pub struct Tables(Vec<BlockTable>);

impl Pools {
    /// Pools in which all pages are free.
    pub fn new(room: &Room) -> Self {
        Self(room.pages().map(Pool::new).collect())
    }

    /// Tables of a new sequence.
    pub fn tables(&self) -> Tables {
        Tables(self.0.iter().map(|_| BlockTable::default()).collect())
    }

    /// Makes room for so many more rows in each group, counted from 0.
    ///
    /// # Errors
    /// [`crate::Error::Capacity`] when too few pages are free; groups before that have the rows.
    pub fn append(&mut self, tables: &mut Tables, rows: impl Fn(usize) -> usize) -> Result<()> {
        let both = self.0.iter_mut().zip(&mut tables.0).enumerate();
        both.into_iter().try_for_each(|(group, (pool, table))| pool.append(table, rows(group)))
    }

    /// Takes all pages of a sequence back.
    pub fn release(&mut self, tables: Tables) {
        self.0.iter_mut().zip(tables.0).for_each(|(pool, table)| pool.release(table));
    }

    /// Pages of the first group.
    pub fn count(&self) -> Count {
        self.0.first().map_or(Count::default(), |pool| Count {
            free: pool.free(),
            kept: pool.idle(),
            all: pool.pages(),
        })
    }

    /// How many pages of beginnings may be kept. None are where layers have seen different rows.
    pub fn keep_at_most(&mut self, pages: usize) {
        if let [pool] = &mut self.0[..] {
            pool.keep_at_most(pages);
        }
    }

    /// As [`Pool::keep`].
    pub fn keep(&mut self, tables: &Tables, rows: usize) -> Option<Beginning> {
        match (&mut self.0[..], &tables.0[..]) {
            ([pool], [table]) => pool.keep(table, rows),
            _ => None,
        }
    }

    /// As [`Pool::keeps`].
    pub fn keeps(&self, name: Beginning) -> bool {
        self.0.iter().any(|pool| pool.keeps(name))
    }

    /// As [`Pool::reuse`].
    pub fn reuse(&mut self, name: Beginning, tables: &mut Tables) -> bool {
        match (&mut self.0[..], &mut tables.0[..]) {
            ([pool], [table]) => pool.reuse(name, table),
            _ => false,
        }
    }

    /// No sequence holds a page.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(|pool| pool.free() == pool.pages())
    }
}

impl Tables {
    /// The table of each group.
    pub fn iter(&self) -> impl Iterator<Item = &BlockTable> {
        self.0.iter()
    }

    /// Rows of the sequence, also of those that later groups have not seen: the first group sees all.
    pub fn positions(&self) -> usize {
        self.0.first().map_or(0, BlockTable::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::synth::Preset;
    use crate::kv::PAGE;

    #[test]
    fn groups_tile_the_layers() {
        let config = Preset::Tiny.config().unwrap().text;
        let layers = |room: &Room| -> Vec<_> {
            room.shapes(&config).iter().map(|s| (s.layers, s.pages)).collect()
        };
        assert_eq!(layers(&Room::whole(7)), [(config.layers, 7)]);
        let cut = Room::new([0, 1], |first| 9 - 4 * first);
        assert_eq!(layers(&cut), [(1, 9), (config.layers - 1, 5)]);
        assert!(cut.holds(&cut) && cut.holds(&cut.with(|pages| pages - 1)));
        assert!(!cut.holds(&Room::whole(1)) && !Room::whole(9).holds(&cut));
        assert!(!cut.holds(&Room::new([0, 1], |_| 6)));
    }

    #[test]
    fn a_sequence_is_as_long_as_its_first_group() {
        let mut pools = Pools::new(&Room::new([0, 2], |_| 4));
        let mut tables = pools.tables();
        pools.append(&mut tables, |group| [3 * PAGE, 5][group]).unwrap();
        pools.append(&mut tables, |_| 1).unwrap();
        assert_eq!(tables.positions(), 3 * PAGE + 1);
        assert_eq!(tables.iter().map(BlockTable::len).collect::<Vec<_>>(), [3 * PAGE + 1, 6]);
        assert_eq!(tables.iter().map(|t| t.pages().len()).collect::<Vec<_>>(), [4, 1]);
        assert!(pools.append(&mut tables, |_| PAGE).is_err() && !pools.is_whole());
        pools.release(tables);
        assert!(pools.is_whole());
    }
}
