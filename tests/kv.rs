//! The page pool under random use: no page is lost, none is held twice.

use hired::kv::{BlockTable, PAGE, Pool, pages_for};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Step {
    Admit(usize),
    Append(usize, usize),
    Free(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..80).prop_map(Step::Admit),
        (any::<usize>(), 1usize..40).prop_map(|(which, tokens)| Step::Append(which, tokens)),
        any::<usize>().prop_map(Step::Free),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_admit_append_and_free_leaks_a_page(
        pages in 0usize..40,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut pool = Pool::new(pages);
        let mut live: Vec<(BlockTable, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Admit(tokens) => {
                    let mut table = BlockTable::default();
                    let free = pool.free();
                    match pool.append(&mut table, tokens) {
                        Ok(()) => live.push((table, tokens)),
                        Err(_) => {
                            prop_assert!(pages_for(tokens) > free);
                            prop_assert_eq!(pool.free(), free);
                        }
                    }
                }
                Step::Append(which, tokens) if !live.is_empty() => {
                    let which = which % live.len();
                    let (table, len) = &mut live[which];
                    if pool.append(table, tokens).is_ok() {
                        *len += tokens;
                    }
                }
                Step::Free(which) if !live.is_empty() => {
                    let (table, _) = live.swap_remove(which % live.len());
                    pool.release(table);
                }
                _ => {}
            }
            let mut held = BTreeSet::new();
            for (table, len) in &live {
                prop_assert_eq!(table.len(), *len);
                prop_assert_eq!(table.pages().len(), len.div_ceil(PAGE));
                for &page in table.pages() {
                    prop_assert!((page as usize) < pages, "page {} of {}", page, pages);
                    prop_assert!(held.insert(page), "page {} is held twice", page);
                }
            }
            prop_assert_eq!(held.len() + pool.free(), pages);
        }
        for (table, _) in live {
            pool.release(table);
        }
        prop_assert_eq!(pool.free(), pages);
    }
}
