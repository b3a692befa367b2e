//! Pages: which are free, who holds the others, and which beginnings of prompts are kept for those that come later.
//!
//! A page may be held by several sequences that begin alike, and by beginnings that are kept. Only full pages are shared,
//! so nobody writes into a page that somebody else reads. What is kept is given back as soon as a sequence needs the
//! pages, the beginning that was not used for the longest time first.

use super::{PAGE, pages_for};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// The pages of a cache.
#[derive(Debug)]
pub struct Pool {
    free: Vec<u32>,
    /// Of each page: how many sequences and kept beginnings hold it.
    holders: Vec<u32>,
    /// In the order of their last use.
    kept: Vec<Kept>,
    /// Pages that may be kept at most.
    most_kept: usize,
}

/// Names a beginning that is kept, or was. No other has its name, in no other pool.
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

/// The pages of one sequence in order, and how many of their slots are in use.
///
/// Must go back to its pool by [`Pool::release`]; a dropped table loses its pages.
#[derive(Debug, Default)]
pub struct BlockTable {
    pages: Vec<u32>,
    len: usize,
}

impl Pool {
    /// A pool in which all `pages` are free, and no beginning is kept.
    pub fn new(pages: usize) -> Self {
        Self {
            free: (0..pages as u32).rev().collect(),
            holders: vec![0; pages],
            kept: Vec::new(),
            most_kept: 0,
        }
    }

    /// Pages in all.
    pub fn pages(&self) -> usize {
        self.holders.len()
    }

    /// Pages that a sequence can have: those that nobody holds, and those that are only kept.
    pub fn free(&self) -> usize {
        self.free.len() + self.idle()
    }

    /// Pages that no sequence holds, but a kept beginning.
    pub fn idle(&self) -> usize {
        let mut kept = vec![0; self.pages()];
        self.kept.iter().flat_map(|kept| &kept.pages).for_each(|&page| kept[page as usize] += 1);
        kept.iter().zip(&self.holders).filter(|&(&kept, &all)| kept > 0 && kept == all).count()
    }

    /// How many pages may be kept; those beyond are given back.
    pub fn keep_at_most(&mut self, pages: usize) {
        self.most_kept = pages;
        self.give_back(|pool| pool.kept_pages() <= pool.most_kept);
    }

    /// Makes room for `tokens` more positions of `table`, which then count as used.
    ///
    /// # Errors
    /// [`Error::Capacity`] when too few pages are free; the table is then unchanged.
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

    /// Takes all pages of a sequence back.
    pub fn release(&mut self, table: BlockTable) {
        self.let_go(table.pages);
    }

    /// Keeps the first `rows` of a sequence, which fill whole pages, when the sequence has ended; `None` where so many are
    /// not kept.
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

    /// Whether that beginning is still kept.
    pub fn keeps(&self, name: Beginning) -> bool {
        self.kept.iter().any(|kept| kept.name == name)
    }

    /// Begins a sequence with the pages of a beginning; its rows then count as used. Tells whether it is still kept.
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

    /// Pages of all that is kept, each counted once.
    fn kept_pages(&self) -> usize {
        let mut is_kept = vec![false; self.pages()];
        self.kept
            .iter()
            .flat_map(|kept| &kept.pages)
            .for_each(|&page| is_kept[page as usize] = true);
        is_kept.into_iter().filter(|&is_kept| is_kept).count()
    }

    /// Gives up beginnings, the one that was not used for the longest time first, until it is enough.
    fn give_back(&mut self, enough: impl Fn(&Self) -> bool) {
        while !self.kept.is_empty() && !enough(self) {
            // One whose last page a sequence reads would free little.
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
        // Where the cache was taken anew, the pages have other rows.
        let mut other = Pool::new(6);
        other.keep_at_most(3);
        let of_other = table(&mut other, PAGE);
        other.keep(&of_other, PAGE).unwrap();
        assert!(!other.keeps(name));
        assert_eq!((second.len(), second.pages()), (2 * PAGE, &first.pages()[..2]));
        // What follows is its own.
        pool.append(&mut second, 1).unwrap();
        assert!(!first.pages().contains(&second.pages()[2]));
        assert_eq!((pool.free(), pool.idle()), (1, 0));
        pool.release(first);
        assert_eq!((pool.free(), pool.idle()), (3, 0), "the second still reads what is kept");
        pool.release(second);
        assert_eq!((pool.free(), pool.idle()), (6, 2));
        // All pages are there for whoever needs them.
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
        // A beginning of a beginning takes no more than the longer one.
        let [one, three] = [1, 3].map(|pages| pool.keep(&longer, pages * PAGE).unwrap());
        pool.release(longer);
        assert!(!pool.keeps(kept[1]) && !pool.keeps(kept[0]));
        assert!(pool.keeps(one) && pool.keeps(three));
        assert_eq!((pool.free(), pool.idle()), (9, 3));
        pool.keep_at_most(0);
        assert_eq!((pool.free(), pool.idle()), (9, 0));
    }
}
