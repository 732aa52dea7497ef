//! The largest logits that compiled code selects are the first of all logits, sorted.

use std::sync::Arc;

use tern_compiler::graph::arith::Profile;
use tern_runtime::engine::{Engine, Want};
use tern_runtime::error::Error;
use tern_runtime::kv::KvType;
use tern_runtime::model::Model;
use tern_tests::engines::{Loaded, native, options, session};
use tern_tests::golden::Golden;

/// A fixture, compiled for steps of 5 tokens, and ids for it.
fn compiled(name: &str) -> (Arc<Model>, Vec<u32>) {
    let mut options = options(native(), Profile::Plain);
    options.max_step_tokens = 5;
    let (_, model) = Loaded::fixture(name).compile(&options);
    (model, Golden::read(&tern_tests::fixtures::golden(name)).long_input_ids)
}

/// Ids with the bits of their logits, largest first, of equals the lowest id.
fn sorted(logits: &[f32]) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    bits(&all)
}

fn bits(pairs: &[(u32, f32)]) -> Vec<(u32, u32)> {
    pairs.iter().map(|(id, logit)| (*id, logit.to_bits())).collect()
}

#[test]
fn the_largest_are_the_first_of_all_sorted() {
    for name in ["bitnet-packed", "llama-bitlinear"] {
        let (model, ids) = compiled(name);
        let vocab = model.info().vocab;
        let mut all = session(&model, 2, KvType::F32);
        for threads in [1, 3] {
            let mut top = session(&model, threads, KvType::F32);
            // One token, a whole step, more than one step.
            for n in [1, 5, 13] {
                all.truncate(0).expect("forgetting works");
                let want = sorted(all.step(&ids[..n], Want::Last).expect("the ids fit"));
                for k in [1, 2, 7, vocab] {
                    top.truncate(0).expect("forgetting works");
                    let found = top.step_top_k(&ids[..n], k).expect("the ids fit");
                    assert_eq!(bits(&found), want[..k as usize], "{name} {threads} threads {n} tokens k {k}");
                    assert_eq!(top.len(), n);
                }
            }
        }
    }
}

#[test]
fn it_mixes_with_other_steps() {
    let (model, ids) = compiled("bitnet-packed");
    let (mut one, mut other) = (session(&model, 2, KvType::F16), session(&model, 2, KvType::F16));
    one.prefill(&ids[..3]).expect("the ids fit");
    let found = one.step_top_k(&ids[3..7], 4).expect("the ids fit");
    assert_eq!(bits(&found), sorted(other.step(&ids[..7], Want::Last).expect("the ids fit"))[..4]);
    // The buffer that held ids and values holds rows again.
    let row = one.step(&ids[7..9], Want::Last).expect("the ids fit").to_vec();
    assert_eq!(row, other.step(&ids[7..9], Want::Last).expect("the ids fit"));
}

#[test]
fn impossible_counts_are_refused() {
    let (model, ids) = compiled("bitnet-packed");
    let vocab = model.info().vocab;
    let mut session = session(&model, 2, KvType::F32);
    for k in [0, vocab + 1, 4097, u32::MAX] {
        let e = session.step_top_k(&ids, k).expect_err("no such count");
        assert!(matches!(e, Error::BadTopK { asked, max } if asked == k && max == vocab), "{e}");
    }
    assert!(matches!(session.step_top_k(&[], 1), Err(Error::EmptyPrompt)));
    assert!(matches!(session.step_top_k(&[vocab], 1), Err(Error::TokenOutOfVocab { .. })));
    assert!(session.is_empty());
}
