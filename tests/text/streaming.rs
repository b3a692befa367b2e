//! Incremental detokenisation against the whole text.

use hired::text::Detokenizer;
use proptest::prelude::*;

use super::{golden_tokenizers, stream};

#[test]
fn text_is_streamed_as_soon_as_it_is_certain() {
    for (name, tokenizer) in golden_tokenizers() {
        let ids = tokenizer.encode("the two pictures\n🗼 show a house", true).unwrap();
        let steps = stream(tokenizer, &ids);
        assert_eq!(*steps.last().unwrap(), tokenizer.decode(&ids).unwrap(), "{name}");
        if name.starts_with("wordpiece") || name.contains("forced") {
            assert_eq!(steps[ids.len() - 1], "", "{name}: nothing is certain before the end");
            continue;
        }
        // The words end in ordinary tokens: no text may be held back before the first byte token, nor at the end.
        assert_eq!(steps[ids.len() - 1], steps[ids.len()], "{name}");
        for n in 1..4 {
            assert_eq!(steps[n - 1], tokenizer.decode(&ids[..n]).unwrap(), "{name}");
        }
    }
}

#[test]
fn streaming_costs_the_same_for_every_token() {
    for (name, tokenizer) in golden_tokenizers() {
        let byte = tokenizer.token_id("<0xF0>").or(tokenizer.token_id("ð")).unwrap_or(5);
        let word = tokenizer.encode("house", false).unwrap()[0];
        let ids: Vec<u32> = (0..200_000).map(|i| if i < 100_000 { byte } else { word }).collect();
        let start = std::time::Instant::now();
        let mut detokenizer = Detokenizer::new(tokenizer);
        let mut said = String::new();
        for &id in &ids {
            said += &detokenizer.push(id).unwrap();
        }
        said += &detokenizer.finish().unwrap();
        assert!(said == tokenizer.decode(&ids).unwrap(), "{name}");
        // Decoding the whole again for each token would take minutes.
        assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Half of the ids are bytes or special tokens; some are unknown.
    #[test]
    fn pieces_join_to_the_whole(raw in prop::collection::vec((any::<bool>(), 0u32..700), 0..60), valid in ".{0,8}") {
        for (name, tokenizer) in golden_tokenizers() {
            let size = tokenizer.vocab_size() as u32 + 4;
            let mut ids: Vec<u32> = raw.iter().map(|&(any, id)| if any { id % size } else { id % 262 }).collect();
            ids.splice(ids.len() / 2..ids.len() / 2, tokenizer.encode(&valid, false).unwrap());
            let steps = stream(tokenizer, &ids);
            let whole = tokenizer.decode(&ids).unwrap();
            prop_assert_eq!(steps.last().unwrap(), &whole, "{}: {:?}", name, &ids);
            for step in &steps {
                prop_assert!(whole.starts_with(step.as_str()), "{}: {:?}", name, &ids);
            }
        }
    }
}
