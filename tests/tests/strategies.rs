//! Every strategy, alone and with every other: the same bits as the interpreter, on 1 to 3 threads and on more than have
//! scratch memory; and what a choice under a memory budget promises.

use tern_compiler::egraph::products::products;
use tern_compiler::graph::Strategy;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::pipeline::{self, Lowered, Options};
use tern_compiler::strategy::Slot;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, options_for, session, targets};
use tern_tests::synth::{Kind, Spec};

/// relu2 in the middle, so that zeros can be skipped; two blocks, K that no tile divides.
fn model() -> Loaded {
    model_of(false)
}

fn model_of(repeat_rows: bool) -> Loaded {
    let spec = Spec {
        vocab: 43,
        hidden: 100,
        intermediate: 150,
        heads: 2,
        kv_heads: 1,
        head_dim: 50,
        repeat_rows,
        ..Spec::small(Kind::BitNetPacked)
    };
    Loaded::new("strategies", &spec.checkpoint().expect("a checkpoint"))
}

/// How many products of the optimised graph have the strategy in the slot.
fn count(lowered: &Lowered, slot: Slot, strategy: Strategy) -> usize {
    let all = products(&lowered.optimised, &lowered.facts);
    all.iter().filter(|chosen| chosen.strategies[slot as usize] == strategy).count()
}

fn check(loaded: &Loaded, options: &Options, ids: &[u32], threads: &[usize]) -> Lowered {
    let (lowered, model) = loaded.compile(options);
    let want = loaded.interpret(&lowered.compiled, options.profile, InterpKv::F32, ids);
    for &threads in threads {
        for chunk in [1, 3, ids.len()] {
            let found = logits_in_chunks(&mut session(&model, threads, KvType::F32), ids, chunk);
            let what = format!("{} {:?} threads {threads} chunk {chunk}", options.isa.name(), options.only);
            assert_same_bits(&want, &found, &what);
        }
    }
    lowered
}

#[test]
fn every_strategy_on_every_target() {
    let loaded = model();
    let ids: Vec<u32> = (0..37).map(|i| i * 7 % 43).collect();
    for target in targets().into_iter().filter(|(_, profile, _)| *profile == Profile::Plain) {
        let free = options_for(target);
        let offers =
            pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &free).expect("it lowers").costs.offers;
        for (slot, all) in Slot::ALL.into_iter().zip([&offers.decode, &offers.prefill]) {
            for &strategy in all {
                let mut options = free.clone();
                options.only[slot as usize] = Some(strategy);
                let lowered = check(&loaded, &options, &ids, &[2]);
                let has = count(&lowered, slot, strategy);
                // Nothing of this model repeats, and it has zeros.
                let is_missing = matches!(strategy, Strategy::Dup | Strategy::Dot1 | Strategy::Lut1);
                assert_eq!(has > 0, !is_missing, "{target:?}: {} {}", slot.name(), strategy.name());
            }
        }
    }
}

#[test]
fn every_pair_of_strategies() {
    let loaded = model();
    let ids: Vec<u32> = (0..37).map(|i| i * 5 % 43).collect();
    let free = options(native(), Profile::Plain);
    let offers =
        pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &free).expect("it lowers").costs.offers;
    for &one in &offers.decode {
        for &many in &offers.prefill {
            let options = Options { only: [Some(one), Some(many)], ..free.clone() };
            check(&loaded, &options, &ids, &[1, 3]);
        }
    }
}

/// Repeats need a model that has some.
#[test]
fn repeated_rows_are_computed_once() {
    let loaded = model_of(true);
    let ids: Vec<u32> = (0..37).map(|i| i * 7 % 43).collect();
    for target in targets().into_iter().filter(|(_, profile, _)| *profile == Profile::Plain) {
        let free = options_for(target);
        for only in [[Some(Strategy::Dup); 2], [Some(Strategy::Dup), Some(Strategy::Dot2)]] {
            let options = Options { only, ..free.clone() };
            let lowered = check(&loaded, &options, &ids, &[2, 70]);
            assert!(count(&lowered, Slot::Decode, Strategy::Dup) > 0, "{target:?}");
        }
    }
}

#[test]
fn strategies_that_prepare_something_run_on_more_threads_than_have_memory_for_it() {
    let loaded = model();
    let ids: Vec<u32> = (0..9).map(|i| i * 3 % 43).collect();
    for (one, many) in
        [(Strategy::Lut, Strategy::Lut), (Strategy::ColSkip, Strategy::ColSkip), (Strategy::AddSub, Strategy::AddSub)]
    {
        let options = Options { only: [Some(one), Some(many)], ..options(native(), Profile::Plain) };
        check(&loaded, &options, &ids, &[70]);
    }
}

#[test]
fn a_budget_is_kept_and_costs_time_only_where_it_must() {
    let loaded = model();
    let lower = |memory_bytes| {
        let options = Options { memory_bytes, ..options(native(), Profile::Plain) };
        pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options)
    };
    let time = |lowered: &Lowered| -> u64 {
        let one = |chosen: &tern_compiler::egraph::products::Chosen| {
            lowered.costs.session_ps(chosen.strategies, &chosen.product)
        };
        products(&lowered.optimised, &lowered.facts).iter().map(one).sum()
    };
    let plenty = lower(Some(1 << 30)).expect("it fits");
    let Err(pipeline::Error::Memory { least_bytes, rest_bytes, .. }) = lower(Some(1)) else {
        panic!("nothing fits into a byte")
    };
    assert!(rest_bytes < least_bytes && least_bytes <= plenty.schedule.weights.bytes);
    let mut last = u64::MAX;
    for step in 0..=4 {
        let budget = least_bytes + (plenty.schedule.weights.bytes - least_bytes) * step / 4;
        let lowered = lower(Some(budget)).expect("it fits");
        assert!(lowered.schedule.weights.bytes <= budget, "{} of {budget}", lowered.schedule.weights.bytes);
        let now = time(&lowered);
        assert!(now <= last, "{budget} bytes take {now} ps, fewer took {last}");
        last = now;
    }
    assert_eq!(last, time(&plenty));
    assert!(time(&plenty) <= time(&lower(None).expect("it lowers")));
}
