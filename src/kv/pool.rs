//! A pool of pages: which are free, which sequences hold the others, and which prompt prefixes are cached.
//!
//! A page can be held by several sequences with a common prefix and by cached prefixes. Only full pages are shared,
//! so no sequence writes to a page that another one reads. Cached prefixes are evicted as soon as a sequence needs
//! the pages, the least recently used first.

use super::{PAGE, pages_for};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// The pages of a cache.
#[derive(Debug)]
pub struct Pool {
    free: Vec<u32>,
    /// For each page, the number of sequences and cached prefixes that hold it.
    holders: Vec<u32>,
    /// Cached prefixes, from the least to the most recently used.
    kept: Vec<Kept>,
    /// Largest number of pages in cached prefixes.
    most_kept: usize,
}

/// Identifies a cached, or formerly cached, prefix; unique over all pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning(u64);

impl Beginning {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Kept {
    name: Beginning,
    pages: Vec<u32>,
}

/// The pages of one sequence in order, and the number of their slots in use.
///
/// It must be returned with [`Pool::release`]; the pages of a dropped table are lost.
#[derive(Debug, Default)]
pub struct BlockTable {
    pages: Vec<u32>,
    len: usize,
}

impl Pool {
    /// A pool of `pages` free pages, without cached prefixes.
    pub fn new(pages: usize) -> Self {
        Self {
            free: (0..pages as u32).rev().collect(),
            holders: vec![0; pages],
            kept: Vec::new(),
            most_kept: 0,
        }
    }

    /// Number of all pages.
    pub fn pages(&self) -> usize {
        self.holders.len()
    }

    /// Pages available to a sequence: those that are not held, and those held by cached prefixes only.
    pub fn free(&self) -> usize {
        self.free.len() + self.idle()
    }

    /// Pages that are held by a cached prefix, but by no sequence.
    pub fn idle(&self) -> usize {
        let mut kept = vec![0; self.pages()];
        self.kept.iter().flat_map(|kept| &kept.pages).for_each(|&page| kept[page as usize] += 1);
        kept.iter().zip(&self.holders).filter(|&(&kept, &all)| kept > 0 && kept == all).count()
    }

    /// Sets how many pages may be cached; excess ones are evicted.
    pub fn keep_at_most(&mut self, pages: usize) {
        self.most_kept = pages;
        self.give_back(|pool| pool.kept_pages() <= pool.most_kept);
    }

    /// Reserves `tokens` more positions in `table`, which then count as used.
    ///
    /// # Errors
    /// [`Error::Capacity`] if too few pages are free; the table is then unchanged.
    pub fn append(&mut self, table: &mut BlockTable, tokens: usize) -> Result<()> {
        let wanted = pages_for(table.len + tokens) - table.pages.len();
        self.give_back(|pool| wanted <= pool.free.len());
        if wanted > self.free.len() {
            return Err(Error::Capacity(format!(
                "the cache has {} of {} pages of {PAGE} tokens free, {wanted} are needed: \
                 use a smaller budget, a shorter prompt or fewer images at a time",
                self.free.len(),
                self.pages(),
            )));
        }
        let first = table.pages.len();
        table.pages.extend(self.free.drain(self.free.len() - wanted..).rev());
        self.hold(&table.pages[first..]);
        table.len += tokens;
        Ok(())
    }

    /// Takes back all pages of a sequence.
    pub fn release(&mut self, table: BlockTable) {
        self.let_go(table.pages);
    }

    /// Caches the first `rows` of a sequence, which fill whole pages, beyond its end. `None` if that many cannot be
    /// cached.
    pub fn keep(&mut self, table: &BlockTable, rows: usize) -> Option<Beginning> {
        debug_assert!(rows.is_multiple_of(PAGE) && rows <= table.len);
        let pages = table.pages[..rows / PAGE].to_vec();
        if pages.is_empty() || pages.len() > self.most_kept {
            return None;
        }
        self.hold(&pages);
        let name = Beginning::new();
        self.kept.push(Kept { name, pages });
        self.give_back(|pool| pool.kept_pages() <= pool.most_kept);
        Some(name)
    }

    /// Returns true if that prefix is still cached.
    pub fn keeps(&self, name: Beginning) -> bool {
        self.kept.iter().any(|kept| kept.name == name)
    }

    /// Starts a sequence with the pages of a cached prefix, whose rows then count as used. Returns false if the
    /// prefix is no longer cached.
    pub fn reuse(&mut self, name: Beginning, table: &mut BlockTable) -> bool {
        debug_assert!(table.is_empty());
        let Some(place) = self.kept.iter().position(|kept| kept.name == name) else { return false };
        let kept = self.kept.remove(place);
        self.hold(&kept.pages);
        table.len = kept.pages.len() * PAGE;
        table.pages.clone_from(&kept.pages);
        self.kept.push(kept);
        true
    }

    /// Pages of all cached prefixes, each counted once.
    fn kept_pages(&self) -> usize {
        let mut is_kept = vec![false; self.pages()];
        self.kept
            .iter()
            .flat_map(|kept| &kept.pages)
            .for_each(|&page| is_kept[page as usize] = true);
        is_kept.into_iter().filter(|&is_kept| is_kept).count()
    }

    /// Evicts prefixes, the least recently used first, until `enough` returns true.
    fn give_back(&mut self, enough: impl Fn(&Self) -> bool) {
        while !self.kept.is_empty() && !enough(self) {
            // Evicting a prefix whose last page a sequence reads would free little.
            let is_idle = |kept: &Kept| {
                kept.pages.last().is_some_and(|&page| self.holders[page as usize] == 1)
            };
            let place = self.kept.iter().position(is_idle).unwrap_or(0);
            let kept = self.kept.remove(place);
            self.let_go(kept.pages);
        }
    }

    fn hold(&mut self, pages: &[u32]) {
        pages.iter().for_each(|&page| self.holders[page as usize] += 1);
    }

    fn let_go(&mut self, pages: Vec<u32>) {
        for page in pages.into_iter().rev() {
            let holders = &mut self.holders[page as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(page);
            }
        }
    }
}

impl BlockTable {
    /// Page numbers in order.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Number of slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn table(pool: &mut Pool, rows: usize) -> BlockTable {
        let mut table = BlockTable::default();
        pool.append(&mut table, rows).unwrap();
        table
    }

    #[test]
    fn beginnings_are_shared_and_given_back_before_anybody_must_wait() {
        let mut pool = Pool::new(6);
        let first = table(&mut pool, 3 * PAGE + 2);
        assert_eq!(pool.keep(&first, 2 * PAGE), None, "none may be kept");
        pool.keep_at_most(3);
        let name = pool.keep(&first, 2 * PAGE).unwrap();
        let mut second = BlockTable::default();
        assert!(pool.reuse(name, &mut second));
        // After the cache was allocated again, the pages hold other rows.
        let mut other = Pool::new(6);
        other.keep_at_most(3);
        let of_other = table(&mut other, PAGE);
        other.keep(&of_other, PAGE).unwrap();
        assert!(!other.keeps(name));
        assert_eq!((second.len(), second.pages()), (2 * PAGE, &first.pages()[..2]));
        // Further rows go to pages of its own.
        pool.append(&mut second, 1).unwrap();
        assert!(!first.pages().contains(&second.pages()[2]));
        assert_eq!((pool.free(), pool.idle()), (1, 0));
        pool.release(first);
        assert_eq!((pool.free(), pool.idle()), (3, 0), "the second still reads what is kept");
        pool.release(second);
        assert_eq!((pool.free(), pool.idle()), (6, 2));
        // All pages are available to a sequence that needs them.
        let all = table(&mut pool, 6 * PAGE);
        assert!(!pool.keeps(name) && !pool.reuse(name, &mut BlockTable::default()));
        pool.release(all);
        assert_eq!((pool.free(), pool.idle()), (6, 0));
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let mut pool = Pool::new(9);
        pool.keep_at_most(4);
        let kept: Vec<Beginning> = (0..2)
            .map(|_| {
                let table = table(&mut pool, 2 * PAGE);
                let name = pool.keep(&table, 2 * PAGE).unwrap();
                pool.release(table);
                name
            })
            .collect();
        let mut used = BlockTable::default();
        assert!(pool.reuse(kept[0], &mut used));
        pool.release(used);
        let longer = table(&mut pool, 3 * PAGE);
        // A prefix of a cached prefix needs no further pages.
        let [one, three] = [1, 3].map(|pages| pool.keep(&longer, pages * PAGE).unwrap());
        pool.release(longer);
        assert!(!pool.keeps(kept[1]) && !pool.keeps(kept[0]));
        assert!(pool.keeps(one) && pool.keeps(three));
        assert_eq!((pool.free(), pool.idle()), (9, 3));
        pool.keep_at_most(0);
        assert_eq!((pool.free(), pool.idle()), (9, 0));
    }
}
