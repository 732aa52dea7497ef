//! The checker of schedules: it accepts what the planner makes of every model here, and rejects each way to break it.

use tern_compiler::pipeline;
use tern_compiler::schedule::check::check;
use tern_compiler::schedule::packing::Layout;
use tern_compiler::schedule::{self, CoarseHead, HeadMode, Schedule, buffers};
use tern_tests::engines::{Loaded, native, options};
use tern_tests::fixtures::CHECKPOINTS;
use tern_tests::synth::{Kind, Spec};

/// Models of every kind, and shapes with a single head, layer and row, and odd sizes.
fn models() -> Vec<Loaded> {
    let mut models: Vec<Loaded> = CHECKPOINTS.iter().chain(&["tern-demo"]).map(|name| Loaded::fixture(name)).collect();
    for kind in Kind::ALL {
        let small = Spec::small(kind);
        let one = Spec {
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            hidden: 3,
            intermediate: 1,
            vocab: 2,
            ..small.clone()
        };
        let specs =
            [Spec { input_norms: true, ..small.clone() }, Spec { tied: !small.tied, ..small.clone() }, one, small];
        for (i, spec) in specs.iter().enumerate() {
            let checkpoint = spec.checkpoint().unwrap_or_else(|e| panic!("{kind:?} {i}: {e}"));
            models.push(Loaded::new(&format!("{kind:?} {i}"), &checkpoint));
        }
    }
    models
}

/// The schedules of `loaded` with and without the optimiser.
fn schedules(loaded: &Loaded, max_step_tokens: u32) -> [Schedule; 2] {
    schedules_with(loaded, max_step_tokens, HeadMode::Auto)
}

fn schedules_with(loaded: &Loaded, max_step_tokens: u32, head: HeadMode) -> [Schedule; 2] {
    let isa = native();
    let settings = options(isa, isa.default_profile());
    let target = settings.target().expect("a target of this machine");
    let lowered = pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &settings);
    let lowered = lowered.unwrap_or_else(|e| panic!("{}: {e}", loaded.name));
    let options = schedule::Options {
        max_step_tokens,
        ternary: target.ternary(),
        head,
        variants: schedule::Variants::new(),
        proofs: lowered.proofs,
    };
    [&lowered.compiled, &lowered.optimised]
        .map(|graph| schedule::schedule(graph, &options).unwrap_or_else(|e| panic!("{}: {e}", loaded.name)))
}

#[test]
fn every_model_has_a_sound_schedule() {
    for loaded in models() {
        for max_step_tokens in [1, 7, 128] {
            for schedule in schedules(&loaded, max_step_tokens) {
                check(&schedule).unwrap_or_else(|e| panic!("{}: {e}", loaded.name));
                assert_eq!(schedule.vocab, loaded.imported.facts.vocab, "{}", loaded.name);
                assert_eq!(schedule.max_step_tokens, max_step_tokens);
            }
        }
    }
}

#[test]
fn the_arena_reuses_memory() {
    for loaded in models() {
        for schedule in schedules(&loaded, 128) {
            let all: u64 = schedule.buffers.iter().map(|buffer| buffer.bytes).sum();
            let live = buffers::liveness(&schedule.buffers, &schedule.phases);
            // What lives in the fullest phase must fit; twice that is wasteful.
            let fullest = (0..schedule.phases.len()).map(|phase| {
                let here =
                    live.iter().zip(&schedule.buffers).filter(|((first, last), _)| (first..=last).contains(&&phase));
                here.map(|(_, buffer)| buffer.bytes).sum::<u64>()
            });
            let fullest = fullest.max().unwrap_or(0);
            let arena = schedule.arena_bytes;
            assert!(fullest <= arena && arena <= all.min(2 * fullest), "{}: {fullest} {arena} {all}", loaded.name);
        }
    }
}

/// Schedules to break: both forms of a BitNet and of a Llama model.
fn victims() -> Vec<Schedule> {
    [Kind::BitNetPacked, Kind::LlamaBitLinear]
        .into_iter()
        .flat_map(|kind| {
            let checkpoint = Spec::small(kind).checkpoint().expect("a synthetic checkpoint");
            schedules(&Loaded::new("victim", &checkpoint), 7)
        })
        .collect()
}

/// Breaks a copy; the checker must name one of `invariants`.
#[track_caller]
fn rejected(schedule: &Schedule, invariants: &[&str], what: &str, mutate: impl FnOnce(&mut Schedule)) {
    let mut broken = schedule.clone();
    mutate(&mut broken);
    assert!(broken != *schedule, "{what}: nothing changed");
    let error = check(&broken).expect_err(what).to_string();
    assert!(invariants.iter().any(|k| error.contains(&format!("{k}: "))), "{what}: {error}");
}

#[test]
fn buffers_that_live_at_once_may_not_overlap() {
    for schedule in victims() {
        let live = buffers::liveness(&schedule.buffers, &schedule.phases);
        let mut pairs = 0;
        for a in 0..live.len() {
            for b in 0..live.len() {
                if a != b && live[a].0 <= live[b].1 && live[b].0 <= live[a].1 {
                    pairs += 1;
                    rejected(&schedule, &["K1", "K2", "K3"], &format!("buffer {a} onto {b}"), |s| {
                        s.buffers[a].offset = s.buffers[b].offset;
                        s.arena_bytes += s.buffers[a].bytes;
                    });
                }
            }
        }
        assert!(pairs > 10, "only {pairs} pairs");
    }
}

#[test]
fn phases_may_not_change_places() {
    for schedule in victims() {
        for phase in 1..schedule.phases.len() {
            rejected(&schedule, &["K1", "K2", "K5"], &format!("phases {} and {phase}", phase - 1), |s| {
                s.phases.swap(phase - 1, phase);
            });
        }
    }
}

#[test]
fn no_call_may_come_a_phase_earlier() {
    for schedule in victims() {
        for phase in 1..schedule.phases.len() {
            for call in 0..schedule.phases[phase].calls.len() {
                let node = schedule.phases[phase].calls[call].node.0;
                // The parts of one node wait for the same values, so one part alone tells the same.
                rejected(&schedule, &["K1", "K2", "K5", "K8"], &format!("%{node} of phase {phase}"), |s| {
                    let moved = s.phases[phase].calls.remove(call);
                    s.phases[phase - 1].calls.push(moved);
                });
            }
        }
    }
}

#[test]
fn threads_work_alone_only_on_rows_of_their_own() {
    let mut alone = 0;
    for schedule in victims() {
        for phase in 0..schedule.phases.len() {
            alone += usize::from(schedule.phases[phase].alone);
            if !schedule.phases[phase].alone {
                rejected(&schedule, &["K8"], &format!("phase {phase} alone"), |s| s.phases[phase].alone = true);
            }
        }
        for buffer in 0..schedule.buffers.len() {
            rejected(&schedule, &["K8"], &format!("buffer {buffer}"), |s| s.buffers[buffer].own_rows ^= true);
        }
    }
    assert!(alone > 4 * 4, "only {alone} phases");
}

#[test]
fn the_coarse_copy_is_that_of_the_head() {
    let checkpoint =
        Spec { tied: false, ..Spec::small(Kind::BitNetPacked) }.checkpoint().expect("a synthetic checkpoint");
    for schedule in schedules_with(&Loaded::new("coarse", &checkpoint), 7, HeadMode::Coarse) {
        check(&schedule).expect("a sound schedule");
        let head = schedule.coarse_head.expect("a coarse copy");
        let copy = schedule.weights.placed.iter().position(|p| p.offset == head.offset).expect("its place");
        let with = |what: &str, change: &dyn Fn(&mut CoarseHead)| {
            rejected(&schedule, &["K7"], what, |s| change(s.coarse_head.as_mut().expect("a coarse copy")));
        };
        with("fewer rows", &|head| head.rows -= 1);
        with("longer rows", &|head| head.cols += 16);
        with("another weight", &|head| head.offset = 0);
        rejected(&schedule, &["K7"], "another vocabulary", |s| s.vocab += 1);
        rejected(&schedule, &["K7"], "a copy of another matrix", |s| {
            let Layout::Coarse { weight, .. } = &mut s.weights.placed[copy].layout else { panic!("a coarse layout") };
            weight.0 -= 1;
        });
    }
}

#[test]
fn no_call_may_be_missing() {
    for schedule in victims() {
        for phase in 0..schedule.phases.len() {
            for call in 0..schedule.phases[phase].calls.len() {
                let dropped = &schedule.phases[phase].calls[call];
                // The last one writes the caller's logits, which no call reads.
                if phase + 1 == schedule.phases.len() {
                    assert_eq!(dropped.writes, None);
                    continue;
                }
                rejected(&schedule, &["K1", "K5"], &format!("without %{}", dropped.node.0), |s| {
                    s.phases[phase].calls.remove(call);
                });
            }
        }
    }
}

#[test]
fn buffers_lie_in_the_arena_and_aligned() {
    for schedule in victims() {
        for buffer in 0..schedule.buffers.len() {
            rejected(&schedule, &["K3"], "askew", |s| s.buffers[buffer].offset += 32);
            rejected(&schedule, &["K3"], "outside", |s| s.buffers[buffer].offset = s.arena_bytes);
        }
        rejected(&schedule, &["K3"], "a short arena", |s| s.arena_bytes -= 64);
    }
}

#[test]
fn weights_may_not_overlap() {
    for schedule in victims() {
        for weight in 1..schedule.weights.placed.len() {
            rejected(&schedule, &["K4"], "onto the one before", |s| {
                s.weights.placed[weight].offset = s.weights.placed[weight - 1].offset;
            });
            rejected(&schedule, &["K4"], "askew", |s| s.weights.placed[weight].offset += 4);
        }
        rejected(&schedule, &["K4"], "a short block", |s| s.weights.bytes -= 64);
    }
}

#[test]
fn a_cache_is_written_before_it_is_read() {
    for schedule in victims() {
        let written = |s: &Schedule| {
            let is_write = |call: &schedule::Call| call.writes.is_none() && call.reads.len() == 2;
            s.phases.iter().position(|phase| phase.calls.iter().any(is_write))
        };
        let phase = written(&schedule).expect("a step writes its cache");
        rejected(&schedule, &["K5"], "written twice", |s| {
            let write =
                s.phases[phase].calls.iter().find(|call| call.writes.is_none() && call.reads.len() == 2).cloned();
            s.phases[phase].calls.extend(write);
        });
    }
}

#[test]
fn calls_say_what_they_read_and_write() {
    for schedule in victims() {
        let mut silent = 0;
        for phase in 0..schedule.phases.len() {
            for call in 0..schedule.phases[phase].calls.len() {
                let what = format!("%{} of phase {phase}", schedule.phases[phase].calls[call].node.0);
                if schedule.phases[phase].calls[call].reads.is_empty() {
                    continue;
                }
                rejected(&schedule, &["K6"], &what, |s| s.phases[phase].calls[call].reads.clear());
                silent += 1;
            }
        }
        assert!(silent > 5, "only {silent} calls read");
    }
}
