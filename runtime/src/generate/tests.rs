//! The loop on an engine that counts: after token `n` comes `n + 1`.

use super::*;
use crate::detokenize::samples::BYTE_LEVEL;
use crate::sample::Sampling;

/// Gives token `n + 1` after `n`, modulo its vocabulary, and remembers what it was given.
struct Counting {
    given: Vec<Vec<u32>>,
    held: usize,
    context: usize,
    row: Vec<f32>,
}

const VOCAB: usize = 8;
const STEP_TOKENS: usize = 2;

impl Counting {
    fn new(context: usize) -> Self {
        Self { given: Vec::new(), held: 0, context, row: vec![0.0; VOCAB] }
    }
}

impl Engine for Counting {
    fn vocab(&self) -> usize {
        VOCAB
    }
    fn context(&self) -> usize {
        self.context
    }
    fn len(&self) -> usize {
        self.held
    }
    fn step_tokens(&self) -> usize {
        STEP_TOKENS
    }
    fn step(&mut self, ids: &[u32], want: Want) -> Result<&[f32]> {
        check_step(ids, VOCAB, self.held, self.context)?;
        self.given.push(ids.to_vec());
        self.held += ids.len();
        self.row.fill(0.0);
        self.row[(ids[ids.len() - 1] as usize + 1) % VOCAB] = 1.0;
        Ok(if want == Want::None { &[] } else { &self.row })
    }
    fn truncate(&mut self, len: usize) -> Result<()> {
        self.held = len;
        Ok(())
    }
}

/// The outcome, the text and what the engine was given.
fn run(context: usize, request: &Request<'_>) -> (Result<Outcome>, String, Vec<Vec<u32>>) {
    let tokenizer = Tokenizer::from_json(BYTE_LEVEL.as_bytes(), None, None, VOCAB as u32).expect("a tokenizer");
    let mut sampler = Sampler::new(Sampling::greedy()).expect("a sampler");
    let mut engine = Counting::new(context);
    let mut text = String::new();
    let outcome = generate(&mut engine, Some(&tokenizer), &mut sampler, request, &mut |event| {
        if let Event::Text(piece) = event {
            assert!(!piece.is_empty());
            text.push_str(piece);
        }
        ControlFlow::Continue(())
    });
    (outcome, text, engine.given)
}

#[test]
fn the_prompt_goes_in_pieces_and_tokens_one_by_one() {
    let request = Request { max_tokens: 3, ..Request::new(&[7, 0, 7, 0, 0]) };
    let (outcome, text, given) = run(100, &request);
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.as_slice(), outcome.stop), (&[1, 2, 3][..], StopReason::MaxTokens));
    assert_eq!(text, "ab ");
    assert_eq!(given, [vec![7, 0], vec![7, 0], vec![0], vec![1], vec![2]]);
    assert_eq!((outcome.stats.prompt_toks, outcome.stats.generated_toks), (5, 3));
    let first = outcome.stats.first_token.expect("a first token");
    assert!(outcome.stats.prefill <= first);
}

#[test]
fn the_token_that_ends_the_text_is_counted_and_not_shown() {
    let (outcome, text, _) = run(100, &Request { eos: &[5, 2], ..Request::new(&[0]) });
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.as_slice(), outcome.stop), (&[1, 2][..], StopReason::Eos));
    assert_eq!(text, "a");
}

#[test]
fn stop_strings_are_not_shown() {
    let stop = ["b €".to_string()];
    let (outcome, text, _) = run(100, &Request { stop: &stop, ..Request::new(&[0]) });
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.len(), outcome.stop), (6, StopReason::StopString));
    assert_eq!(text, "a");
}

#[test]
fn held_back_text_comes_at_the_end() {
    let stop = ["b €x".to_string()];
    let (outcome, text, _) = run(100, &Request { stop: &stop, max_tokens: 5, ..Request::new(&[0]) });
    assert_eq!(outcome.expect("an outcome").stop, StopReason::MaxTokens);
    // The euro sign has two of its three bytes.
    assert_eq!(text, "ab \u{fffd}");
}

#[test]
fn a_full_context_stops_after_one_token_more() {
    let (outcome, text, given) = run(3, &Request::new(&[7, 0]));
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.as_slice(), outcome.stop), (&[1, 2][..], StopReason::ContextFull));
    assert_eq!((text.as_str(), given.len()), ("ab", 2));
    let (outcome, _, _) = run(2, &Request::new(&[7, 0]));
    assert_eq!(outcome.expect("an outcome").ids, [1]);
}

#[test]
fn impossible_requests_compute_nothing() {
    let long = [0; 4];
    let empty = [String::new()];
    let cases = [
        (Request::new(&[]), "empty"),
        (Request::new(&[0, 8]), "token id 8 at index 1"),
        (Request::new(&long), "the context holds"),
        (Request { stop: &empty, ..Request::new(&[0]) }, "stop string 0 is empty"),
    ];
    for (request, message) in cases {
        let (outcome, text, given) = run(3, &request);
        let e = outcome.expect_err("an impossible request");
        assert!(e.to_string().contains(message), "{e}");
        assert!(text.is_empty() && given.is_empty());
    }
}

#[test]
fn flags_and_receivers_can_stop_it() {
    let flag = AtomicBool::new(true);
    let (outcome, _, given) = run(9, &Request { interrupt: Some(&flag), ..Request::new(&[0, 0, 0]) });
    assert_eq!(outcome.expect("an outcome").stop, StopReason::Interrupted);
    assert!(given.is_empty());

    let mut engine = Counting::new(9);
    let mut sampler = Sampler::new(Sampling::greedy()).expect("a sampler");
    let flag = AtomicBool::new(false);
    let request = Request { interrupt: Some(&flag), ..Request::new(&[0]) };
    let outcome = generate(&mut engine, None, &mut sampler, &request, &mut |event| {
        flag.store(event == Event::Token(3), Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.as_slice(), outcome.stop), (&[1, 2, 3][..], StopReason::Interrupted));

    let request = Request::new(&[3]);
    let outcome = generate(&mut engine, None, &mut sampler, &request, &mut |_| ControlFlow::Break(()));
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.as_slice(), outcome.stop), (&[4][..], StopReason::Cancelled));
}

#[test]
fn no_tokens_asked_for_none_given() {
    let (outcome, text, _) = run(9, &Request { max_tokens: 0, ..Request::new(&[0]) });
    let outcome = outcome.expect("an outcome");
    assert_eq!((outcome.ids.len(), outcome.stop, outcome.stats.first_token), (0, StopReason::MaxTokens, None));
    assert!(text.is_empty());
}

#[test]
fn stop_strings_need_text() {
    let mut sampler = Sampler::new(Sampling::greedy()).expect("a sampler");
    let stop = ["x".to_string()];
    let request = Request { stop: &stop, ..Request::new(&[0]) };
    let outcome = generate(&mut Counting::new(9), None, &mut sampler, &request, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(outcome, Err(Error::StopWithoutTokenizer)));
}

/// Gives the same logits after every token, all of them or the largest, and counts its steps.
struct Flat {
    row: Vec<f32>,
    held: usize,
    of_all: usize,
    of_largest: usize,
}

impl Engine for Flat {
    fn vocab(&self) -> usize {
        self.row.len()
    }
    fn context(&self) -> usize {
        1000
    }
    fn len(&self) -> usize {
        self.held
    }
    fn step_tokens(&self) -> usize {
        STEP_TOKENS
    }
    fn step(&mut self, ids: &[u32], _: Want) -> Result<&[f32]> {
        self.held += ids.len();
        self.of_all += 1;
        Ok(&self.row)
    }
    fn step_top_k_into(&mut self, ids: &[u32], k: u32, top: &mut Vec<(u32, f32)>) -> Result<()> {
        self.held += ids.len();
        self.of_largest += 1;
        *top = (0..).zip(self.row.iter().copied()).collect();
        top.sort_by(crate::engine::by_rank);
        top.truncate(k as usize);
        Ok(())
    }
    fn truncate(&mut self, len: usize) -> Result<()> {
        self.held = len;
        Ok(())
    }
}

#[test]
fn only_what_the_sampling_needs_is_asked_for() {
    let steep: Vec<f32> = (0..200).map(|i| -0.5 * i as f32).collect();
    let flat = vec![0.0; 200];
    let hot = Sampling { temperature: 1.0, ..Sampling::greedy() };
    for (row, sampling, of_largest, of_all) in [
        (&steep, Sampling::greedy(), 5, 0),
        (&flat, Sampling::greedy(), 5, 0),
        (&steep, Sampling { top_k: 3, ..hot }, 5, 0),
        (&steep, Sampling { min_p: 0.05, ..hot }, 5, 0),
        // They do not decide once: from then on all are taken.
        (&flat, Sampling { min_p: 0.05, ..hot }, 1, 5),
        (&steep, hot, 0, 5),
    ] {
        let mut engine = Flat { row: row.clone(), held: 0, of_all: 0, of_largest: 0 };
        let mut sampler = Sampler::new(sampling).expect("a sampler");
        let request = Request { max_tokens: 5, ..Request::new(&[0, 1]) };
        let outcome = generate(&mut engine, None, &mut sampler, &request, &mut |_| ControlFlow::Continue(()));
        assert_eq!(outcome.expect("an outcome").ids.len(), 5);
        assert_eq!((engine.of_largest, engine.of_all, engine.held), (of_largest, of_all, 6), "{sampling:?}");
    }
}

#[test]
fn the_penalty_sees_what_the_engine_holds() {
    // After 0 comes 1, unless that was there already and a penalty makes it nothing.
    let next = |before: &[u32]| {
        let mut sampler = Sampler::new(Sampling { repeat_penalty: 100.0, ..Sampling::greedy() }).expect("a sampler");
        let mut engine = Falling { held: before.len() };
        let request = Request { before, max_tokens: 1, ..Request::new(&[0]) };
        generate(&mut engine, None, &mut sampler, &request, &mut |_| ControlFlow::Continue(())).expect("a token").ids
    };
    assert_eq!(next(&[]), [1]);
    assert_eq!(next(&[1, 3]), [2]);
}

/// Every token has a smaller logit than the one before it, but for the first, whatever came.
struct Falling {
    held: usize,
}

impl Engine for Falling {
    fn vocab(&self) -> usize {
        4
    }
    fn context(&self) -> usize {
        100
    }
    fn len(&self) -> usize {
        self.held
    }
    fn step_tokens(&self) -> usize {
        STEP_TOKENS
    }
    fn step(&mut self, ids: &[u32], want: Want) -> Result<&[f32]> {
        self.held += ids.len();
        Ok(if want == Want::None { &[] } else { &[-1.0, 3.0, 2.0, 1.0] })
    }
    fn truncate(&mut self, len: usize) -> Result<()> {
        self.held = len;
        Ok(())
    }
}
