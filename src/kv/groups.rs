//! Groups of layers with sequences of equal length: a cache, a pool and a block table per group.
//!
//! If rows of a prompt are dropped inside the decoder, later layers store keys and values of fewer rows than earlier
//! ones, and only need memory for those. As long as nothing is dropped in the decoder, all layers form one group.

use super::{Beginning, BlockTable, Pool, Shape};
use crate::Result;
use crate::config::TextConfig;

/// The sizes of a decoder's caches: one cache per group of consecutive layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// First layer of each group, ascending from 0, and its number of pages.
    groups: Vec<(usize, usize)>,
}

impl Room {
    /// Groups that begin at these layers, ascending from 0, with the number of pages that `pages` returns for each.
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

    /// The same groups with other numbers of pages.
    pub fn with(&self, mut pages: impl FnMut(usize) -> usize) -> Self {
        Self { groups: self.groups.iter().map(|&(first, now)| (first, pages(now))).collect() }
    }

    /// The first layer of each group.
    pub fn firsts(&self) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().map(|&(first, _)| first)
    }

    /// The number of pages of each group.
    pub fn pages(&self) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().map(|&(_, pages)| pages)
    }

    /// Returns true if caches of this size can serve `wanted`: the same groups, and at least as many pages.
    pub fn holds(&self, wanted: &Self) -> bool {
        self.firsts().eq(wanted.firsts())
            && self.pages().zip(wanted.pages()).all(|(have, want)| have >= want)
    }

    /// The shapes of the decoder's caches.
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

/// The page pools of all groups.
#[derive(Debug, Default)]
pub struct Pools(Vec<Pool>);

/// The use of the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Pages that no sequence holds.
    pub free: usize,
    /// Free pages that hold a cached prefix.
    pub kept: usize,
    /// All pages.
    pub all: usize,
}

/// The block tables of one sequence, one per group.
///
/// They must be returned with [`Pools::release`]; the pages of dropped tables are lost.
#[derive(Debug, Default)]
pub struct Tables(Vec<BlockTable>);

impl Pools {
    /// Pools in which all pages are free.
    pub fn new(room: &Room) -> Self {
        Self(room.pages().map(Pool::new).collect())
    }

    /// Block tables of a new sequence.
    pub fn tables(&self) -> Tables {
        Tables(self.0.iter().map(|_| BlockTable::default()).collect())
    }

    /// Reserves `rows(group)` more rows in each group.
    ///
    /// # Errors
    /// [`crate::Error::Capacity`] if too few pages are free; earlier groups then already have their rows.
    pub fn append(&mut self, tables: &mut Tables, rows: impl Fn(usize) -> usize) -> Result<()> {
        let both = self.0.iter_mut().zip(&mut tables.0).enumerate();
        both.into_iter().try_for_each(|(group, (pool, table))| pool.append(table, rows(group)))
    }

    /// Takes back all pages of a sequence.
    pub fn release(&mut self, tables: Tables) {
        self.0.iter_mut().zip(tables.0).for_each(|(pool, table)| pool.release(table));
    }

    /// The use of the first group's pages.
    pub fn count(&self) -> Count {
        self.0.first().map_or(Count::default(), |pool| Count {
            free: pool.free(),
            kept: pool.idle(),
            all: pool.pages(),
        })
    }

    /// Sets how many pages may hold cached prefixes. If layers have different rows, none are cached.
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

    /// Returns true if no sequence holds a page.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(|pool| pool.free() == pool.pages())
    }
}

impl Tables {
    /// The block table of each group.
    pub fn iter(&self) -> impl Iterator<Item = &BlockTable> {
        self.0.iter()
    }

    /// Rows of the sequence, including those that later groups do not have: the first group has all.
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
