//! How the next token is chosen: the user's word, else that of the model's makers, else the likeliest token.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tern_runtime::sample::{GenerationDefaults, Sampling};

use crate::Usage;
use crate::args::SamplingArgs;

/// Refuses options that mean nothing. What the user gives goes over the makers' word, so it is wrong by itself.
pub fn check(args: &SamplingArgs) -> Result<()> {
    let asked = sampling(args, &GenerationDefaults::default());
    asked.check().map_err(|e| Usage(e.to_string()).into())
}

/// The sampling that the user asked for; what is left open is as the model's makers sample, if they do, else greedy.
pub fn sampling(args: &SamplingArgs, defaults: &GenerationDefaults) -> Sampling {
    let greedy = Sampling::greedy();
    let makers = match defaults.do_sample {
        Some(true) => Sampling {
            temperature: defaults.temperature.unwrap_or(1.0),
            top_k: defaults.top_k.unwrap_or(greedy.top_k),
            top_p: defaults.top_p.unwrap_or(greedy.top_p),
            min_p: defaults.min_p.unwrap_or(greedy.min_p),
            repeat_penalty: defaults.repetition_penalty.unwrap_or(greedy.repeat_penalty),
            ..greedy
        },
        Some(false) | None => greedy,
    };
    Sampling {
        temperature: args.temp.unwrap_or(makers.temperature),
        top_k: args.top_k.unwrap_or(makers.top_k),
        top_p: args.top_p.unwrap_or(makers.top_p),
        min_p: args.min_p.unwrap_or(makers.min_p),
        repeat_penalty: args.repeat_penalty.unwrap_or(makers.repeat_penalty),
        repeat_last_n: makers.repeat_last_n,
        seed: args.seed.unwrap_or_else(seed_from_clock),
    }
}

/// A seed that differs from run to run and is short enough to type again.
fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makers() -> GenerationDefaults {
        GenerationDefaults { do_sample: Some(true), temperature: Some(0.8), top_k: Some(40), ..Default::default() }
    }

    #[test]
    fn the_makers_sampling_is_the_default_if_they_sample() {
        let found = sampling(&SamplingArgs::default(), &makers());
        assert_eq!((found.temperature, found.top_k, found.top_p), (0.8, 40, 1.0));
        let silent = GenerationDefaults { do_sample: None, ..makers() };
        let found = sampling(&SamplingArgs::default(), &silent);
        assert_eq!((found.temperature, found.top_k), (0.0, 0));
        let bare = GenerationDefaults { do_sample: Some(true), ..Default::default() };
        assert_eq!(sampling(&SamplingArgs::default(), &bare).temperature, 1.0);
    }

    #[test]
    fn options_go_first() {
        let args = SamplingArgs { temp: Some(0.0), top_p: Some(0.5), seed: Some(9), ..Default::default() };
        let found = sampling(&args, &makers());
        assert_eq!((found.temperature, found.top_k, found.top_p, found.seed), (0.0, 40, 0.5, 9));
    }
}
